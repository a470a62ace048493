"""The stand-in's one clock for batches: virtual time, at a speed of its own, moved by hand if a test wants so."""

import time
from collections.abc import Callable


class VirtualClock:
    """Seconds since 1970. `speed` virtual seconds pass in a real one; 0 stands still. Time never goes back.

    `real` only has to grow; what it starts at does not matter.
    """

    def __init__(
        self, speed: float = 1.0, start: float | None = None, real: Callable[[], float] = time.monotonic
    ) -> None:
        self._real = real
        self._virtual = time.time() if start is None else start
        self._since = real()
        self._speed = _checked(speed, "speed")

    @property
    def speed(self) -> float:
        """Virtual seconds in a real one."""
        return self._speed

    def now(self) -> float:
        """The virtual time."""
        return self._virtual + (self._real() - self._since) * self._speed

    def advance(self, seconds: float) -> None:
        """Let virtual seconds pass at once. Raises ValueError if they are not from 0 to 1e9."""
        self._virtual += _checked(seconds, "seconds")

    def run_at(self, speed: float) -> None:
        """Change the speed from now on. Raises ValueError if it is not from 0 to 1e9."""
        checked = _checked(speed, "speed")
        self._virtual, self._since = self.now(), self._real()
        self._speed = checked


def _checked(value: float, name: str) -> float:
    if not 0 <= value <= 1e9:  # also refuses nan
        raise ValueError(f"{name} must be from 0 to 1e9, not {value}")
    return value
