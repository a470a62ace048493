"""The port that every recogniser fits: samples in, words out. Knows no wire, no connection, no clock.

Positions are samples since the engine was made, at 16 kHz.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

RATE = 16_000  # samples per second, WIRE 2.4


class EngineMissing(RuntimeError):
    """What an engine needs is not installed; the text says how to get it."""


@dataclass(frozen=True)
class Heard:
    """A word and where it lies, in samples; `end` is exclusive. `probability` is 0 to 1."""

    text: str
    start: int
    end: int
    probability: float = 1.0

    def shifted(self, by: int) -> "Heard":
        """The same word, that many samples later."""
        return replace(self, start=self.start + by, end=self.end + by)


@dataclass(frozen=True)
class Hypothesis:
    """What an engine believes after more audio.

    `settled` are words it will not change again, those new since the last hypothesis. `pending` is its present guess
    at what follows them; it replaces the guess before, whole.
    """

    settled: tuple[Heard, ...] = ()
    pending: tuple[Heard, ...] = ()

    def shifted(self, by: int) -> "Hypothesis":
        """The same belief about audio that began that many samples later."""
        if not by:
            return self
        return Hypothesis(tuple(w.shifted(by) for w in self.settled), tuple(w.shifted(by) for w in self.pending))


class Engine(Protocol):
    """A recogniser of one stream of audio. Its calls come one by one, from any thread; only `close` may overlap."""

    @property
    def slow(self) -> bool:
        """Whether the next call may take milliseconds and belongs into a thread."""

    def feed(self, pcm: bytes) -> Hypothesis:
        """Hear more: whole samples, PCM16, little-endian, mono. Any number of them."""

    def finish(self) -> Hypothesis:
        """The audio has ended: settle everything. Nothing is fed afterwards."""

    def close(self) -> None:
        """Give back what the engine holds; may be called at any time, and twice."""


EngineMaker: TypeAlias = Callable[[], Engine]
