"""What a run's incoming streams say: its inbox, its audio. Anyone may write there, so nothing is trusted."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import structlog
from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.client.scripts import ScriptCall
from workers.adapters.redis.connection import converse, mapped
from workers.adapters.redis.gone import Entry, Fields
from workers.adapters.redis.reader import StreamReader
from workers.adapters.redis.scripts import HOLD, run_all
from workers.core.stt.timeline import order_of
from workers.ports import AudioEntry, Letter
from workers.settings import DAY_S

_log = structlog.get_logger(__name__)


class RedisInbox:
    """`Inbox` on the process's reader; `redis` is any client of the same server."""

    def __init__(self, reader: StreamReader, redis: Redis) -> None:
        self._reader = reader
        self._redis = redis

    def watch(self, run_id: str, after: str, deliver: Callable[[Letter], None]) -> Callable[[], None]:
        """See the port."""

        def take(entry_id: str, fields: Fields) -> None:
            if letter := letter_of(entry_id, fields):
                deliver(letter)

        return self._reader.watch(keys.inbox(run_id), after, take)

    async def backlog(self, run_id: str, after: str) -> list[Letter]:
        """See the port."""
        with mapped():
            entries = await self._redis.xrange(keys.inbox(run_id), min="-" if after == "0" else f"({after}")
        letters = [letter_of(entry_id.decode(), fields) for entry_id, fields in cast("list[Entry]", entries or [])]
        return [letter for letter in letters if letter]


class RedisAudio:
    """`AudioStreams` on the process's reader; `redis` is any client of the same server.

    `passed` is told the id of each entry as a session gets it.
    """

    def __init__(self, reader: StreamReader, redis: Redis, passed: Callable[[str], None]) -> None:
        self._reader = reader
        self._redis = redis
        self._passed = passed

    def watch(self, run_id: str, after: str, deliver: Callable[[AudioEntry], None]) -> Callable[[], None]:
        """See the port."""

        missed: int | None = 0

        def miss(entries: int | None) -> None:
            nonlocal missed
            missed = entries

        def take(entry_id: str, fields: Fields) -> None:
            nonlocal missed
            self._passed(entry_id)
            entry = audio_entry_of(entry_id, fields)
            if missed != 0:
                entry, missed = replace(entry, missed=missed), 0
            deliver(entry)

        return self._reader.watch(keys.audio(run_id), after, take, miss)

    async def trim(self, run_id: str, before: str) -> None:
        """See the port."""
        with mapped():
            (reply,) = await converse(self._redis, [("XTRIM", keys.audio(run_id), "MINID", before)])
            if isinstance(reply, Exception):
                raise reply

    async def hold(self, run_id: str, full: bool) -> None:
        """See the port."""
        with mapped():
            (reply,) = await run_all(self._redis, [ScriptCall(HOLD, (keys.lease(run_id),), ("1" if full else "",))])
            if isinstance(reply, Exception):
                raise reply


def lag_of(entry_id: str, now: float) -> float:
    """Return how many seconds ago an entry was written, by the server's clock.

    0 for an id that the server cannot have given: from later than now, or from more than a day ago.
    """
    lag = now - order_of(entry_id)[0] / 1000
    return lag if 0 < lag < DAY_S else 0.0


def letter_of(entry_id: str, fields: Fields) -> Letter | None:
    """Read an inbox entry; what makes no sense is logged and passed over."""
    try:
        data = json.loads(fields.get(b"data") or b"{}")
        if not isinstance(data, dict):
            raise TypeError("data is not an object")
        return Letter(entry_id, fields[b"type"].decode(), data)
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        _log.warning("inbox.undecodable", entry=entry_id, error=type(exc).__name__)
        return None


def audio_entry_of(entry_id: str, fields: Fields) -> AudioEntry:
    """Read an audio entry: field `a` is audio, field `c` a control; an empty control stands for what is neither."""
    if (pcm := fields.get(b"a")) is not None:
        return AudioEntry(entry_id, pcm, {})
    try:
        control: Any = json.loads(fields.get(b"c") or b"{}")
    except (ValueError, RecursionError):
        control = {}
    return AudioEntry(entry_id, None, control if isinstance(control, dict) else {})
