"""Cuts a stream of bytes into frames for the wire (WIRE 2.4), whatever the sizes it comes in. Pure.

It knows bytes, and that a sample has two of them; not where they lie on the timeline.
"""

from typing import Final

from api_contracts.stt import SAMPLE_RATE

SAMPLE_BYTES: Final = 2
FRAME_BYTES: Final = SAMPLE_RATE // 10 * SAMPLE_BYTES
"""100 ms (FEAT D3)."""

LEAST_BYTES: Final = SAMPLE_RATE // 20 * SAMPLE_BYTES
"""50 ms: the shortest frame that the provider documents."""


class Framer:
    """Every byte fed comes out once, in order, in frames of 100 ms; the rest is held until `flush`."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._held)

    def feed(self, pcm: bytes) -> list[bytes]:
        """Take bytes in; return the frames that are full."""
        held = self._held + pcm if self._held else pcm
        full = len(held) - len(held) % FRAME_BYTES
        self._held = held[full:]
        if full == FRAME_BYTES == len(held):
            return [held]
        return [held[at : at + FRAME_BYTES] for at in range(0, full, FRAME_BYTES)]

    def flush(self) -> tuple[bytes, int]:
        """Return the whole samples that are held, and how many bytes of silence at their end are not the speaker's.

        Silence fills a frame up to what the provider documents as the shortest. Half a sample stays.
        """
        whole = len(self._held) - len(self._held) % SAMPLE_BYTES
        frame, self._held = self._held[:whole], self._held[whole:]
        padding = max(0, LEAST_BYTES - whole) if frame else 0
        return frame + bytes(padding), padding

    def drop_half(self) -> None:
        """Forget the first byte of a sample whose second will never come."""
        self._held = self._held[: len(self._held) - len(self._held) % SAMPLE_BYTES]
