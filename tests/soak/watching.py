"""Memory of processes over time, from /proc and from Redis, and how fast it grows."""

import statistics
from dataclasses import dataclass, field

MOST_MB_A_MINUTE = 1.0
"""Memory that grows more slowly is flat."""
ENOUGH_S = 120.0
"""A shorter look tells nothing of growth: it is warming up, and the sessions that come and go."""


@dataclass
class Curve:
    """What one process held, sample by sample: seconds since the beginning of the soak, and MB."""

    name: str
    born_s: float
    points: list[tuple[float, float]] = field(default_factory=list)

    def add(self, at_s: float, mb: float) -> None:
        self.points.append((round(at_s, 1), round(mb, 2)))

    @property
    def peak_mb(self) -> float:
        return max((mb for _, mb in self.points), default=0.0)

    def slope(self, from_s: float, to_s: float) -> float | None:
        """Return MB a minute by least squares within these seconds; None if that is not long enough to tell."""
        inside = [(at, mb) for at, mb in self.points if from_s <= at <= to_s]
        if len(inside) < 3 or inside[-1][0] - inside[0][0] < ENOUGH_S:
            return None
        times, sizes = zip(*inside, strict=True)
        return statistics.linear_regression(times, sizes).slope * 60
