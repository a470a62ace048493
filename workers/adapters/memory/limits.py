"""`Limiter` in memory: the rules as they stand in the core, on a clock that is given."""

from workers.core.limits.meters import Amounts, Fixed, Lane, Meter, ModelMeters, Told, Word
from workers.ports import Clock


class MemoryLimiter:
    """See the port. It forgets nothing: it lives as long as a test."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.accounts: dict[str | None, Meter] = {}
        self.models: dict[tuple[str | None, str], ModelMeters] = {}

    async def ask(self, account: str | None, model: str, lane: Lane, cost: Amounts, word: Word, fixed: Fixed) -> Told:
        """See the port."""
        now = self._clock.now()
        meters = self._of(account, model, fixed)
        meters.hear(word, now)
        return meters.ask(lane, cost, now)

    async def hear(self, account: str | None, model: str, word: Word, fixed: Fixed) -> None:
        """See the port."""
        self._of(account, model, fixed).hear(word, self._clock.now())

    def _of(self, account: str | None, model: str, fixed: Fixed) -> ModelMeters:
        requests = self.accounts.setdefault(account, Meter())
        meters = self.models.setdefault((account, model), ModelMeters.of(requests))
        meters.fixed = fixed
        return meters
