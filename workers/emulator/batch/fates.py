"""What becomes of each row, and in which order rows are answered. Pure: functions of a row's place and the seed."""

from dataclasses import dataclass
from math import gcd
from random import Random
from typing import Literal, TypeAlias

from workers.emulator.batch.faults import BatchFaults, chosen
from workers.emulator.batch.schedule import Amount

Fate: TypeAlias = Literal["answered", "failed", "missing", "corrupt", "doubled", "both"]
_FATES: dict[str, Fate] = {
    "fail_rows": "failed",
    "miss_rows": "missing",
    "corrupt_rows": "corrupt",
    "double_rows": "doubled",
    "both_rows": "both",
}


@dataclass(frozen=True)
class Shuffle:
    """A shuffle of 0 ... size - 1 that needs no list. With two or more it is never the order itself."""

    size: int
    factor: int
    shift: int

    def __getitem__(self, place: int) -> int:
        """What comes at this place."""
        return (place * self.factor + self.shift) % self.size


def shuffled(size: int, seed: str) -> Shuffle:
    """The shuffle of a seed."""
    rng = Random(seed)
    if size < 2:
        return Shuffle(max(1, size), 1, 0)
    factor = next(each for each in iter(lambda: rng.randrange(1, size), 0) if gcd(each, size) == 1)
    return Shuffle(size, factor, rng.randrange(1, size))  # a shift that is not 0 moves the first one at least


class Fates:
    """The fates of a job's rows. Counts and shares are exact, and choose different rows."""

    def __init__(self, faults: BatchFaults, total: int, seed: str) -> None:
        self._total = total
        self._ranks = shuffled(total, f"{seed} fates")
        self._choices = []
        taken = 0
        for name, rows in faults.rows:
            self._choices.append((_FATES[name], rows, taken))
            taken += rows.of(total) if isinstance(rows, Amount) else 0

    def of(self, index: int, custom_id: str) -> Fate:
        """The fate of the row at this place of the input."""
        rank = self._ranks[index]
        for fate, rows, taken in self._choices:
            if chosen(rows, custom_id, rank, taken, self._total):
                return fate
        return "answered"
