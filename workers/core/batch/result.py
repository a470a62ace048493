"""The result of a batch, from what its journal says."""

from typing import Any

from api_contracts.batch import BatchResult, JobSummary
from api_contracts.failure import Failure
from api_contracts.runs import Status
from workers.core.batch import ids
from workers.core.batch.harvest import most_frequent
from workers.core.batch.state import BatchState, Shard


def result_of(run_id: str, state: BatchState, status: Status, failure: Failure | None, now: float) -> dict[str, Any]:
    """Return the result as JSON. A run that did not complete says how far it came."""
    result = BatchResult(
        run_id=run_id,
        status=status,
        failure=failure,
        rows=state.counts(),
        jobs=[_summary(run_id, shard) for shard in state.shards.values() if shard.submitted_at is not None],
        reasons=most_frequent(state.reasons),
        usage=state.usage,
        timings=_timings(state, now),
    )
    return result.model_dump(mode="json", exclude_none=True)


def _summary(run_id: str, shard: Shard) -> JobSummary:
    return JobSummary(
        shard=shard.number, attempt=shard.attempt, job=ids.job_id(run_id, shard.number), state=shard.job_state,
        rows=shard.rows, succeeded=shard.succeeded, failed=shard.failed, usage=shard.usage,
    )  # fmt: skip


def _timings(state: BatchState, now: float) -> dict[str, float]:
    times = {
        "queued_s": state.started_at, "validated_s": state.validated_at, "submitted_s": state.submitted_at,
        "harvested_s": state.harvested_at, "total_s": now,
    }  # fmt: skip
    return {name: round(max(0.0, at - state.queued_at), 4) for name, at in times.items() if at is not None}
