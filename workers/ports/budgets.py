"""The budgets, as all workers keep them together."""

from collections.abc import Sequence
from typing import Protocol

from workers.core.limits.budgets import Purse, Told


class Budgets(Protocol):
    """The books of `core.limits.budgets`. `reservation` is the id of one, `amount` in its units; at least one purse.

    Both methods raise `StoreUnavailable` and `KeysDamaged`; asked again after that they count once.
    """

    async def reserve(self, purses: Sequence[Purse], reservation: str, amount: int) -> Told:
        """Reserve an amount in all purses, or in none and say when to ask again."""
        ...

    async def settle(self, purses: Sequence[Purse], reservation: str, amount: int) -> None:
        """Put what was spent in the place of what was reserved."""
        ...
