"""The result of a chat, from what its journal says."""

from decimal import Decimal
from typing import Any

from api_contracts.chat import ChatResult
from api_contracts.failure import Failure
from api_contracts.runs import Status
from workers.core.chat.state import ChatState


def result_of(run_id: str, state: ChatState, status: Status, failure: Failure | None, now: float) -> dict[str, Any]:
    """Return the result as JSON. A run that did not complete keeps what was already said."""
    answer = state.answer
    said = {"role": "assistant", "content": "".join(state.said)} if state.said else None
    if (state.interrupted or state.unanswered) and not answer:
        before = next((each.get("content") for each in reversed(state.messages) if each["role"] == "assistant"), None)
        said = {"role": "assistant", "content": before or ""}
    result = ChatResult(
        run_id=run_id,
        status=status,
        failure=failure,
        message=answer.message if answer else said,
        finish_reason=answer.finish_reason if answer else None,
        reasoning=answer.reasoning if answer else None,
        details=answer.details or {} if answer else {},
        choices=answer.choices or [] if answer else [],
        rounds=state.round,
        tool_calls=[call.line() for call in state.calls.values()],
        interrupted=state.interrupted,
        usage=state.usage,
        cost=_cost(state),
        timings=_timings(state, now),
        turns=state.turns,
    )
    return result.model_dump(mode="json", exclude_none=True)


def _cost(state: ChatState) -> Decimal | None:
    """Return what all answers cost; a sum without one of them would be wrong, so then it is None."""
    costs = [turn.cost for turn in state.turns]
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if known and len(known) == len(costs) else None


def _timings(state: ChatState, now: float) -> dict[str, float]:
    times = {"queued_s": state.started_at, "first_delta_s": state.first_delta_at, "total_s": now}
    return {name: round(max(0.0, at - state.queued_at), 4) for name, at in times.items() if at is not None}
