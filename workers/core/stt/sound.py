"""From the producer's audio to the wire's: 16 kHz, signed 16 bit, one channel (WIRE 2.4). Pure; soxr does the filter.

Any cut of the same bytes gives the same samples: what is not yet a whole frame waits, soxr's stream goes on where it
was, and how many samples come of so many frames is reckoned in whole numbers, never summed up in seconds.

A filter sees both sides of a sample, so what comes out is late: at most 0.12 s at 8 kHz, 0.04 s at 48 kHz (measured,
decision 35). `drain` gives the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soxr

from api_contracts.audio import SAMPLE_RATE, Encoding, SttSource
from workers.core.stt.frames import SAMPLE_BYTES

_FULL: Final = 32768.0
_QUALITY: Final = "HQ"
"""Flat up to 95 % of the narrower band. The quicker LQ takes 8 dB off a telephone's upper band (3.4 kHz of 4)."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a converter stands: the sample that the next frame begins in, how far in it, and bytes of a frame begun.

    `phase` counts parts of a sample: as many make one as the source has frames a second.
    """

    sample: int
    phase: int
    rest: bytes


class Converter:
    """Audio from one place on, without a hole. It begins as if there had been silence before."""

    def __init__(self, source: SttSource, place: Place) -> None:
        self._rate = source.sample_rate
        self._channels = source.channels
        self._width = source.frame_bytes
        self._decode = _DECODE[source.encoding]
        self._stream = None if self._rate == SAMPLE_RATE else _stream(self._rate)
        self._start = place.sample
        self._parts = place.phase
        self._rest = place.rest
        self._given = 0

    @property
    def place(self) -> Place:
        """Where it stands after all that was fed."""
        return Place(self._start + self._parts // self._rate, self._parts % self._rate, self._rest)

    def feed(self, raw: bytes) -> bytes:
        """Take bytes of the source; return the samples that are certain."""
        data = self._rest + raw if self._rest else raw
        whole = len(data) - len(data) % self._width
        self._rest = data[whole:]
        if not whole:
            return b""
        self._parts += whole // self._width * SAMPLE_RATE
        sound = self._decode(data[:whole])
        if self._channels > 1:
            sound = sound.reshape(-1, self._channels).mean(axis=1, dtype=np.float32)
        return self._give(sound if self._stream is None else self._stream.resample_chunk(sound))

    def drain(self) -> bytes:
        """Return the rest: all that was fed is out then. What is not a whole frame is dropped; feed no more."""
        self._rest = b""
        last = np.zeros(0, np.float32)
        pcm = b"" if self._stream is None else self._give(self._stream.resample_chunk(last, last=True))
        missing = self._parts // self._rate - self._given
        self._given += missing
        return pcm + bytes(missing * SAMPLE_BYTES)

    def _give(self, sound: Floats) -> bytes:
        """The filter rounds; the reckoning does not."""
        sound = sound[: max(0, self._parts // self._rate - self._given)]
        self._given += len(sound)
        pcm: Floats = np.rint(np.clip(sound * _FULL, -_FULL, _FULL - 1))
        return pcm.astype("<i2").tobytes()


def _stream(rate: int) -> "soxr.ResampleStream":
    return soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality=_QUALITY)


def _s16(data: bytes) -> Floats:
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(_FULL)


def _f32(data: bytes) -> Floats:
    """What is no number is silence, what is out of range is the loudest."""
    sound: Floats = np.nan_to_num(np.frombuffer(data, "<f4"), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.clip(sound, -1.0, 1.0).astype(np.float32)


def _mulaw(data: bytes) -> Floats:
    return _mulaw_table()[np.frombuffer(data, np.uint8)]


def _alaw(data: bytes) -> Floats:
    return _alaw_table()[np.frombuffer(data, np.uint8)]


@lru_cache(maxsize=1)
def _mulaw_table() -> Floats:
    """ITU-T G.711, table 2: all bits inverted; sign, three bits of chord, four of step; 14 bits, here of 16."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return _signed(size, code & 0x80)


@lru_cache(maxsize=1)
def _alaw_table() -> Floats:
    """ITU-T G.711, table 1: even bits inverted; sign, three bits of chord, four of step; 13 bits, here of 16."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    chord, step = code >> 4 & 7, ((code & 0x0F) << 4) + 8
    size = np.where(chord == 0, step, (step + 0x100) << np.maximum(chord - 1, 0))
    return _signed(size, ~code & 0x80)


def _signed(size: npt.NDArray[Any], negative: npt.NDArray[Any]) -> Floats:
    return (np.where(negative != 0, -size, size) / _FULL).astype(np.float32)


_DECODE: Final[Mapping[Encoding, Callable[[bytes], Floats]]] = {
    "s16": _s16, "f32": _f32, "mulaw": _mulaw, "alaw": _alaw,
}  # fmt: skip
