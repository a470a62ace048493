"""How long SQL keeps what has ended: what is old, and taking it away piece by piece."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, order=True)
class OldRun:
    """A finished run that SQL keeps, ordered by its end (seconds since 1970)."""

    finished_at: float
    run_id: str


@dataclass(frozen=True, slots=True)
class Stray:
    """A batch with rows and without a result. `missing_since`: when its journal was first not found, if it was."""

    run_id: str
    missing_since: float | None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What one piece took away. `more`: rows of these runs are left, and the runs with them."""

    runs: int
    rows: int
    more: bool


class Keeping(Protocol):
    """Finished runs and their batches' rows in SQL. Every call raises `StoreUnavailable`. Several may take away the
    same at once: each record is counted by one of them.
    """

    async def old(self, before: float, after: OldRun | None, limit: int) -> list[OldRun]:
        """Return runs that ended before `before`, the oldest first, from behind `after` on."""
        ...

    async def strays(self, after: str, limit: int) -> list[Stray]:
        """Return batches of which SQL has no result, in the order of their ids, from behind `after` on."""
        ...

    async def note(self, missing: Sequence[str], found: Sequence[str], now: float) -> None:
        """Note of strays whether their journals are there: since when not is kept until one is found."""
        ...

    async def forget(self, run_ids: Sequence[str], before: float, most_rows: int) -> Forgotten:
        """Take away those that still ended before `before`: at most so many rows of batches, then all that is left."""
        ...

    async def forget_strays(self, run_ids: Sequence[str], before: float, most_rows: int) -> Forgotten:
        """The same for strays whose journals have been missing since before `before`, and that have no result yet."""
        ...
