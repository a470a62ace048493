"""Money in the simulated world: a budget that somebody else has spent, so that whoever asks waits for its next window.

It has room for one answer at the most that it can cost and a little more, so what the dead had reserved makes others
wait, too.
"""

from decimal import Decimal
from typing import Any, Final

from api_contracts.metering import Budget, Price
from workers.adapters.memory.budgets import MemoryBudgets
from workers.core.limits.budgets import Book, purses_of
from workers.ports import Clock

PRICES: Final = {"m": Price(prompt=Decimal(1), completion=Decimal(1))}
LIMITS: Final = {"all": Budget(limit=Decimal("0.007"), window_s=60)}
MOST_TOKENS: Final = 100
USAGE: Final[dict[str, Any]] = {"prompt_tokens": 500, "completion_tokens": 50}
"""What each answer takes, as the provider tells it."""


class Books(MemoryBudgets):
    """The books, of which the present window is spent."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        (self._purse,) = purses_of(LIMITS, "default", {})
        begins = clock.now() // self._purse.window_s * self._purse.window_s
        self.next_at = begins + self._purse.window_s
        """When the next window begins: before, nobody may ask."""
        self.books[self._purse.name, self._purse.values] = Book(begins, self._purse.limit)

    def wipe(self) -> None:
        """Lose everything."""
        self.books.clear()

    def faults(self) -> list[str]:
        """Say what must not be when somebody asks the model, as long as nothing was wiped."""
        now = self._clock.now()
        book = self.books[self._purse.name, self._purse.values]
        wrong = [f"it was asked {self.next_at - now:.1f} s before there was money"] if now < self.next_at else []
        spent = book.settled + sum(book.open.values())
        return wrong + ([f"{spent} of {self._purse.limit} are spent"] if spent > self._purse.limit else [])
