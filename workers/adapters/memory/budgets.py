"""`Budgets` in memory: the rules as they stand in the core, on a clock that is given."""

from collections.abc import Sequence

from workers.core.limits import budgets
from workers.core.limits.budgets import Book, Purse, Told
from workers.ports import Clock


class MemoryBudgets:
    """See the port. It forgets no book: it lives as long as a test."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.books: dict[tuple[str, tuple[str, ...]], Book] = {}

    async def reserve(self, purses: Sequence[Purse], reservation: str, amount: int) -> Told:
        """See the port."""
        return budgets.reserve(self._of(purses), purses, reservation, amount, self._clock.now())

    async def settle(self, purses: Sequence[Purse], reservation: str, amount: int) -> None:
        """See the port."""
        budgets.settle(self._of(purses), purses, reservation, amount, self._clock.now())

    def _of(self, purses: Sequence[Purse]) -> list[Book]:
        return [self.books.setdefault((purse.name, purse.values), Book()) for purse in purses]
