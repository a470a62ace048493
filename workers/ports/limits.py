"""The provider's limits, as all workers keep them together."""

from typing import Protocol

from workers.core.limits.meters import Amounts, Fixed, Lane, Told, Word


class Limiter(Protocol):
    """The meters of each account and model. `account` is the name of a credential, None the process's own key.

    Both methods raise `StoreUnavailable` and `KeysDamaged`. `fixed` are an operator's limits.
    """

    async def ask(self, account: str | None, model: str, lane: Lane, cost: Amounts, word: Word, fixed: Fixed) -> Told:
        """Take `word`, then let a request in or say when to ask again. What was let in is paid for already."""
        ...

    async def hear(self, account: str | None, model: str, word: Word, fixed: Fixed) -> None:
        """Take what answers told."""
        ...
