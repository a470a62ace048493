"""One reader per process: all inboxes in one blocking XREAD.

A new run joins by unblocking the read; should that fail, it joins when the block ends.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api_contracts import keys
from workers.adapters.redis.connection import TRANSIENT
from workers.ports import Clock, Letter

_log = structlog.get_logger(__name__)

BLOCK_MS = 1000
"""Longest time that a new run waits to be read when the unblocking is lost."""
_PAGE = 100
_PAUSE_S = 0.5

_Entry = tuple[bytes, dict[bytes, bytes]]
_Page = tuple[bytes, list[_Entry]]


@dataclass(slots=True)
class _Watch:
    after: str
    deliver: Callable[[Letter], None]


class InboxReader:
    """Reads the inboxes of all runs of a process.

    `redis` must be a client of its own with one connection, whose read timeout is longer than `BLOCK_MS`; `other` is
    any other client of the same server, used to unblock it.
    """

    def __init__(self, redis: Redis, other: Redis, clock: Clock) -> None:
        self._redis = redis
        self._other = other
        self._clock = clock
        self._watches: dict[str, _Watch] = {}
        self._changed = asyncio.Event()
        self._client_id: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._nudges: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._loop(), name="inbox-reader")

    async def close(self) -> None:
        """Stop reading."""
        tasks = [*self._nudges, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def watch(self, run_id: str, after: str, deliver: Callable[[Letter], None]) -> Callable[[], None]:
        """See the port. A process holds a run once, so a key has one watch."""
        key = keys.inbox(run_id)
        watch = _Watch(after, deliver)
        self._watches[key] = watch
        self._changed.set()
        if self._client_id is not None:
            nudge = asyncio.create_task(self._unblock(self._client_id))
            self._nudges.add(nudge)
            nudge.add_done_callback(self._nudges.discard)

        def stop() -> None:
            if self._watches.get(key) is watch:
                del self._watches[key]

        return stop

    async def _unblock(self, client_id: int) -> None:
        try:
            await self._other.client_unblock(client_id)
        except RedisError as exc:
            _log.debug("inbox.not_unblocked", error=type(exc).__name__)

    async def _loop(self) -> None:
        while True:
            try:
                await self._read_once()
            except TRANSIENT as exc:
                _log.warning("inbox.waiting", error=type(exc).__name__)
                self._client_id = None
                await self._clock.sleep_until(self._clock.now() + _PAUSE_S)

    async def _read_once(self) -> None:
        while not self._watches:
            self._changed.clear()
            await self._changed.wait()
        if self._client_id is None:
            self._client_id = await self._redis.client_id()
        where = {key: watch.after for key, watch in self._watches.items()}
        reply = await self._redis.xread(cast("Any", where), count=_PAGE, block=BLOCK_MS)
        for key, entries in cast("list[_Page]", reply or []):
            if watch := self._watches.get(key.decode()):
                _hand_over(watch, entries)


def _hand_over(watch: _Watch, entries: list[_Entry]) -> None:
    for entry_id, fields in entries:
        watch.after = entry_id.decode()
        if letter := letter_of(watch.after, fields):
            watch.deliver(letter)


def letter_of(entry_id: str, fields: dict[bytes, bytes]) -> Letter | None:
    """Read an inbox entry; anyone may write there, so what makes no sense is logged and passed over."""
    try:
        data = json.loads(fields.get(b"data") or b"{}")
        if not isinstance(data, dict):
            raise TypeError("data is not an object")
        return Letter(entry_id, fields[b"type"].decode(), data)
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        _log.warning("inbox.undecodable", entry=entry_id, error=type(exc).__name__)
        return None
