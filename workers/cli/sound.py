"""Sound for `transcribe`: what a WAV header says, how raw bytes become pieces, when each piece is due. Pure.

It reads through a callable and never waits; it must not know of files, threads and sessions. The header is read here,
not by the standard library's `wave`, which does not say what it refuses, and takes a pipe's header at its word.
"""

import shlex
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from api_contracts.stt import SAMPLE_RATE

Read = Callable[[int], bytes]
"""Return at most so many bytes; none at the end."""

SAMPLE_BYTES: Final = 2
PIECE_S: Final = 0.1
PIECE_BYTES: Final = int(SAMPLE_RATE * PIECE_S) * SAMPLE_BYTES
HEAD_BYTES: Final = 12
"""As many bytes tell a WAV file from other sound."""

MOST_BEHIND_S: Final = 1.0
"""Sound that is later than this is not caught up with: it goes on from now at its own speed."""

_PCM, _EXTENSIBLE = 1, 0xFFFE
_FORMATS: Final = {1: "PCM", 2: "ADPCM", 3: "floating point", 6: "A-law", 7: "mu-law", 17: "ADPCM", 85: "MP3"}
_OPEN_ENDED: Final = (0, 0xFFFFFFFF)
"""Lengths that a program writes which does not know the length: it writes to a pipe."""
_SKIPPED_AT_ONCE: Final = 64 * 1024


class NotWav(ValueError):
    """The bytes are no WAV file that can be understood."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the samples of a WAV file are. `length` is their bytes, as the header says."""

    format: int
    channels: int
    rate: int
    bits: int
    length: int

    def __str__(self) -> str:
        channels = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        return f"{self.rate} Hz, {channels}, {self.bits} bit {_FORMATS.get(self.format, f'format {self.format}')}"

    @property
    def is_wire_form(self) -> bool:
        """Whether the samples can be sent as they are."""
        return (self.format, self.channels, self.rate, self.bits) == (_PCM, 1, SAMPLE_RATE, 8 * SAMPLE_BYTES)

    @property
    def limit(self) -> int | None:
        """How many bytes of sound follow; None for as many as there are."""
        return None if self.length in _OPEN_ENDED else self.length


def is_wav(head: bytes) -> bool:
    """Return whether these first bytes are those of a WAV file."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def read_form(read: Read) -> Form:
    """Read on behind the head, up to the first sample. Raises NotWav."""
    form: tuple[int, int, int, int] | None = None
    while True:
        name, size = struct.unpack("<4sI", exactly(read, 8))
        if name == b"data":
            if form is None:
                raise NotWav("its samples come before their description")
            return Form(*form, length=size)
        size += size % 2
        if name == b"fmt ":
            form = _described(exactly(read, size))
            continue
        for start in range(0, size, _SKIPPED_AT_ONCE):
            exactly(read, min(_SKIPPED_AT_ONCE, size - start))


def _described(body: bytes) -> tuple[int, int, int, int]:
    if len(body) < 16:
        raise NotWav("its description is cut off")
    kind, channels, rate, bits = struct.unpack("<HHI6xH", body[:16])
    if kind == _EXTENSIBLE and len(body) >= 26:
        kind = int.from_bytes(body[24:26], "little")
    return kind, channels, rate, bits


def exactly(read: Read, size: int) -> bytes:
    """Read so many bytes. Raises NotWav when there are not."""
    found = up_to(read, size)
    if len(found) < size:
        raise NotWav("it ends in its header")
    return found


def up_to(read: Read, size: int) -> bytes:
    """Read so many bytes, or what there is before the end: a pipe gives them as they come."""
    parts, missing = [], size
    while missing > 0 and (part := read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def pieces(read: Read, head: bytes = b"", limit: int | None = None) -> Iterator[bytes]:
    """Yield sound in pieces of `PIECE_BYTES`, the last one as it is; `head` comes first."""
    left = limit
    while left is None or left > 0:
        size = PIECE_BYTES if left is None else min(PIECE_BYTES, left)
        piece, head = head[:size], head[size:]
        piece += up_to(read, size - len(piece))
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


class Pace:
    """When the next piece is due, in seconds of any one clock: never ahead of the sound's own time by `speed`."""

    def __init__(self, speed: float, start: float) -> None:
        self._speed = speed
        self._due = start

    def next(self, piece: bytes, now: float) -> float:
        """Return when this piece is due. `now` shows how late the sound is."""
        due = max(self._due, now - MOST_BEHIND_S)
        self._due = due + len(piece) / (SAMPLE_BYTES * SAMPLE_RATE * self._speed)
        return due


def refusal(name: str, what: str) -> str:
    """Return the one line that says what `name` is, what is needed, and how to get there."""
    wanted = f"-ar {SAMPLE_RATE} -ac 1"
    if name == "-":
        said, how = "standard input", f"ffmpeg -i - {wanted} -f s16le - | fireworks-workers transcribe -"
    else:
        made = f"{PurePath(name).with_suffix('')}-16k.wav"
        said, how = name, f"ffmpeg -i {shlex.quote(name)} {wanted} -c:a pcm_s16le {shlex.quote(made)}"
    return f"{said} is {what}; {SAMPLE_RATE} Hz, mono, 16 bit PCM is needed: {how}"
