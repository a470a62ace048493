"""The time that a request gives its run (`deadline_s`). Pure."""

from typing import Final

from api_contracts.failure import Failure

DEADLINE_EXCEEDED: Final = Failure(
    code="deadline_exceeded", category="deadline", at_fault="caller", message="the run's deadline_s has passed"
)


def deadline_of(since: float, deadline_s: float | None) -> float | None:
    """Return when the run must have ended (seconds since 1970), or None for a request that sets no time.

    `since`: when it was queued; for a run that was reopened, when that was: it gets its time anew.
    """
    return None if deadline_s is None else since + deadline_s
