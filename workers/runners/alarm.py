"""One pending moment on the Clock port."""

import asyncio
from collections.abc import Callable

from workers.ports import Clock


class Alarm:
    """Calls `ring` once when the time that was last set has come; None sets it off."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._when: float | None = None
        self._task: asyncio.Task[None] | None = None

    def set(self, when: float | None) -> None:
        """Move the alarm; the same time again costs nothing."""
        if when == self._when:
            return
        self._when = when
        if self._task:
            self._task.cancel()
        self._task = None if when is None else asyncio.create_task(self._wait(when))

    async def _wait(self, when: float) -> None:
        await self._clock.sleep_until(when)
        self._when = self._task = None
        self._ring()
