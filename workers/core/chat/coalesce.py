"""Fewer, larger pieces for the journal: the first at once, later ones by time or size (CHAT-02).

Pure: `now` comes in.
"""

import math
from typing import Final

_CLOSE: Final = 1e-3
"""Of an interval: so near to a moment it counts as passed. Seconds since 1970 divided by an interval are this inexact.
"""


class Coalescer:
    """Decides when pieces of an answer are published. What it returns is `(text, reasoning)`, reasoning first.

    Time is cut by moments `interval_s` (seconds) apart, the same for all that have the same `phase_s`. The first piece
    after a moment that nothing waited for goes out at once; else it waits for the next moment, for `limit_bytes`
    (UTF-8), or for the other kind: thought and text never change places, and the first text after a thought does not
    wait. The caller calls `flush` at `deadline`, and at the end.
    """

    __slots__ = ("_bytes", "_interval_s", "_limit_bytes", "_open_at", "_phase_s", "_reasoning", "_text")

    def __init__(self, interval_s: float = 0.030, limit_bytes: int = 1024, phase_s: float = 0.0) -> None:
        self._interval_s = interval_s
        self._phase_s = phase_s
        self._limit_bytes = limit_bytes
        self._open_at = -math.inf
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._bytes = 0

    @property
    def deadline(self) -> float | None:
        """When `flush` is due; None while nothing is held."""
        return self._open_at if self._text or self._reasoning else None

    def add(self, text: str, reasoning: str, now: float) -> tuple[str, str] | None:
        """Take a piece in; return what is to be published now, or None."""
        if reasoning and self._text:  # text is held, and a thought may not overtake it
            due = self._take(now)
            self._hold(text, reasoning)
            return due
        turns = bool(text) and bool(self._reasoning)
        self._hold(text, reasoning)
        if turns or now >= self._open_at or self._bytes >= self._limit_bytes:
            return self._take(now)
        return None

    def flush(self, now: float) -> tuple[str, str] | None:
        """Return what is held, or None."""
        return self._take(now)

    def _hold(self, text: str, reasoning: str) -> None:
        if text:
            self._text.append(text)
            self._bytes += _size(text)
        if reasoning:
            self._reasoning.append(reasoning)
            self._bytes += _size(reasoning)

    def _take(self, now: float) -> tuple[str, str] | None:
        if not self._text and not self._reasoning:
            return None
        held = "".join(self._text), "".join(self._reasoning)
        self._text.clear()
        self._reasoning.clear()
        self._bytes = 0
        self._open_at = self._moment_after(now)
        return held

    def _moment_after(self, now: float) -> float:
        passed = math.floor((now - self._phase_s) / self._interval_s + _CLOSE)
        return (passed + 1) * self._interval_s + self._phase_s


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
