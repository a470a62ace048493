"""The last event of a run."""

from api_contracts.client.scripts import RESULT_BLOB
from api_contracts.runs import EventData, RunCancelled, RunCompleted, RunFailedEvent
from workers.core.runs.frame import Finish


def terminal_of(finish: Finish, *, spilled: bool) -> EventData:
    """Return the event that tells of an end; a `spilled` result stands beside the journal."""
    where = {"result_blob": RESULT_BLOB} if spilled else {"result": dict(finish.result)}
    if finish.status == "completed":
        return RunCompleted.model_validate(where)
    if finish.status == "cancelled":
        return RunCancelled.model_validate(where | {"reason": finish.reason})
    return RunFailedEvent.model_validate(where | {"failure": finish.failure})
