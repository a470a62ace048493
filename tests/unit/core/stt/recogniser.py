"""A provider made of arithmetic: words are stretches of equal samples, and it hears what it is sent, exactly.

It behaves as WIRE 2.6 and 2.7 allow: partial words that are rewritten, a last segment that is withdrawn when its word
joins the one before, finality per word and late, updates that hold only what changed, both types of id.
"""

from array import array
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

RATE = 16_000
VOCABULARY = ("no", "yes", "maybe", "nine", "turn", "on", "the")


def text_of(code: int) -> str:
    return VOCABULARY[code % len(VOCABULARY)]


def speech(words: list[tuple[int, int]]) -> bytes:
    """Say words of (samples, samples of silence before it); the n-th has code n + 1."""
    samples = array("h")
    for code, (length, silence) in enumerate(words, 1):
        samples.extend([0] * silence + [code] * length)
    return samples.tobytes()


@dataclass
class Ways:
    """How this provider behaves. Delays are samples heard after a word's end.

    Its times are wrong: by `jitter` samples, for each word another way; by `drift`, for each connection another way.
    """

    final_delays: tuple[int, ...] = (8_000,)
    words_a_segment: int = 3
    string_ids: bool = False
    whole_lists: bool = False
    tail_apart: bool = True
    unordered: bool = False
    twice: bool = False
    jitter: int = 0
    drift: int = 0
    every: int = 1
    times: bool = True
    flags: bool = True
    words: bool = True
    echoes_traces: bool = True
    echoes_end: bool = True
    clear_restarts_ids: bool = True


@dataclass
class _Word:
    code: int
    start: int
    end: int
    done: bool = False


@dataclass
class Recogniser:
    """One connection's server."""

    ways: Ways = field(default_factory=Ways)
    number: int = 1
    heard: int = 0
    words: list[_Word] = field(default_factory=list)
    frames: int = 0
    done: int = 0  # words that were told as final
    ended: bool = False
    first: int = 0  # id of the first segment that it remembers

    def audio(self, frame: bytes) -> list[dict[str, Any]]:
        assert len(frame) % 2 == 0, "half a sample on the wire"
        samples = array("h")
        samples.frombytes(frame)
        for code, run in groupby(samples):
            self._hear(code, len(list(run)))
        self.frames += 1
        is_due = self.words and self.frames % self.ways.every == 0
        return [self.update()] * (1 + self.ways.twice) if is_due else []

    def text(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        if message.get("object") == "stt.input.trace" and self.ways.echoes_traces:
            return [{**message, "object": "stt.output.trace"}]
        if message.get("checkpoint_id") == "final":
            self.ended = True
            last = [self.update()] if self.words else []
            return [*last, {"checkpoint_id": "final"}] if self.ways.echoes_end else last
        if message.get("object") == "stt.state.clear":
            self._clear()
            return [{**message, "object": "stt.state.cleared"}]
        return []

    def update(self) -> dict[str, Any]:
        segments = [self._segment(number) for number in range(self._count())]
        first = 0 if self.ways.whole_lists else self._first_open()
        told = segments[first:]
        self.done = sum(self._is_final(place) for place in range(len(self.words)))
        return {
            "task": "transcribe",
            "language": "en",
            "text": " ".join(segment["text"] for segment in told),
            "words": [word for segment in told for word in segment.get("words") or ()],
            "segments": told[::-1] if self.ways.unordered else told,
        }

    def _clear(self) -> None:
        """What is not told yet is lost."""
        self.first = 0 if self.ways.clear_restarts_ids or not self.words else self.first + self._count()
        self.words, self.done = [], 0

    def _hear(self, code: int, length: int) -> None:
        last = self.words[-1] if self.words else None
        if code and last and not last.done and last.code == code:
            last.end += length
        else:
            if last:
                last.done = True
            if code:
                self.words.append(_Word(code, self.heard, self.heard + length))
        self.heard += length

    def _is_final(self, place: int) -> bool:
        word = self.words[place]
        delay = self.ways.final_delays[word.code % len(self.ways.final_delays)]
        return self.ended or (word.done and self.heard >= word.end + delay)

    def _segment_of(self, place: int) -> int:
        apart = self.ways.tail_apart and place == len(self.words) - 1 and not self.words[place].done
        return place // self.ways.words_a_segment + (apart and place % self.ways.words_a_segment != 0)

    def _count(self) -> int:
        return self._segment_of(len(self.words) - 1) + 1

    def _first_open(self) -> int:
        """The first segment of which anything changed since the last update."""
        return self._segment_of(min(self.done, len(self.words) - 1)) if self.words else 0

    def _segment(self, number: int) -> dict[str, Any]:
        places = [place for place in range(len(self.words)) if self._segment_of(place) == number]
        words = [self._word(place) for place in places]
        segment = {
            "id": str(self.first + number) if self.ways.string_ids else self.first + number,
            "text": " ".join(word["word"] for word in words),
            "language": "en",
        }
        return segment | ({"words": words} if self.ways.words else {})

    def _word(self, place: int) -> dict[str, Any]:
        word = self.words[place]
        text = text_of(word.code)
        told = {
            "word": text if word.done or self.ended else text[:1] + "-",
            "language": "en",
            "probability": 0.9,
            "hallucination_score": 0.1,
        }
        if self.ways.flags:
            told["is_final"] = self._is_final(place)
        if self.ways.times:
            off = self.ways.jitter * (1 if (word.code + self.heard // RATE) % 2 else -1)
            off += self.ways.drift * (1 if self.number % 2 else -1)
            told |= {"start": max(0, word.start + off) / RATE, "end": max(0, word.end + off) / RATE}
        return told
