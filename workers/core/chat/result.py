"""The result of a chat, from what its journal says."""

from typing import Any

from api_contracts.chat import ChatResult
from api_contracts.failure import Failure
from api_contracts.runs import Status
from workers.core.chat.state import ChatState


def result_of(run_id: str, state: ChatState, status: Status, failure: Failure | None, now: float) -> dict[str, Any]:
    """Return the result as JSON. A run that did not complete keeps what was already said."""
    answer = state.answer
    said = {"role": "assistant", "content": "".join(state.said)} if state.said else None
    result = ChatResult(
        run_id=run_id,
        status=status,
        failure=failure,
        message=answer.message if answer else said,
        finish_reason=answer.finish_reason if answer else None,
        reasoning=answer.reasoning if answer else None,
        rounds=state.round,
        tool_calls=[call.line() for call in state.calls.values()],
        usage=state.usage,
        timings=_timings(state, now),
    )
    return result.model_dump(mode="json", exclude_none=True)


def _timings(state: ChatState, now: float) -> dict[str, float]:
    times = {"queued_s": state.started_at, "first_delta_s": state.first_delta_at, "total_s": now}
    return {name: round(max(0.0, at - state.queued_at), 4) for name, at in times.items() if at is not None}
