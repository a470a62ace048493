"""The only retry policy of the service: exponential backoff with full jitter, the provider's own wish honoured."""

from api_contracts.failure import Failure

BUDGET = 5
"""Attempts at one answer before the run fails (the SDKs' 2 retries are too few for a loading deployment)."""

_FIRST_S, _LONGEST_S = 0.5, 30.0


def pause_s(failure: Failure, failures: int, jitter: float) -> float | None:
    """Return how long to wait after the `failures`-th failure in a row, or None to give up.

    `jitter` is a random number from 0 to 1. A Retry-After is a lower bound (WIRE 1.10).
    """
    if not failure.retryable or failures >= BUDGET:
        return None
    backoff: float = min(_FIRST_S * 2.0 ** (failures - 1), _LONGEST_S) * jitter
    return max(backoff, failure.retry_after_s or 0.0)
