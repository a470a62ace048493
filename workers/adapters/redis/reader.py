"""One reader per process: all streams of all its runs in one blocking XREAD.

A new stream joins by unblocking the read; should that fail, it joins when the block ends. What a stream lost before it
was read is another matter: see `gone`.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api_contracts.client.connections import Command
from workers.adapters.redis.connection import TRANSIENT, converse
from workers.adapters.redis.gone import Entry, Fields, Place, look_at
from workers.ports import Clock

_log = structlog.get_logger(__name__)

BLOCK_MS = 1000
"""Longest time that a new stream waits to be read when the unblocking is lost."""
_PAGE = 32
"""Entries of one stream in one read: a reply is parsed as a whole before anything of it is handed over, and hundreds of
sessions may have a backlog."""
_CANCEL_AGAIN_S = 0.1
"""A cancel that was lost is said again: a read may wait for long."""
_PAUSE_S = 0.5
_NUDGE_S = 0.005
_BETWEEN_S = 0.02
"""Between the streams that join: hundreds of runs that begin in a second join by fifty reads, and one alone at once."""
_BREATH_PER_STREAM_S, _SHORTEST_BREATH_S, _LONGEST_BREATH_S = 25e-6, 0.001, 0.01
"""Asking for a stream costs about as much as an entry of it. With hundreds of live streams there is always something
to read, so the reader lets a little come together between two reads: with few streams nothing, at most 10 ms."""

Take = Callable[[str, Fields], None]
"""What takes an entry: its id and its fields."""
Miss = Callable[[int | None], None]
"""What is told, before the next entry, that so many before it are gone; None: nobody knows how many."""

_Page = tuple[bytes, list[Entry]]


@dataclass(slots=True)
class _Watch:
    place: Place
    take: Take
    miss: Miss | None


class StreamReader:
    """Reads inboxes and audio of all runs of a process.

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
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._nudge: asyncio.Task[None] | None = None
        self._nudged_at = -math.inf

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._loop(), name="stream-reader")

    async def close(self) -> None:
        """Stop reading."""
        self._closed = True  # up to Python 3.11 a cancel that meets the end of a command is lost in redis-py
        tasks = {task for task in (self._nudge, self._task) if task}
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN_S)

    def watch(self, key: str, after: str, take: Take, miss: Miss | None = None) -> Callable[[], None]:
        """Hand over each entry of the stream after id `after`, on the loop; return the way to stop.

        Whoever gives `miss` is told of entries that were gone before they could be read.

        A process holds a run once, so a stream has one watch: a second one takes the first one's place.
        """
        watch = _Watch(Place(after), take, miss)
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
        if (due := self._nudged_at + _BETWEEN_S) > self._clock.now():
            await self._clock.sleep_until(due)
        while self._client_id is not None and self._read_since < self._added:
            self._nudged_at = self._clock.now()
            try:
                (said,) = await converse(self._other, [("CLIENT", "UNBLOCK", self._client_id)])
                if isinstance(said, Exception):
                    raise said
            except (RedisError, OSError) as exc:
                _log.debug("reader.not_unblocked", error=type(exc).__name__)
                return
            await self._clock.sleep_until(self._clock.now() + _NUDGE_S)

    async def _loop(self) -> None:
        while not self._closed:
            try:
                if await self._read_once():
                    await self._breathe()
            except TRANSIENT as exc:
                await self._pause(exc)
            except RedisError as exc:
                await self._pause(exc)
                await self._leave_out_what_is_no_stream()
            except Exception as exc:  # noqa: BLE001 - nobody starts this loop again: every run would be deaf
                _log.exception("reader.defect", streams=len(self._watches))
                await self._pause(exc)

    async def _breathe(self) -> None:
        breath = min(_BREATH_PER_STREAM_S * len(self._watches), _LONGEST_BREATH_S)
        if breath >= _SHORTEST_BREATH_S:
            await self._clock.sleep_until(self._clock.now() + breath)

    async def _pause(self, exc: Exception) -> None:
        _log.warning("reader.waiting", error=type(exc).__name__)
        self._client_id = None
        await self._clock.sleep_until(self._clock.now() + _PAUSE_S)

    async def _leave_out_what_is_no_stream(self) -> None:
        """One key of a wrong type has the whole read refused: its run goes without it, the others do not."""
        for key in list(self._watches):
            try:
                kind = await self._other.type(key)
            except (RedisError, OSError):
                return
            if kind not in (b"stream", b"none"):
                _log.error("reader.no_stream", key=key)
                self._watches.pop(key, None)

    async def _read_once(self) -> bool:
        """Return whether anything was read."""
        while not self._watches:
            self._changed.clear()
            await self._changed.wait()
        if self._client_id is None:
            self._client_id = await self._redis.client_id()
        self._read_since = self._added
        asked = dict(self._watches)
        pages = await self._pages(asked)
        doubtful: dict[str, list[Entry]] = {}
        for name, entries in pages:
            watch = asked[key := name.decode()]
            if watch.miss is not None and watch.place.doubts(entries):
                doubtful[key] = entries
            else:
                self._hand_over(key, watch, entries)
        if doubtful:
            await self._make_sure(asked, doubtful)
        return bool(pages)

    async def _pages(self, asked: dict[str, _Watch]) -> list[_Page]:
        """Wait for entries. redis-py's own way is twice as dear: of hundreds of keys it packs each by itself."""
        after = [watch.place.after for watch in asked.values()]
        command: Command = ("XREAD", "COUNT", _PAGE, "BLOCK", self._block_ms, "STREAMS", *asked, *after)
        (reply,) = await converse(self._redis, [command])
        if isinstance(reply, Exception):
            raise reply
        found = reply.items() if isinstance(reply, dict) else reply or ()  # by the protocol's version
        return [(name, [(entry, _fields(pairs)) for entry, pairs in entries]) for name, entries in found]

    async def _make_sure(self, asked: dict[str, _Watch], doubtful: dict[str, list[Entry]]) -> None:
        """Hand over pages before which entries may be gone, once it is known whether they are."""
        looks = await look_at(self._redis, list(doubtful))
        for key, entries in doubtful.items():
            watch = asked[key]
            missed = watch.place.missed(entries, looks.get(key))
            self._hand_over(key, watch, entries, missed)

    def _hand_over(self, key: str, watch: _Watch, entries: list[Entry], missed: int | None = 0) -> None:
        for entry_id, fields in entries:
            if self._watches.get(key) is not watch:  # stopped or replaced, maybe by the entry before
                return
            after = watch.place.pass_by(entry_id)
            try:
                if missed != 0 and watch.miss is not None:
                    watch.miss(missed)
                    missed = 0
                watch.take(after, fields)
            except Exception as exc:  # noqa: BLE001 - one run's fault must not deafen the others
                _log.error("reader.not_taken", key=key, error=type(exc).__name__)


def _fields(pairs: list[bytes] | Fields | None) -> Fields:
    """Return an entry's fields, which Redis gives in a row; an entry that is deleted has none."""
    if not isinstance(pairs, list):
        return pairs or {}
    if len(pairs) == 2:  # all that audio has
        return {pairs[0]: pairs[1]}
    return dict(zip(pairs[::2], pairs[1::2], strict=True))
