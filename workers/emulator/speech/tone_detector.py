"""What a stretch of samples sounds like to `tones`: which tones, how pure, how late. Pure; knows no words.

It listens to every fourth sample (all tones lie below 2 kHz) and correlates with the few tones that may occur, which
is what makes hundreds of streams fit one core without numpy.
"""

import math
from array import array
from dataclasses import dataclass
from operator import mul

from workers.emulator.speech.engine import RATE
from workers.emulator.speech.tones import HIGH_HZ, LOW_HZ, MARK, MARK_HZ, SYMBOL

_EVERY = 4
_PURITY = 0.9  # share of the energy that must lie in the expected tones
_LEAST = 0.25  # of it in each of the two tones of a symbol; nominal is a half


@dataclass(frozen=True)
class Sounded:
    """A tone or symbol. `delays` in samples against a tone at its crest at once, low to high; `purity` is 0 to 1."""

    symbol: int
    delays: tuple[float, ...]
    purity: float


class _Probe:
    """One tone to look for in `length` samples."""

    def __init__(self, frequency: float, length: int) -> None:
        turns = [2 * math.pi * frequency * place / RATE for place in range(0, length, _EVERY)]
        self._cosine = [math.cos(turn) for turn in turns]
        self._sine = [math.sin(turn) for turn in turns]
        self._per_sample = 2 * math.pi * frequency / RATE

    def energy(self, samples: list[float]) -> tuple[float, float]:
        """The energy in this tone, and how late it is."""
        real = sum(map(mul, samples, self._cosine))
        imaginary = sum(map(mul, samples, self._sine))
        energy = 2 * (real * real + imaginary * imaginary) / len(samples)
        return energy, math.atan2(imaginary, real) / self._per_sample


_MARK = _Probe(MARK_HZ, MARK)
_LOW = tuple(_Probe(frequency, SYMBOL) for frequency in LOW_HZ)
_HIGH = tuple(_Probe(frequency, SYMBOL) for frequency in HIGH_HZ)
_HALF = SYMBOL // 2
_ANY = tuple(_Probe(frequency, _HALF) for frequency in (*LOW_HZ, MARK_HZ, *HIGH_HZ))


def hear_mark(samples: "array[int]", at: int) -> Sounded | None:
    """The mark, if that is what the MARK samples from `at` are."""
    block = _thinned(samples, at, MARK)
    total = sum(map(mul, block, block))
    energy, delay = _MARK.energy(block)
    return Sounded(-1, (delay,), energy / total) if total and energy >= _PURITY * total else None


def hear_symbol(samples: "array[int]", at: int) -> Sounded | None:
    """The symbol in the SYMBOL samples from `at`, if they are one."""
    block = _thinned(samples, at, SYMBOL)
    total = sum(map(mul, block, block))
    low_energy, low_delay, low = _strongest(_LOW, block)
    high_energy, high_delay, high = _strongest(_HIGH, block)
    if min(low_energy, high_energy) < _LEAST * total or low_energy + high_energy < _PURITY * total or not total:
        return None
    return Sounded(4 * low + high, (low_delay, high_delay), (low_energy + high_energy) / total)


def sounds_like_tones(samples: "array[int]") -> bool:
    """Whether anything in the samples is what only `tones` makes: half a symbol of nothing but its frequencies."""
    starts = range(0, len(samples) - _HALF + 1, _HALF // 2)
    return any(_is_tonal(_thinned(samples, start, _HALF)) for start in starts)


def _is_tonal(block: list[float]) -> bool:
    total: float = sum(map(mul, block, block))
    energies = sorted((probe.energy(block)[0] for probe in _ANY), reverse=True)
    return total > 0 and sum(energies[:2]) >= _PURITY * total


def _strongest(probes: tuple[_Probe, ...], block: list[float]) -> tuple[float, float, int]:
    found = [(*probe.energy(block), place) for place, probe in enumerate(probes)]
    return max(found)


def _thinned(samples: "array[int]", at: int, length: int) -> list[float]:
    return [float(sample) for sample in samples[at : at + length : _EVERY]]
