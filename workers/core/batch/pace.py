"""When to look at a job, when to try a step again, when a promise looks broken. Pure arithmetic on seconds."""

from typing import Final

from api_contracts.failure import Failure
from workers.core.retry import backoff_s, spread_s

SHORTEST_S, _LONGEST_S = 30.0, 300.0
"""Between two looks at a job (FEAT D3). The provider's own scheduler ticks about every 60 s (WIRE 3.6)."""
_LONGEST_FALLBACK_S: Final = 3600.0
_NEAR_EXPIRY_S, _NEAR_EXPIRY_EVERY_S = 900.0, 60.0

BUDGET: Final = 40
"""Failures in a row of one step. With the pauses below that is about two hours: a batch may outlast an outage."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LONGEST_WISH_S = 2.0, 300.0, 3600.0

_LONGEST_JOB_S: Final = 73 * 3600.0
"""A job has at most 72 h (WIRE 3.5)."""
_GRACE_S: Final = 3600.0

_WORRY_SHARE: Final = 0.8
"""Without any progress to reckon from, a promise is at risk when so much of its time is over."""


def poll_s(age_s: float, quiet_s: float, done: float, to_expiry_s: float | None) -> float:
    """Return how long to wait before the next look at a job.

    `age_s` since it was submitted, `quiet_s` since it last changed, `done` from 0 to 1. A job that is quiet is looked
    at less and less; one that will be done soon, or expires soon, more often.
    """
    wait = min(max(quiet_s / 2, SHORTEST_S), _LONGEST_S)
    if done > 0:
        rest_s = max(0.0, age_s) * (1 - min(done, 1.0)) / done
        wait = min(wait, max(rest_s / 2, SHORTEST_S))
    if to_expiry_s is not None and to_expiry_s < _NEAR_EXPIRY_S:
        wait = min(wait, _NEAR_EXPIRY_EVERY_S)
    return wait


def fallback_s(poll: float, quiet_s: float) -> float:
    """Return how long a run waits for the poller before it looks itself: one that lives has had its turn by then.

    A job that has not changed for hours is looked at once an hour: each look wakes a worker.
    """
    return max(2 * poll + 60.0, min(quiet_s / 4, _LONGEST_FALLBACK_S))


def pause_s(failure: Failure, failures: int, jitter: float) -> float | None:
    """Return how long to wait after the `failures`-th failure in a row, or None to give the step up.

    `jitter` is a random number from 0 to 1. A Retry-After is a lower bound, up to an hour.
    """
    if not failure.retryable or failures >= BUDGET:
        return None
    backoff = backoff_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, failures, 1.0)
    return spread_s(backoff, min(failure.retry_after_s or 0.0, _LONGEST_WISH_S), jitter)


def overdue_at(submitted_at: float, expires_at: float | None) -> float:
    """Return when a job that has not ended is taken for stuck: an hour after it should have expired (WIRE 7.36)."""
    return (expires_at if expires_at is not None else submitted_at + _LONGEST_JOB_S) + _GRACE_S


def lost_at(overdue_at: float) -> float:
    """Return when a job that could not be stopped is given up: the run must end."""
    return overdue_at + _GRACE_S


def worry_at(queued_at: float, promise_s: float) -> float:
    """Return when a promise is at risk if nothing is done by then."""
    return queued_at + _WORRY_SHARE * promise_s


def expected_end(began_at: float, done: float, now: float) -> float | None:
    """Return when all will be done if it goes on like this, or None when nothing is. `done` is from 0 to 1."""
    return None if done <= 0 else now + (now - began_at) * (1 - min(done, 1.0)) / done
