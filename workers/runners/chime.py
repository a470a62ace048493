"""The moments at which the chats of a process publish what they hold: the same for all of them.

A hundred chats with a timer each would say little and often: a hundred trips to Redis, each with one append. Waking
together they share one timer and, as what is decided in one turn of the loop leaves together, one trip.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from workers.ports import Clock

INTERVAL_S: Final = 0.030
"""How long a piece of an answer is held at most, in seconds (CHAT-02)."""


class Chime:
    """The moments of a process: multiples of `INTERVAL_S` on the clock, moved by `phase_s`.

    Processes are given different phases, or all of them would call Redis at the same time.
    """

    def __init__(self, clock: Clock, phase_s: float = 0.0) -> None:
        self.phase_s = phase_s
        self._clock = clock
        self._waiting: dict[float, dict[Timer, None]] = {}
        self._tasks: dict[float, asyncio.Task[None]] = {}

    def timer(self, ring: Callable[[], None]) -> "Timer":
        """Return a timer that is off."""
        return Timer(self, ring)

    def join(self, when: float, timer: "Timer") -> None:
        """Have `timer` hear of it when the time has come. Called by the timer."""
        if when not in self._waiting:
            self._waiting[when] = {}
            self._tasks[when] = asyncio.create_task(self._wait(when), name="chime")
        self._waiting[when][timer] = None

    def leave(self, when: float, timer: "Timer") -> None:
        """Take that back; nobody sleeps for a moment that nobody waits for. Called by the timer."""
        waiting = self._waiting.get(when, {})
        waiting.pop(timer, None)
        if not waiting and when in self._tasks:
            del self._waiting[when]
            self._tasks.pop(when).cancel()

    async def _wait(self, when: float) -> None:
        await self._clock.sleep_until(when)
        del self._tasks[when]
        for timer in self._waiting.pop(when):
            timer.due()


class Timer:
    """Calls `ring` once when the time that was last set has come; None sets it off."""

    def __init__(self, chime: Chime, ring: Callable[[], None]) -> None:
        self._chime = chime
        self._ring = ring
        self._when: float | None = None

    def set(self, when: float | None) -> None:
        """Move it; the same time again costs nothing."""
        if when == self._when:
            return
        if self._when is not None:
            self._chime.leave(self._when, self)
        self._when = when
        if when is not None:
            self._chime.join(when, self)

    def close(self) -> None:
        """Set it off for good, and let go of whom it rang for, who holds it."""
        self.set(None)
        self._ring = _nobody

    def due(self) -> None:
        """Ring. Called by the chime."""
        self._when = None
        self._ring()


def _nobody() -> None:
    """Ring for nobody."""
