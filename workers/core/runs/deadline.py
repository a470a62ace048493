"""The time that a request gives its run (`deadline_s`), and which of several comes first. Pure."""

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


def soonest(*times: float | None) -> float | None:
    """Return the first of the times, or None where each is None. Asked for after every fact: no generator for it."""
    first: float | None = None
    for time in times:
        if time is not None and (first is None or time < first):
            first = time
    return first


def is_sooner(time: float | None, than: float | None) -> bool:
    """Whether a time comes before another; None never comes."""
    return time is not None and (than is None or time < than)
