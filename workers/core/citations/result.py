"""The result of a cited answer, from what its journal says and what its text came to."""

from collections.abc import Sequence
from typing import Any

from api_contracts.citations import CiteResult, Reference, Revision
from api_contracts.failure import Failure
from api_contracts.runs import Status
from workers.core.citations.check import Checked, Fault
from workers.core.citations.passages import Shown
from workers.core.citations.state import CiteState


def answered(
    run_id: str, state: CiteState, shown: Shown, found: Checked, references: Sequence[Reference], now: float
) -> dict[str, Any]:
    """Return the result of an answer that holds, as JSON."""
    result = CiteResult(
        run_id=run_id,
        status="completed",
        text=state.generated.text if state.generated else "",
        reasoning=state.generated.reasoning if state.generated else None,
        citations=found.citations,
        references=list(references),
        uncited=found.uncited,
        coverage=found.coverage,
        revisions=state.revisions,
        passages=len(shown.pieces),
        unread=list(shown.unread),
        usage=state.usage,
        timings=_timings(state, now),
    )
    return result.model_dump(mode="json", exclude_none=True)


def unanswered(
    run_id: str, state: CiteState, status: Status, failure: Failure | None, fault: Fault | None, now: float
) -> dict[str, Any]:
    """Return the result of a run without an answer. What did not hold is kept as a revision, never as the text."""
    revisions = list(state.revisions)
    if fault and state.generated:
        revisions.append(
            Revision(attempt=state.generated.attempt, reason=fault.reason, text=state.generated.text),
        )
    result = CiteResult(
        run_id=run_id, status=status, failure=failure, revisions=revisions, usage=state.usage,
        timings=_timings(state, now),
    )  # fmt: skip
    return result.model_dump(mode="json", exclude_none=True)


def _timings(state: CiteState, now: float) -> dict[str, float]:
    times = {"queued_s": state.started_at, "first_delta_s": state.first_delta_at, "total_s": now}
    return {name: round(max(0.0, at - state.queued_at), 4) for name, at in times.items() if at is not None}
