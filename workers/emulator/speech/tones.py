"""The sounds of `tones`, and how words become them. Says nothing about hearing; that is `tone_decoder`.

A word is a mark, three symbols and silence, 235 ms in all. A symbol is one of 4 low tones together with one of 4 high
ones, so one of 16. The first two are the word's code, the third checks them: the three are a code of distance 2, which
means that the head of one word never fits the tail of another. Every tone starts at its crest and runs for whole
periods, so the first and the last sample of a word are loud and its length can be measured to the sample.
"""

import math
import sys
from array import array
from collections.abc import Iterable
from functools import cache

from workers.emulator.speech.engine import RATE
from workers.emulator.speech.vocabulary import CODES

MARK = 800  # samples, 50 ms
SYMBOL = 720  # samples, 45 ms
SYMBOLS = 3
VOICED = MARK + SYMBOLS * SYMBOL
GAP = 800  # silence that belongs to a word
WORD = VOICED + GAP  # 235 ms: no multiple of any usual frame, so frames cut words everywhere
PAUSE = 3 * GAP  # the shortest silence between words that is meant as a pause

MARK_HZ = 1080.0
LOW_HZ = tuple(cycles * RATE / SYMBOL for cycles in (31, 35, 39, 43))  # 689 to 956
HIGH_HZ = tuple(cycles * RATE / SYMBOL for cycles in (54, 61, 68, 75))  # 1200 to 1667
LOUDNESS = 8000  # peak of 32767


class NotInVocabulary(ValueError):
    """A word that `tones` has no sound for."""


def check_symbol(first: int, second: int) -> int:
    """The third symbol. Each of its arguments is determined by the other and the result."""
    return (first + 3 * second + 5) % 16


def encode(words: Iterable[str], pause_s: float = 0.0, loudness: int = LOUDNESS) -> bytes:
    """Words as PCM16, little-endian, 16 kHz, mono. Raises NotInVocabulary.

    `pause_s` of silence follows each word on top of its own 50 ms: 0, or at least 0.1, since less counts as damage.
    """
    if 0 < pause_s < (PAUSE - GAP) / RATE:
        raise ValueError(f"a pause between words is 0 s or at least {(PAUSE - GAP) / RATE} s, not {pause_s}")
    rest = silence(pause_s)
    return b"".join(_sound(_code(word), loudness) + rest for word in words)


def silence(seconds: float) -> bytes:
    """Silence as PCM16."""
    return bytes(2 * round(seconds * RATE))


def from_pcm(pcm: bytes) -> "array[int]":
    """Little-endian PCM16 as numbers."""
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def to_pcm(samples: "array[int]") -> bytes:
    """Numbers as little-endian PCM16; inverse of `from_pcm`."""
    if sys.byteorder == "big":
        samples = array("h", samples)
        samples.byteswap()
    return samples.tobytes()


def _code(word: str) -> int:
    if word not in CODES:
        raise NotInVocabulary(f"tones cannot say {word!r}: it is not one of its {len(CODES)} words")
    return CODES[word]


@cache
def _sound(code: int, loudness: int) -> bytes:
    first, second = divmod(code, 16)
    samples = _tone((MARK_HZ,), MARK, loudness)
    for symbol in (first, second, check_symbol(first, second)):
        low, high = divmod(symbol, 4)
        samples += _tone((LOW_HZ[low], HIGH_HZ[high]), SYMBOL, loudness)
    return to_pcm(samples) + bytes(2 * GAP)


def _tone(frequencies: tuple[float, ...], length: int, loudness: int) -> "array[int]":
    turns = [2 * math.pi * frequency / RATE for frequency in frequencies]
    share = loudness / len(turns)
    return array("h", (round(share * sum(math.cos(turn * place) for turn in turns)) for place in range(length)))
