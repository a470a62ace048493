"""The session's samples, and the entries of the audio stream that they came from. Pure.

One timeline for all connections and workers. It holds the audio that may have to be sent again; bytes are counted
inside, since an entry may end in the middle of a sample, and samples outside.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workers.core.runs.frame import later_id
from workers.core.stt.frames import SAMPLE_BYTES


@dataclass(frozen=True, slots=True)
class Anchor:
    """`entry` and all entries before it need not be sent again; `entry` ends at sample `at` (rounded down).

    `half` is the entry's last byte when that is the first half of a sample. The default is a session's beginning.
    """

    entry: str = "0"
    at: int = 0
    half: int | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    entry: str
    start: int
    pcm: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.pcm)


class Timeline:
    """Begins at an anchor, and grows by `add`.

    `gaps` are stretches (from, up to) that the journal calls missing: the timeline jumps over each where it comes to
    it, so that a second life gives every sample the place that the first one gave it.
    """

    __slots__ = ("_anchor", "_end", "_gaps", "_held", "_last")

    def __init__(self, anchor: Anchor, gaps: Iterable[tuple[int, int]] = ()) -> None:
        self._anchor = anchor
        self._gaps = dict(gaps)
        self._last = anchor.entry
        self._held: deque[_Piece] = deque()
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
        if (last := later_id(self._last, entry)) == self._last:
            return False
        self._last = last
        return True

    def add(self, entry: str, pcm: bytes) -> int:
        """Put a new entry's audio at the end; return where its first byte is."""
        self._cross_known_gap()
        start = self._end
        if pcm:
            self._held.append(_Piece(entry, start, pcm))
            self._end += len(pcm)
        return start

    def miss(self, samples: int) -> tuple[int, int] | None:
        """Leave out so many samples; return the gap, or None when the journal knows it already.

        Half a sample before a gap counts as one: its other byte is lost. Gaps never overlap: this one ends where one
        that is known begins.
        """
        if self._cross_known_gap():
            return None
        start = self._whole()
        end = min((known for known in self._gaps if known > start), default=start + samples)
        end = min(end, start + samples)
        self._end = end * SAMPLE_BYTES
        self._cross_known_gap()
        return start, end

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

    def forget(self, anchor: Anchor) -> None:
        """Hold nothing before an anchor that `anchor_at` gave."""
        if anchor != self._anchor:
            while self._held and later_id(self._held[0].entry, anchor.entry) == anchor.entry:
                self._held.popleft()
            self._anchor = anchor
            self._keep_half()

    def _keep_half(self) -> None:
        if self._anchor.half is not None:
            start = self._anchor.at * SAMPLE_BYTES
            self._held.appendleft(_Piece(self._anchor.entry, start, bytes([self._anchor.half])))

    def _cross_known_gap(self) -> bool:
        end = self._gaps.get(self._whole()) if self._gaps else None
        if end is None:
            return False
        self._end = end * SAMPLE_BYTES
        return True

    def _whole(self) -> int:
        return -(-self._end // SAMPLE_BYTES)
