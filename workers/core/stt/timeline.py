"""The session's samples, and the entries of the audio stream that they came from. Pure.

One timeline for all connections and workers. It holds the audio that may have to be sent again; bytes are counted
inside, since an entry may end in the middle of a sample, and samples outside.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from workers.core.stt.frames import SAMPLE_BYTES

_LATELY: Final = 1024
"""Ids that are known as numbers: each is asked for five times on its way to a session."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """`entry` and all entries before it need not be sent again; `entry` ends at sample `at` (rounded down).

    `half` is the entry's last byte when that is the first half of a sample; `rest` and `phase` say the same of audio
    that is converted (`SttFinal`). The default is a session's beginning.
    """

    entry: str = "0"
    at: int = 0
    half: int | None = None
    rest: str | None = None
    phase: int | None = None

    def told(self) -> dict[str, Any]:
        """Return the fields of an event that tell of it."""
        return {
            "anchor_entry": self.entry,
            "anchor_at": self.at,
            "anchor_half": self.half,
            "anchor_rest": self.rest,
            "anchor_phase": self.phase,
        }


@dataclass(slots=True)
class Piece:
    """Bytes in a row that one entry brought, the first at `start`."""

    entry: str
    start: int
    pcm: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.pcm)


@dataclass(frozen=True, slots=True)
class Hole:
    """Samples from `start` up to `end` are missing from the stream, behind entry `after`."""

    start: int
    end: int
    after: str


class Timeline:
    """Begins at an anchor, and grows by `add`.

    `holes` are those that the journal knows: the timeline jumps over each when it comes to the first entry behind it,
    so that a second life gives every sample the place that the first one gave it.
    """

    __slots__ = ("_anchor", "_end", "_held", "_holes", "_last", "_last_order")

    def __init__(self, anchor: Anchor, holes: Iterable[Hole] = ()) -> None:
        self._anchor = anchor
        known = sorted((hole for hole in holes if hole.end > anchor.at), key=lambda hole: hole.start)
        self._holes = deque(known)
        self._last = anchor.entry
        self._last_order = order_of(anchor.entry)
        self._held: deque[Piece] = deque()
        self._end = anchor.at * SAMPLE_BYTES
        self._keep_half()
        self._end += len(self._held)

    @property
    def end(self) -> int:
        """Where the timeline ends, in whole samples."""
        return self._end // SAMPLE_BYTES

    @property
    def anchor(self) -> Anchor:
        """What `forget` was last told; nothing before it is held."""
        return self._anchor

    def is_new(self, entry: str) -> bool:
        """Return whether this entry comes after all that were seen, and count it as seen."""
        if (order := order_of(entry)) <= self._last_order:
            return False
        self._last, self._last_order = entry, order
        return True

    def add(self, entry: str, pcm: bytes) -> int:
        """Put a new entry's audio at the end; return where its first byte is."""
        if self._holes:
            self._cross(order_of(entry))
        start = self._end
        if pcm:
            self._held.append(Piece(entry, start, pcm))
            self._end += len(pcm)
        return start

    def take(self, entry: str, raw: bytes) -> list[tuple[int, bytes]]:
        """Put a new entry's audio at the end; return what can be sent by now, each with where its first byte is."""
        return [(self.add(entry, raw), raw)]

    def drain(self) -> list[tuple[int, bytes]]:
        """Return what is left to send: no more audio comes."""
        return []

    def miss(self, samples: int) -> Hole | None:
        """Leave out so many samples; return the hole that is new, or None when the journal knows all of it.

        Half a sample before a hole counts as one: its other byte is lost. Holes never overlap: this one begins behind
        those that are known here, and ends where the next that is known begins.
        """
        start = -(-self._end // SAMPLE_BYTES)
        end = start + samples
        while self._holes and order_of(self._holes[0].after) <= self._last_order:
            start = max(start, self._holes.popleft().end)
        if self._holes:
            end = min(end, self._holes[0].start)
        self._end = max(start, end) * SAMPLE_BYTES
        return Hole(start, end, self._last) if end > start else None

    def since(self, sample: int) -> Iterator[tuple[int, bytes]]:
        """Yield what is held from a sample on: where its first byte is, and the bytes."""
        first = sample * SAMPLE_BYTES
        for piece in self._held:
            if piece.start >= first:
                yield piece.start, piece.pcm
            elif piece.end > first:
                yield first, piece.pcm[first - piece.start :]

    def anchor_at(self, sample: int) -> Anchor:
        """Return the latest anchor that leaves everything from `sample` on in place."""
        limit, found = sample * SAMPLE_BYTES, None
        for piece in self._held:
            if piece.end > limit:
                break
            found = piece
        if found is None:
            return self._anchor
        half = found.pcm[-1] if found.end % SAMPLE_BYTES else None
        return Anchor(found.entry, found.end // SAMPLE_BYTES, half)

    def entry_of(self, sample: int) -> str | None:
        """Return the entry whose audio ends at this sample or holds it; None for what is not held."""
        last = sample * SAMPLE_BYTES
        for piece in reversed(self._held):
            if piece.start < last:
                return piece.entry if last <= piece.end else None
        return None

    def forget(self, anchor: Anchor) -> None:
        """Hold nothing before an anchor that `anchor_at` gave."""
        if anchor != self._anchor:
            whole = anchor.at * SAMPLE_BYTES + (anchor.half is not None)
            while self._held and self._held[0].end <= whole:
                self._held.popleft()
            self._anchor = anchor
            self._keep_half()

    def _keep_half(self) -> None:
        if self._anchor.half is not None:
            start = self._anchor.at * SAMPLE_BYTES
            self._held.appendleft(Piece(self._anchor.entry, start, bytes([self._anchor.half])))

    def _cross(self, entry: tuple[int, int]) -> None:
        while self._holes and order_of(self._holes[0].after) < entry:
            self._end = max(self._end, self._holes.popleft().end * SAMPLE_BYTES)


@lru_cache(maxsize=_LATELY)
def order_of(entry: str) -> tuple[int, int]:
    """Return an entry's id as numbers, which are in order: the milliseconds since 1970, and a count within them."""
    left, _, right = entry.partition("-")
    return int(left), int(right or 0)
