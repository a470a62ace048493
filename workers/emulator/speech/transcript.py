"""What has been said so far, as the provider would tell it: segments, finality, second thoughts. Knows no JSON.

Words that an engine settled are final once they lie far enough back, or once silence follows them. Until then the
teller may change its mind, on purpose and at fixed intervals, because the real one does: it mishears a word, takes one
for two, opens a segment and withdraws it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from workers.emulator.speech.engine import RATE, Heard, Hypothesis


@dataclass(frozen=True)
class Telling:
    """How a transcript is told. Seconds of audio, or counts; a count of 0 never happens."""

    text_timeout_s: float = 1.0
    final_lag_s: float = 2.0
    segment_words: int = 12
    segment_gap_s: float = 0.6
    mishear_every: int = 9
    split_every: int = 11
    withdraw_every: int = 13


@dataclass(frozen=True)
class Word:
    """A word as told. `start` and `end` in seconds since the connection began."""

    text: str
    start: float
    end: float
    probability: float
    is_final: bool


@dataclass(frozen=True)
class Segment:
    """Words that belong together. Its words may change until they are final."""

    id: int
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words as one line."""
        return " ".join(word.text for word in self.words)


@dataclass
class _Part:
    """A segment under way: settled words only. `final` of them are final."""

    id: int
    words: list[Heard] = field(default_factory=list)
    first: int = 0  # number of words of the session before it
    final: int = 0


class Transcript:
    """The words of one session. `told` returns what changed, `all_segments` everything."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self._done: list[Segment] = []
        self._parts: list[_Part] = []
        self._pending: tuple[Heard, ...] = ()
        self._shown: list[Segment] = []
        self._next_id = 0
        self._hole = 0
        self._words = 0
        self._heard_to = 0
        self._changed = False

    @property
    def unsent(self) -> bool:
        """Whether `told` may have something to say."""
        return self._changed

    @property
    def unfinished(self) -> bool:
        """Whether a settled word is not final yet."""
        return any(part.final < len(part.words) for part in self._parts)

    def hear(self, hypothesis: Hypothesis, heard_to: int) -> None:
        """Take in what an engine believes; `heard_to` is the number of samples it has had."""
        self._heard_to = heard_to
        for word in hypothesis.settled:
            self._settle(word)
        self._changed |= bool(hypothesis.settled) or hypothesis.pending != self._pending
        self._pending = hypothesis.pending
        self._finalise(heard_to - round(self._lag_s() * RATE))

    def conclude(self) -> None:
        """Silence: every settled word is final."""
        self._finalise(math.inf)

    def clear(self, restart_ids: bool) -> None:
        """Forget the context: text that is not final is lost."""
        self._done, self._parts, self._shown, self._pending = [], [], [], ()
        self._words, self._changed = 0, False
        if restart_ids:
            self._next_id = 0

    def rewrite_final(self) -> bool:
        """Change a word that was told as final, against the rules; False if there is none to change."""
        part = next((part for part in reversed(self._parts) if part.final), None)
        if part is None:
            return False
        word = part.words[part.final - 1]
        part.words[part.final - 1] = replace(word, text=f"{word.text}s")
        self._changed = True
        return True

    def skip_ids(self, count: int) -> None:
        """Leave a hole after the next segment's id, which a client may know already."""
        self._hole = count

    def told(self) -> tuple[Segment, ...]:
        """The segments from the first that changed since the last call, to the last; empty if none did."""
        now = self._view()
        self._changed = False
        same = 0
        while same < min(len(now), len(self._shown)) and now[same] == self._shown[same]:
            same += 1
        if now == self._shown or not now:
            return ()
        changed = tuple(now[min(same, len(now) - 1) :])
        self._shown = now
        self._retire()
        return changed

    def all_segments(self) -> tuple[Segment, ...]:
        """Everything, as last told."""
        return (*self._done, *self._shown)

    def _lag_s(self) -> float:
        """How far back a word must lie to be final: less in silence."""
        last = self._pending or (self._parts[-1].words if self._parts else ())
        silence = self._heard_to - last[-1].end if last else 0
        silent = not self._pending and silence >= self._telling.text_timeout_s * RATE
        return 0.0 if silent else self._telling.final_lag_s

    def _settle(self, word: Heard) -> None:
        if not self._parts or self._breaks(self._parts[-1], word):
            self._parts.append(_Part(self._next_id, first=self._words))
            self._next_id += 1 + self._hole
            self._hole = 0
        self._parts[-1].words.append(word)
        self._words += 1

    def _breaks(self, part: _Part, word: Heard) -> bool:
        full = len(part.words) >= self._telling.segment_words
        return full or word.start - part.words[-1].end >= self._telling.segment_gap_s * RATE

    def _finalise(self, before: float) -> None:
        for part in self._parts:
            while part.final < len(part.words) and part.words[part.final].end <= before:
                part.final += 1
                self._changed = True

    def _view(self) -> list[Segment]:
        segments = [Segment(part.id, tuple(self._as_told(part))) for part in self._parts]
        pending = tuple(_word(heard, False) for heard in self._guesses())
        if not pending:
            return segments
        alone = not self._parts or self._due(self._telling.withdraw_every)
        if alone or self._breaks(self._parts[-1], self._pending[0]):
            return [*segments, Segment(self._next_id, pending)]
        return [*segments[:-1], replace(segments[-1], words=segments[-1].words + pending)]

    def _as_told(self, part: _Part) -> Iterable[Word]:
        for place, heard in enumerate(part.words):
            fresh = self._heard_to - heard.end < self._telling.final_lag_s * RATE / 2
            misheard = _nth(part.first + place + 1, self._telling.mishear_every)
            is_final = place < part.final
            yield _word(_misheard(heard) if fresh and misheard and not is_final else heard, is_final)

    def _guesses(self) -> tuple[Heard, ...]:
        if not self._pending or not self._due(self._telling.split_every):
            return self._pending
        return (*self._pending[:-1], *_halves(self._pending[-1]))

    def _due(self, every: int) -> bool:
        return _nth(self._words + 1, every)

    def _retire(self) -> None:
        """Segments that can no longer change need not be compared again."""
        while len(self._parts) > 1 and self._parts[0].final == len(self._parts[0].words):
            self._parts.pop(0)
            self._done.append(self._shown.pop(0))


def _nth(number: int, every: int) -> bool:
    return every > 0 and number % every == 0


def _word(heard: Heard, is_final: bool) -> Word:
    return Word(heard.text, heard.start / RATE, heard.end / RATE, heard.probability, is_final)


def _misheard(heard: Heard) -> Heard:
    return replace(heard, text=heard.text[:-1] or "uh", probability=round(heard.probability / 2, 3))


def _halves(heard: Heard) -> tuple[Heard, ...]:
    middle, time = len(heard.text) // 2, (heard.start + heard.end) // 2
    if not middle:
        return (heard,)
    return replace(heard, text=heard.text[:middle], end=time), replace(heard, text=heard.text[middle:], start=time)
