"""The budgets of one run (OPS-12): the most that an attempt can cost is reserved before it, what it did cost settled.

Without the store nobody is asked: an attempt that no book has is one that can overshoot, and a run cannot go on without
Redis anyway. What is not settled stays spent until the window of its budget ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from api_contracts.failure import Failure
from api_contracts.metering import Price
from workers.core.chat.assembler import Answer
from workers.core.chat.ceiling import Ceiling, ceiling_of, units_of
from workers.core.circuit import is_refusal
from workers.core.limits.budgets import Purse, not_known, over_budget, too_small
from workers.core.limits.costs import is_held_back
from workers.ports import Budgets, Clock, KeysDamaged, ProviderFailed, StoreUnavailable

_log = structlog.get_logger(__name__)

_MAY_HAVE_COST: Final = 408
"""A status at which the provider may have read the prompt, as at 500 and over, which also break answers off."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What an attempt may be made with: its reservation, and the body to send."""

    id: str
    ceiling: Ceiling

    @property
    def body(self) -> Mapping[str, Any]:
        """What to send."""
        return self.ceiling.body


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the performer of a run under budgets asks before and tells after each attempt. At least one purse."""

    run_id: str
    purses: Sequence[Purse]
    prices: Mapping[str, Price]
    budgets: Budgets
    clock: Clock

    async def reserve(self, attempt: int, body: Mapping[str, Any]) -> Reserved:
        """Reserve the most that the attempt can cost; raise `ProviderFailed` for one that may not be made now."""
        ceiling = ceiling_of(body, self.prices)
        if isinstance(ceiling, Failure):
            raise ProviderFailed(ceiling)
        for purse in self.purses:
            if ceiling.units > purse.limit:
                raise ProviderFailed(too_small(purse.name))
        # An attempt is asked for once in the life of a run, but a summary (attempt 0) in each.
        reservation = f"{self.run_id}.{attempt}.{round(self.clock.now() * 1000)}"
        try:
            told = await self.budgets.reserve(self.purses, reservation, ceiling.units)
        except (StoreUnavailable, KeysDamaged) as exc:
            _log.warning("budget.not_known", error=str(exc))
            raise ProviderFailed(not_known()) from exc
        if not told.granted:
            raise ProviderFailed(over_budget(self.purses[told.by].name, told.wait_s))
        return Reserved(reservation, ceiling)

    async def settle(self, reserved: Reserved, verdict: Answer | Failure) -> None:
        """Tell what the attempt did cost. Where nobody knows, what was reserved stays spent."""
        spent = self._spent(reserved, verdict)
        if spent is None:
            return
        try:
            await self.budgets.settle(self.purses, reserved.id, spent)
        except (StoreUnavailable, KeysDamaged) as exc:
            _log.warning("budget.not_settled", error=str(exc))

    def _spent(self, reserved: Reserved, verdict: Answer | Failure) -> int | None:
        if isinstance(verdict, Answer):
            tier = verdict.details.get("service_tier") or reserved.body.get("service_tier")
            return units_of(verdict.usage, self.prices.get(str(reserved.body["model"])), tier)
        if is_refusal(verdict) or is_held_back(verdict):
            return 0
        status = verdict.provider_status or _MAY_HAVE_COST
        return 0 if 400 <= status < 500 and status != _MAY_HAVE_COST else None
