"""`AudioStreams` in memory: what Redis does, in one process."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workers.core.runs.frame import later_id
from workers.core.stt.gone import gone_between
from workers.ports import AudioEntry, Clock


@dataclass(slots=True, eq=False)
class _Watch:
    after: str
    deliver: Callable[[AudioEntry], None]
    read: int | None
    """How many entries were ever added up to `after`; None: not known."""


@dataclass(slots=True)
class _Stream:
    entries: list[AudioEntry] = field(default_factory=list)
    watches: list[_Watch] = field(default_factory=list)
    at_ms: int = 0
    number: int = 0
    before: int = 0
    """How many entries were dropped from its beginning."""

    def hand_over(self, watch: _Watch) -> None:
        """Deliver what the watch has not had; it may stop while we do."""
        first = self.before
        for place, entry in enumerate(list(self.entries), first):
            if watch not in self.watches:
                return
            if entry.id != watch.after and later_id(entry.id, watch.after) == entry.id:
                missed = gone_between(watch.read, place) if place == first else 0
                watch.after, watch.read = entry.id, place + 1
                watch.deliver(replace(entry, missed=missed))

    def drop(self, entries: int) -> None:
        """Drop so many from the beginning."""
        del self.entries[:entries]
        self.before += entries


class MemoryAudio:
    """Ids are the clock's milliseconds, as in Redis; without a clock they count."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self.held: set[str] = set()
        """Sessions to which no more should be sent."""
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)

    def add(
        self, run_id: str, pcm: bytes | None, control: Mapping[str, Any] | None = None, *, most: int | None = None
    ) -> str:
        """Append an entry, as a producer does, who may leave only so many in the stream; return its id."""
        stream = self._streams[run_id]
        now_ms = stream.at_ms + 1 if self._clock is None else round(self._clock.now() * 1000)
        stream.number = stream.number + 1 if now_ms == stream.at_ms else 0
        stream.at_ms = now_ms
        entry = AudioEntry(f"{now_ms}-{stream.number}", pcm, control or {})
        stream.entries.append(entry)
        if most is not None:
            stream.drop(max(0, len(stream.entries) - most))
        for watch in stream.watches:
            asyncio.get_running_loop().call_soon(stream.hand_over, watch)
        return entry.id

    def ids(self, run_id: str) -> list[str]:
        """Return the ids of what is there."""
        return [entry.id for entry in self._streams[run_id].entries]

    def watch(self, run_id: str, after: str, deliver: Callable[[AudioEntry], None]) -> Callable[[], None]:
        """See the port. A second watch takes the first one's place."""
        stream, watch = self._streams[run_id], _Watch(after, deliver, 0 if after == "0" else None)
        stream.watches[:] = [watch]
        asyncio.get_running_loop().call_soon(stream.hand_over, watch)

        def stop() -> None:
            if watch in stream.watches:
                stream.watches.remove(watch)

        return stop

    async def hold(self, run_id: str, full: bool) -> None:
        """See the port."""
        if full:
            self.held.add(run_id)
        else:
            self.held.discard(run_id)

    async def trim(self, run_id: str, before: str) -> None:
        """See the port."""
        stream = self._streams[run_id]
        stream.drop(sum(later_id(entry.id, before) != entry.id for entry in stream.entries))
