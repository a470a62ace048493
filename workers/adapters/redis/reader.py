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
_NUDGE_S = 0.005

_Entry = tuple[bytes, dict[bytes, bytes]]
_Page = tuple[bytes, list[_Entry]]


@dataclass(slots=True)
class _Watch:
    after: str
    deliver: Callable[[Letter], None]


class InboxReader:
    """Reads the inboxes of all runs of a process.

    `redis` must be a client of its own with one connection, whose read timeout is longer than `block_ms`; `other` is
    any other client of the same server, used to unblock it.
    """

    def __init__(self, redis: Redis, other: Redis, clock: Clock, *, block_ms: int = BLOCK_MS) -> None:
        self._redis = redis
        self._other = other
        self._clock = clock
        self._block_ms = block_ms
        self._watches: dict[str, _Watch] = {}
        self._changed = asyncio.Event()
        self._added = 0
        self._read_since = 0
        self._client_id: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._nudge: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._loop(), name="inbox-reader")

    async def close(self) -> None:
        """Stop reading."""
        tasks = [task for task in (self._nudge, self._task) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def watch(self, run_id: str, after: str, deliver: Callable[[Letter], None]) -> Callable[[], None]:
        """See the port. A process holds a run once, so a key has one watch."""
        key = keys.inbox(run_id)
        watch = _Watch(after, deliver)
        self._watches[key] = watch
        self._added += 1
        self._changed.set()
        if self._nudge is None or self._nudge.done():
            self._nudge = asyncio.create_task(self._unblock())

        def stop() -> None:
            if self._watches.get(key) is watch:
                del self._watches[key]

        return stop

    async def _unblock(self) -> None:
        """End the read under way until one has begun that knows every watch; too early an unblock has no effect."""
        while self._client_id is not None and self._read_since < self._added:
            try:
                await self._other.client_unblock(self._client_id)
            except (RedisError, OSError) as exc:
                _log.debug("inbox.not_unblocked", error=type(exc).__name__)
                return
            await self._clock.sleep_until(self._clock.now() + _NUDGE_S)

    async def _loop(self) -> None:
        while True:
            try:
                await self._read_once()
            except TRANSIENT as exc:
                await self._pause(exc)
            except RedisError as exc:
                await self._pause(exc)
                await self._leave_out_what_is_no_stream()

    async def _pause(self, exc: Exception) -> None:
        _log.warning("inbox.waiting", error=type(exc).__name__)
        self._client_id = None
        await self._clock.sleep_until(self._clock.now() + _PAUSE_S)

    async def _leave_out_what_is_no_stream(self) -> None:
        """One key of a wrong type has the whole read refused: its run goes without letters, the others do not."""
        for key in list(self._watches):
            try:
                kind = await self._other.type(key)
            except (RedisError, OSError):
                return
            if kind not in (b"stream", b"none"):
                _log.error("inbox.no_stream", key=key)
                self._watches.pop(key, None)

    async def _read_once(self) -> None:
        while not self._watches:
            self._changed.clear()
            await self._changed.wait()
        if self._client_id is None:
            self._client_id = await self._redis.client_id()
        self._read_since = self._added
        asked = dict(self._watches)
        where = {key: watch.after for key, watch in asked.items()}
        reply = await self._redis.xread(cast("Any", where), count=_PAGE, block=self._block_ms)
        for key, entries in cast("list[_Page]", reply or []):
            self._hand_over(key.decode(), asked[key.decode()], entries)

    def _hand_over(self, key: str, watch: _Watch, entries: list[_Entry]) -> None:
        for entry_id, fields in entries:
            if self._watches.get(key) is not watch:  # stopped or replaced, maybe by the letter before
                return
            watch.after = entry_id.decode()
            if letter := letter_of(watch.after, fields):
                try:
                    watch.deliver(letter)
                except Exception as exc:  # noqa: BLE001 - one run's fault must not deafen the others
                    _log.error("inbox.not_taken", key=key, error=type(exc).__name__)


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
