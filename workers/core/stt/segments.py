"""The segment map of one connection (WIRE 2.7): words with their places on the session's timeline. Pure.

A message overwrites the segments that it holds, and withdraws those with higher ids. Words with times are told apart
by their times alone: one is new if its middle lies after the last final. Only a provider that gives no times leaves
nothing but counting (`_Segment.done`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from workers.core.stt.messages import SaidSegment, SaidWord


@dataclass(slots=True)
class Heard:
    """A word on the session's timeline, in samples; `since` is when its segment's words last changed (seconds)."""

    said: SaidWord
    segment: int
    since: float
    start: int = 0
    end: int = 0
    timed: bool = True

    @property
    def middle2(self) -> int:
        """Twice its middle: by this it is known."""
        return self.start + self.end

    @property
    def flagged(self) -> bool:
        """Whether the provider says if the word is final."""
        return self.said.final is not None


@dataclass(slots=True)
class _Segment:
    said: SaidSegment
    words: list[Heard]
    since: float
    timed: bool
    done: int = 0
    """How many of its first words are final, when they have no times."""
    span: tuple[int, int] | None = field(default=None)


class SegmentMap:
    """What a connection has said. `place` turns seconds of its clock into samples of the timeline."""

    __slots__ = ("_last_dropped", "_place", "_segments", "flags_words")

    def __init__(self, place: Callable[[float], int]) -> None:
        self._place = place
        self._segments: dict[int, _Segment] = {}
        self._last_dropped = -1
        self.flags_words = False
        """Whether the provider ever said of a word if it is final."""

    def __len__(self) -> int:
        """How many segments are held: those that are final as a whole are let go, or an hour would hold thousands."""
        return len(self._segments)

    def apply(self, said: Iterable[SaidSegment], now: float) -> bool:
        """Take an update in; return whether it changed anything."""
        highest, changed = -1, False
        for each in said:
            highest = max(highest, each.id)
            before = self._segments.get(each.id)
            changed = changed or before is None or before.said != each
            self._segments[each.id] = self._read(each, before, now)
        withdrawn = [number for number in self._segments if number > highest >= 0]
        for number in withdrawn:
            del self._segments[number]
        return changed or bool(withdrawn)

    def pending(self, final_upto: int, heard_upto: int) -> list[Heard]:
        """Return the words that are not final yet, in order of time, no two at one place.

        Words without times share the time between what is before them and `heard_upto`, the end of what was sent.
        """
        words: list[Heard] = []
        for segment_id in sorted(self._segments):
            segment = self._segments[segment_id]
            if segment.timed:
                words += [word for word in segment.words if word.middle2 > 2 * final_upto]
            else:
                after = max(final_upto, words[-1].end if words else 0)
                words += _spread(segment, after, heard_upto)
        words.sort(key=_middle)
        last = 2 * final_upto - 1
        for word in words:
            _push_after(word, last)
            last = word.middle2
        return words

    def settle(self, words: Iterable[Heard], final_upto: int) -> None:
        """Take note that these words of `pending` are final, and let go of segments that are final as a whole."""
        for word in words:
            if not word.timed:
                self._segments[word.segment].done += 1
        for segment_id in sorted(self._segments)[:-1]:
            if _is_over(self._segments[segment_id], final_upto):
                del self._segments[segment_id]
                self._last_dropped = max(self._last_dropped, segment_id)

    def _read(self, said: SaidSegment, before: _Segment | None, now: float) -> _Segment:
        self.flags_words = self.flags_words or any(word.final is not None for word in said.words)
        texts = [word.text for word in said.words]
        since = before.since if before and [w.text for w in before.said.words] == texts else now
        timed = all(word.start is not None for word in said.words)
        words = [Heard(word, said.id, since, timed=timed) for word in said.words]
        segment = _Segment(said, words, since, timed)
        if timed:
            self._place_words(words)
        else:
            segment.done = before.done if before else 0
            if said.id <= self._last_dropped and before is None:  # it was final as a whole, and is told again
                segment.done = len(words)
            if said.start is not None and said.end is not None:
                segment.span = self._place(said.start), self._place(said.end)
        return segment

    def _place_words(self, words: list[Heard]) -> None:
        last = -2
        for word in words:
            word.start, word.end = self._place(word.said.start or 0.0), self._place(word.said.end or 0.0)
            _push_after(word, last)
            last = word.middle2


def _push_after(word: Heard, last: int) -> None:
    """Move a word so that its middle lies a sample or more after that of the one before, whatever its times say."""
    if (behind := last + 2 - word.middle2) > 0:
        shift = -(-behind // 2)
        word.start, word.end = word.start + shift, word.end + shift


def _spread(segment: _Segment, after: int, upto: int) -> list[Heard]:
    words = segment.words[segment.done :]
    if segment.span:
        after, upto = max(after, segment.span[0]), min(upto, segment.span[1])
    width = max(0, upto - after)
    for place, word in enumerate(words):
        word.start, word.end = after + width * place // len(words), after + width * (place + 1) // len(words)
    return words


def _is_over(segment: _Segment, final_upto: int) -> bool:
    if segment.timed:
        return all(word.middle2 <= 2 * final_upto for word in segment.words)
    return segment.done >= len(segment.words)


def _middle(word: Heard) -> int:
    return word.middle2
