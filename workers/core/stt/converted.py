"""The timeline of audio that is not the wire's own form: samples of 16 kHz, of entries in the producer's. Pure.

An entry's end is a place between samples, and what was made of its last bytes may come out with the next entry. So
where entries end is kept apart from the samples that are held. A second life begins its filter anew behind the anchor:
every sample has the place that it had, and the few that sound otherwise lie seconds before all that is not settled.
"""

from collections import deque
from collections.abc import Iterable

from api_contracts.audio import SttSource
from workers.core.stt.frames import SAMPLE_BYTES
from workers.core.stt.sound import Converter, Place
from workers.core.stt.timeline import Anchor, Hole, Piece, Timeline, order_of


class ConvertedTimeline(Timeline):
    """`Timeline` of a source's bytes."""

    __slots__ = ("_converter", "_ends", "_source")

    def __init__(self, anchor: Anchor, holes: Iterable[Hole], source: SttSource) -> None:
        super().__init__(anchor, holes)
        self._source = source
        rest = bytes.fromhex(anchor.rest) if anchor.rest else b""
        self._converter = Converter(source, Place(anchor.at, anchor.phase or 0, rest))
        self._ends: deque[Anchor] = deque()

    def take(self, entry: str, raw: bytes) -> list[tuple[int, bytes]]:
        """See `Timeline`."""
        out: list[tuple[int, bytes]] = []
        if self._holes and order_of(self._holes[0].after) < order_of(entry):
            out = self.drain()
            self._cross(order_of(entry))
            self._begin()
        out += self._put(entry, self._converter.feed(raw))
        place = self._converter.place
        self._ends.append(Anchor(entry, place.sample, None, place.rest.hex() or None, place.phase or None))
        return out

    def drain(self) -> list[tuple[int, bytes]]:
        """See `Timeline`."""
        out = self._put(self._last, self._converter.drain())
        self._begin()
        return out

    def miss(self, samples: int) -> Hole | None:
        """See `Timeline`. What is left of a frame before a hole is lost with it."""
        self.drain()
        hole = super().miss(samples)
        self._begin()
        return hole

    def anchor_at(self, sample: int) -> Anchor:
        """See `Timeline`."""
        limit, found = min(sample, self.end), self._anchor
        for end in self._ends:
            if end.at > limit:
                break
            found = end
        return found

    def forget(self, anchor: Anchor) -> None:
        """See `Timeline`."""
        super().forget(anchor)
        while self._ends and self._ends[0].at <= anchor.at:
            self._ends.popleft()

    def _begin(self) -> None:
        """Convert anew from where the timeline ends."""
        self._converter = Converter(self._source, Place(self.end, 0, b""))

    def _put(self, entry: str, pcm: bytes) -> list[tuple[int, bytes]]:
        if not pcm:
            return []
        start, self._end = self._end, self._end + len(pcm)
        self._held.append(Piece(entry, start, pcm))
        assert self._end % SAMPLE_BYTES == 0  # noqa: S101 - a converter gives whole samples
        return [(start, pcm)]
