"""What is told of a job when it was seen: the events that are news to the run, or none."""

from collections.abc import Collection
from typing import Final

from api_contracts.batch import BatchProgress, BatchState, BatchTrouble
from api_contracts.runs import EventData
from workers.core.batch import jobs
from workers.core.batch.jobs import JobView
from workers.core.batch.state import Shard

_YOUNG_S: Final = 120.0
"""A job that was created a moment ago may not be found yet."""


def news_of(
    shard: Shard, view: JobView, unknown_states: Collection[str], now: float, inbox: str | None, *, stopped: bool
) -> list[EventData]:
    """Return the events. Views may come late and twice: counters do not go back, and what is over stays over.

    `stopped` says that we had the job stopped, so that it may well be gone.
    """
    young = not stopped and now < (shard.submitted_at or 0.0) + _YOUNG_S
    if shard.stage != "submitted" or (view.state == jobs.GONE and young):
        return []
    events: list[EventData] = []
    if view.group == "unknown" and view.state not in unknown_states:
        events.append(BatchTrouble(kind="unknown_state", shard=shard.number, message=view.state, inbox=inbox))
    if view.progress != shard.progress and view.progress.processed >= shard.progress.processed:
        events.append(_progress(shard, view, inbox))
    if view.state != shard.job_state:
        events.append(
            BatchState(
                shard=shard.number,
                state=view.state,
                group=view.group,
                code=view.code,
                message=view.message,
                inbox=inbox,
            )
        )
    return events


def _progress(shard: Shard, view: JobView, inbox: str | None) -> BatchProgress:
    seen = view.progress
    return BatchProgress(
        shard=shard.number, rows=shard.rows, processed=seen.processed, succeeded=seen.succeeded, failed=seen.failed,
        input_tokens=seen.input_tokens, output_tokens=seen.output_tokens, cached_tokens=seen.cached_tokens, inbox=inbox,
    )  # fmt: skip
