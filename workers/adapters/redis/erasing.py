"""The port `Trails`: every journal is looked at, in pages of SCAN; nothing blocks the server for long."""

import base64
import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from api_contracts import keys, names
from api_contracts.chat import CallReserved
from api_contracts.client.scripts import BLOBS
from api_contracts.runs import Event
from workers.adapters.redis.connection import mapped
from workers.ports import Trail, Whose

_PAGE: Final = 500
_EVENTS: Final = 1000
_LETTERS: Final = 200
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{40,}")


class RedisTrails:
    """See the port. For one Redis; on a cluster each of its servers is scanned by itself."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def find(self, whose: Whose) -> AsyncIterator[list[Trail]]:
        """See the port."""
        cursor = 0
        while True:
            with mapped():
                cursor, found = await self._redis.scan(cursor, match=keys.EVERY_JOURNAL, count=_PAGE)
            run_ids = [run_id for key in found if (run_id := keys.run_of(_text(key))) is not None]
            if page := await self._of(whose, run_ids):
                yield page
            if not cursor:
                return

    async def standing(self, run_ids: Sequence[str]) -> list[Trail]:
        """See the port."""
        with mapped():
            pipe = self._redis.pipeline(transaction=False)
            for run_id in run_ids:
                pipe.hmget(keys.lease(run_id), "seq", "announced")
            replies = await pipe.execute(raise_on_error=False) if run_ids else []
        # A key of another type is a stranger's: no worker goes on with such a run.
        told = [(None, None) if isinstance(reply, Exception) else reply for reply in replies]
        return [Trail(run_id, said == b"1") for run_id, (seq, said) in zip(run_ids, told, strict=True) if seq]

    async def erase(self, run_ids: Sequence[str]) -> int:
        """See the port."""
        gone = 0
        for run_id in run_ids:
            with mapped():
                calls = [task_id async for task_id in self._calls(run_id)]
                pipe = self._redis.pipeline(transaction=False)
                for key in _keys_of(run_id, calls):
                    pipe.delete(key)
                indexes = (keys.due(run_id[-1]), *(keys.waiting(run_id[-1], queue) for queue in names.QUEUES))
                for index in indexes:
                    pipe.zrem(index, run_id)
                gone += sum(reply for reply in await pipe.execute() if isinstance(reply, int))
        return gone

    async def erase_letters(self, whose: Whose, run_ids: Sequence[str]) -> int:
        """See the port."""
        words = [*run_ids, *_words(whose)]
        gone, start = 0, 0
        while True:
            with mapped():
                page: Any = await self._redis.lrange(keys.DEAD_LETTERS, start, start + _LETTERS - 1)
                named = [entry for entry in page if _names_one(entry, words)]
                for entry in named:
                    gone += await self._redis.lrem(keys.DEAD_LETTERS, 1, entry)
            if len(page) < _LETTERS:
                return gone
            start += len(page) - len(named)

    async def _of(self, whose: Whose, run_ids: Sequence[str]) -> list[Trail]:
        with mapped():
            pipe = self._redis.pipeline(transaction=False)
            for run_id in run_ids:
                pipe.xrange(keys.events(run_id), count=1)
            first = await pipe.execute(raise_on_error=False) if run_ids else []
        mine = [run_id for run_id, entries in zip(run_ids, first, strict=True) if _is_of(whose, entries)]
        over = {trail.run_id: trail.over for trail in await self.standing(mine)}
        return [Trail(run_id, over.get(run_id, True)) for run_id in mine]

    async def _calls(self, run_id: str) -> AsyncIterator[str]:
        """Yield the tasks of a run's tool calls, which guards go by."""
        after = "-"
        while page := await self._redis.xrange(keys.events(run_id), min=after, count=_EVENTS):
            for entry_id, fields in page:
                event = Event.from_entry(entry_id, fields)
                if event and event.type == CallReserved.TYPE and isinstance(event.data.get("task_id"), str):
                    yield event.data["task_id"]
            after = f"({_text(page[-1][0])}"


def _keys_of(run_id: str, task_ids: Iterable[str]) -> list[str]:
    of_run = [keys.events(run_id), keys.inbox(run_id), keys.audio(run_id), keys.lease(run_id)]
    of_run += [keys.blob(run_id, number) for number in BLOBS]
    return [*of_run, keys.celery_result(run_id), *(keys.guard(task_id) for task_id in task_ids)]


def _is_of(whose: Whose, entries: Any) -> bool:
    event = Event.from_entry(*entries[0]) if isinstance(entries, list) and entries else None
    if event is None or event.data.get("tenant", "default") != whose.tenant:
        return False
    return whose.conversation is None or event.data.get("conversation") == whose.conversation


def _words(whose: Whose) -> list[str]:
    """Return how a message's JSON names what is erased, in both spellings that libraries have."""
    field, value = ("tenant", whose.tenant) if whose.conversation is None else ("conversation", whose.conversation)
    said = [f'"{field}"{gap}{json.dumps(value)}' for gap in (":", ": ")]
    return said if whose.conversation is None else [*said, f'"id": "{value}"', f'"id":"{value}"']


def _names_one(entry: Any, words: Sequence[str]) -> bool:
    """Whether a dead letter names one of them, wherever: in what it says, or in the body, as text or as base64."""
    try:
        said = str(json.loads(entry)["entry"])
    except (ValueError, KeyError, TypeError):
        said = _text(entry)
    texts = [said, said.replace('\\"', '"'), *_bodies(said)]
    return any(word in text for word in words for text in texts)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _bodies(said: str) -> list[str]:
    found = _BASE64.findall(said)
    return [base64.b64decode(body[: len(body) // 4 * 4]).decode(errors="replace") for body in found]
