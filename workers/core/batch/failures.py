"""The failures that a batch meets by itself."""

from collections.abc import Mapping
from typing import Final

from api_contracts.failure import Failure

NOT_READY: Final = Failure(
    code="dataset_not_ready", category="timeout", at_fault="provider",
    message="a dataset holds its rows, but did not become READY within an hour",
)  # fmt: skip
NO_OUTPUT: Final = Failure(
    code="output_missing", category="not_found", at_fault="provider", retryable=True,
    message="the job is completed, but its output is not there yet",
)  # fmt: skip
DOES_NOT_ADD_UP: Final = Failure(
    code="rows_do_not_add_up", category="internal", at_fault="us",
    message="the rows that succeeded, failed, were set aside or are pending are not those that were submitted",
)  # fmt: skip
TOO_MANY_SHARDS: Final = Failure(
    code="too_many_shards", category="limit", at_fault="caller",
    message="the rows make more than 2000 shards: raise 'shard_rows' or 'shard_bytes', or submit less at once",
)  # fmt: skip
MOST_SHARDS: Final = 2000


def no_rows(reasons: Mapping[str, int]) -> Failure:
    """Return the failure of a run that has nothing to submit."""
    why = ", ".join(f"{code}: {count}" for code, count in list(reasons.items())[:5])
    message = f"no row could be submitted ({why})" if why else "the input has no rows"
    return Failure(code="no_valid_rows", category="bad_request", message=message, at_fault="caller")
