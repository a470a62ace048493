"""The time that a request gives its run (`deadline_s`). Pure."""

from typing import Final

from api_contracts.failure import Failure

DEADLINE_EXCEEDED: Final = Failure(
    code="deadline_exceeded", category="deadline", at_fault="caller", message="the run's deadline_s has passed"
)


def deadline_of(queued_at: float, deadline_s: float | None) -> float | None:
    """Return when the run must have ended (seconds since 1970), or None for a request that sets no time."""
    return None if deadline_s is None else queued_at + deadline_s
