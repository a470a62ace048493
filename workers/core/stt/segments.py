"""The segment map of one connection (WIRE 2.7): words with their places on the session's timeline. Pure.

A message overwrites the segments that it holds, and withdraws those with higher ids. Words with times are told apart
by their place: new is what stands after the last final word, which is known by its text where it was told before, and
by time where it is told no more. Only a provider that gives no times leaves nothing but counting (`_Segment.done`).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from api_contracts.stt import SAMPLE_RATE
from workers.core.stt.messages import SaidSegment, SaidWord

_OVER_FOR: Final = 5 * SAMPLE_RATE
"""Samples; times of a word may still move by less."""


@dataclass(slots=True)
class Heard:
    """A word on the session's timeline, in samples; `since` is when it last changed, `calm_since` when any word of
    its segment did (seconds)."""

    said: SaidWord
    segment: int
    since: float
    calm_since: float = 0.0
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


@dataclass(frozen=True, slots=True)
class Told:
    """The last final word, where it was told to be (samples)."""

    text: str
    start: int
    end: int


@dataclass(slots=True)
class _Segment:
    said: SaidSegment
    words: list[Heard]
    since: float
    timed: bool
    done: int = 0
    """How many of its first words are final, when they have no times."""
    span: tuple[int, int] = (0, 0)
    """Where words without times lie: between these samples."""


class SegmentMap:
    """What a connection has said. `place` turns seconds of its clock into samples of the timeline.

    Words before `begin_s` of its clock are passed over: they will be said again.
    """

    __slots__ = ("_begin_s", "_counted", "_place", "_segments", "_upto", "flags_words")

    def __init__(self, place: Callable[[float], int], begin_s: float = 0.0) -> None:
        self._place = place
        self._begin_s = begin_s
        self._segments: dict[int, _Segment] = {}
        self._counted: dict[int, int] = {}
        self._upto = 0
        self.flags_words = False
        """Whether the provider ever said of a word if it is final."""

    def __len__(self) -> int:
        """How many segments are held: those that are final as a whole are let go, or an hour would hold thousands."""
        return len(self._segments)

    def is_over(self, end_s: float) -> bool:
        """Return whether this time of the connection's clock lies long before the end of the last final word."""
        return self._place(end_s) < self._upto - _OVER_FOR

    def said(self, number: int) -> SaidSegment | None:
        """Return a segment as it was last read."""
        segment = self._segments.get(number)
        return segment.said if segment else None

    def apply(self, said: Iterable[SaidSegment], now: float, sent_upto: int) -> bool:
        """Take an update in; return whether it changed anything. `sent_upto`: no word of it lies later."""
        highest, changed = -1, False
        for each in said:
            highest = max(highest, each.id)
            since = _from(each, self._begin_s) if self._begin_s else each
            changed = self._take(since, now, sent_upto) or changed
        withdrawn = [number for number in self._segments if number > highest >= 0]
        for number in withdrawn:
            del self._segments[number]
        return changed or bool(withdrawn)

    def pending(self, final_upto: int, told: Told | None = None) -> list[Heard]:
        """Return the words that are not final yet, in order of time, no two at one place."""
        words: list[Heard] = []
        for number in sorted(self._segments):
            segment = self._segments[number]
            after = max(final_upto, words[-1].end) if words else final_upto
            words += segment.words if segment.timed else _spread(segment, after)
        words.sort(key=_middle)
        seam = _seam(words, final_upto, told)
        pending = [word for place, word in enumerate(words) if place > seam or not word.timed]
        last = 2 * final_upto - 1
        for word in pending:
            _push_after(word, last)
            last = word.middle2
        return pending

    def settle(self, words: Iterable[Heard], final_upto: int) -> None:
        """Take note that these words of `pending` are final, and let go of segments that are final as a whole."""
        self._upto = final_upto
        for word in words:
            if not word.timed:
                self._segments[word.segment].done += 1
        for number in sorted(self._segments)[:-1]:
            if _is_over(self._segments[number], final_upto):
                self._let_go(number)

    def _take(self, said: SaidSegment, now: float, sent_upto: int) -> bool:
        before = self._segments.get(said.id)
        if before is None and not said.words:
            return False
        if before is not None and before.said == said:
            return False
        self._segments[said.id] = self._read(said, before, now, sent_upto)
        if not said.words:
            self._let_go(said.id)
        return True

    def _let_go(self, number: int) -> None:
        segment = self._segments.pop(number)
        if segment.done:
            self._counted[number] = segment.done

    def _read(self, said: SaidSegment, before: _Segment | None, now: float, sent_upto: int) -> _Segment:
        timed = any(word.start is not None for word in said.words)
        is_same = before is not None and [w.text for w in before.said.words] == [w.text for w in said.words]
        segment = _Segment(said, [], before.since if before and is_same else now, timed)
        self._read_words(segment, before, now)
        if not timed:
            segment.done = self._done(said.id, before)
            segment.span = before.span if before and is_same else (0, sent_upto)
            if said.start is not None and said.end is not None:
                segment.span = self._place(said.start), self._place(said.end)
        return segment

    def _read_words(self, segment: _Segment, before: _Segment | None, now: float) -> None:
        """Find the words' places; what has not changed has stood there since before."""
        olds = before.words if before and before.timed == segment.timed else []
        end, last = 0, -2
        for place, said in enumerate(segment.said.words):
            old = olds[place] if place < len(olds) and olds[place].said.text == said.text else None
            if old is not None and old.said is said:
                word = old
            else:
                word = Heard(said, segment.said.id, old.since if old else now, timed=segment.timed)
                word.start = end if said.start is None else self._place(max(said.start, self._begin_s))
                word.end = end if said.end is None else self._place(max(said.end, self._begin_s))
            word.calm_since = segment.since
            self.flags_words = self.flags_words or word.flagged
            _push_after(word, last)
            end, last = word.end, word.middle2
            segment.words.append(word)

    def _done(self, number: int, before: _Segment | None) -> int:
        if before is None:
            return self._counted.get(number, 0)
        return sum(word.middle2 <= 2 * self._upto for word in before.words) if before.timed else before.done


def _from(said: SaidSegment, begin_s: float) -> SaidSegment:
    """Return a segment without the words before this time."""
    if not any(_is_before(word, begin_s) for word in said.words):
        return said
    kept = [(word, raw) for word, raw in zip(said.words, said.given, strict=True) if not _is_before(word, begin_s)]
    return replace(said, words=tuple(word for word, _ in kept), given=tuple(raw for _, raw in kept))


def _is_before(word: SaidWord, begin_s: float) -> bool:
    return word.start is not None and word.end is not None and word.start + word.end < 2 * begin_s


def _seam(words: Sequence[Heard], final_upto: int, told: Told | None) -> int:
    """Return the place of the last word that is final, -1 for none.

    Times shift when a word is heard again (WIRE 2.7): the last final word is then known by its text, if it stands in
    part where it stood. Without it, words are final up to the end of that word.
    """
    found = -1 if told is None else _place_of(told, words)
    return found if found >= 0 else bisect_right(words, 2 * final_upto, key=_middle) - 1


def _place_of(told: Told, words: Sequence[Heard]) -> int:
    found, most = -1, 0
    for place, word in enumerate(words):
        if word.start < told.end and word.end > told.start and word.timed:
            common = min(word.end, told.end) - max(word.start, told.start)
            if common > most and _is_same(word.said.text, told.text):
                found, most = place, common
    return found


def _is_same(one: str, other: str) -> bool:
    return one == other or _bare(one) == _bare(other) != ""


def _bare(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def _push_after(word: Heard, last: int) -> None:
    """Move a word so that its middle lies a sample or more after that of the one before, whatever its times say."""
    if (behind := last + 2 - word.middle2) > 0:
        shift = -(-behind // 2)
        word.start, word.end = word.start + shift, word.end + shift


def _spread(segment: _Segment, after: int) -> list[Heard]:
    """Let words without times share the time that is theirs."""
    words = segment.words[segment.done :]
    after = max(after, segment.span[0])
    width = max(0, segment.span[1] - after)
    for place, word in enumerate(words):
        word.start, word.end = after + width * place // len(words), after + width * (place + 1) // len(words)
    return words


def _is_over(segment: _Segment, final_upto: int) -> bool:
    if segment.timed:
        return all(word.middle2 <= 2 * final_upto for word in segment.words)
    return segment.done >= len(segment.words)


def _middle(word: Heard) -> int:
    return word.middle2
