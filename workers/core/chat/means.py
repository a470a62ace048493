"""What a run may still use: the limits of its request (TOOL-16); at one of them a last answer without tools ends it.

Spend is what the answers cost, which is known once they are there. The answer that reaches the limit is made whole, and
so are its calls; the next is the last. Pure.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from api_contracts.answers import Usage
from api_contracts.chat import Limits
from api_contracts.failure import Failure
from workers.core.chat import calls
from workers.core.chat.account import Meter, cost_of
from workers.core.chat.state import ChatState
from workers.core.limits.budgets import unpriced

SPEND_EXHAUSTED: Final = Failure(
    code="spend_exhausted", category="limit", at_fault="provider",
    message="the model asked for tools although the run has spent what it may",
)  # fmt: skip


def leaves_tools(limits: Limits, state: ChatState, round_: int) -> bool:
    """Whether the next answer may call tools."""
    if state.exhausted or round_ >= limits.rounds or calls.made(state.calls) >= limits.calls:
        return False
    return limits.spend is None or _spent(state) < limits.spend


def exhausted(limits: Limits, state: ChatState) -> Failure | None:
    """Return why the calls of the newest answer are not made, or None."""
    if state.round >= limits.rounds:
        return calls.ROUNDS_EXHAUSTED
    if limits.spend is not None and _spent(state, but=state.attempt) >= limits.spend:
        return SPEND_EXHAUSTED
    return None


def not_countable(meter: Meter, state: ChatState, model: str, settings: Mapping[str, Any]) -> Failure | None:
    """Return why the model is not asked under a limit of spend: what it costs, or what was asked did, is not known."""
    if meter.request.limits.spend is None:
        return None
    tier = meter.request.service_tier or settings.get("service_tier")
    unknown = [turn.model or model for turn in state.turns if turn.cost is None]
    if not unknown and cost_of(Usage(), meter.prices.get(model), tier) is not None:
        return None
    return unpriced((unknown or [model])[0])


def _spent(state: ChatState, but: int | None = None) -> Decimal:
    """Return what all answers cost together, or all but that of an attempt."""
    told = (turn.cost for turn in state.turns if but is None or turn.attempt != but)
    return sum((cost for cost in told if cost is not None), Decimal(0))
