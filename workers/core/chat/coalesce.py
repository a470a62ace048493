"""Fewer, larger pieces for the journal: the first at once, later ones by time or size (CHAT-02).

Pure: `now` comes in.
"""

import math
from collections.abc import Iterable
from typing import Final

Said = tuple[str, str]
"""Text and reasoning; of both in one the reasoning comes first."""

_CLOSE: Final = 1e-3
"""Of an interval: so near to a moment it counts as passed. Seconds since 1970 divided by an interval are this inexact.
"""


class Coalescer:
    """Decides when pieces of an answer are published.

    Time is cut by moments `interval_s` (seconds) apart, the same for all that have the same `phase_s`. The first piece
    after a moment that nothing waited for goes out at once; else it waits for the next moment, for `limit_bytes`
    (UTF-8), or for the other kind: thought and text never change places, and the first text after a thought does not
    wait. The caller calls `flush` at `deadline`, and at the end.
    """

    __slots__ = ("_bytes", "_interval_s", "_limit_bytes", "_open_at", "_phase_s", "_reasoning", "_text", "_thinks")

    def __init__(self, interval_s: float = 0.030, limit_bytes: int = 1024, phase_s: float = 0.0) -> None:
        self._interval_s = interval_s
        self._phase_s = phase_s
        self._limit_bytes = limit_bytes
        self._open_at = -math.inf
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._bytes = 0
        self._thinks = False

    @property
    def deadline(self) -> float | None:
        """When `flush` is due; None while nothing is held."""
        return self._open_at if self._text or self._reasoning else None

    def quiet_until(self, now: float) -> float | None:
        """Return until when all that can come would only be held, None where something may have to go out before."""
        return self._open_at if now < self._open_at and not (self._thinks or self._text) else None

    def take(self, pieces: Iterable[Said], now: float) -> list[Said]:
        """Take in what came together; return what is to be published now."""
        is_open, due = now >= self._open_at, list[Said]()
        for text, reasoning in pieces:
            if reasoning and self._text:  # text is held, and a thought may not overtake it
                due += self.flush(now)
                self._hold(text, reasoning)
                continue
            turns = bool(text) and bool(self._reasoning)
            self._hold(text, reasoning)
            if turns or self._bytes >= self._limit_bytes:
                due += self.flush(now)
        return due + self.flush(now) if is_open else due

    def flush(self, now: float) -> list[Said]:
        """Return what is held, if anything."""
        if not self._text and not self._reasoning:
            return []
        held = "".join(self._text), "".join(self._reasoning)
        self._text.clear()
        self._reasoning.clear()
        self._bytes = 0
        self._open_at = self._moment_after(now)
        return [held]

    def _hold(self, text: str, reasoning: str) -> None:
        if text or reasoning:
            self._thinks = not text
        if text:
            self._text.append(text)
            self._bytes += _size(text)
        if reasoning:
            self._reasoning.append(reasoning)
            self._bytes += _size(reasoning)

    def _moment_after(self, now: float) -> float:
        passed = math.floor((now - self._phase_s) / self._interval_s + _CLOSE)
        return (passed + 1) * self._interval_s + self._phase_s


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
