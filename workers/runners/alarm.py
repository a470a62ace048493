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
        self._wakes_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def set(self, when: float | None) -> None:
        """Move the alarm. To a later time costs nothing: whoever sleeps looks again when it wakes."""
        self._when = when
        if self._task and when is not None and self._wakes_at <= when:
            return
        if self._task:
            self._task.cancel()
            self._task = None
        if when is not None:
            self._wakes_at = when
            self._task = asyncio.create_task(self._wait(when))

    async def _wait(self, until: float) -> None:
        while True:
            await self._clock.sleep_until(until)
            if self._when is None or self._when <= until:
                break
            self._wakes_at = until = self._when
        self._when = self._task = None
        self._ring()
