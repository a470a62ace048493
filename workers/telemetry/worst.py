"""The worst of late: a gauge of what comes often and is asked for seldom."""

import time
from collections.abc import Callable
from typing import Final

_WINDOW_S: Final = 10.0


class WorstLately:
    """The largest value of the last 10 to 20 seconds; 0 when there was none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now = self._before = 0.0
        self._until = clock() + _WINDOW_S

    def note(self, value: float) -> None:
        """Take a value."""
        self._turn()
        self._now = max(self._now, value)

    def __call__(self) -> float:
        """Return the worst."""
        self._turn()
        return max(self._now, self._before)

    def _turn(self) -> None:
        now = self._clock()
        if now >= self._until:
            self._before = self._now if now < self._until + _WINDOW_S else 0.0
            self._now, self._until = 0.0, now + _WINDOW_S
