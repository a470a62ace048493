"""Trying again: the one form of backoff, and the pace of a chat. Speech and batches have paces of their own."""

from typing import Final

from api_contracts.failure import Failure

BUDGET = 5
"""Attempts at one answer before the run fails (the SDKs' 2 retries are too few for a loading deployment)."""
RUN_BUDGET: Final = 10
"""Retries of a whole run that says nothing else."""

_FIRST_S, _LONGEST_S = 0.5, 30.0
_MOST_DOUBLINGS = 16  # past every bound here; a longer count would only overflow

_SPREAD: Final = 0.25
_WIDEST_S: Final = 60.0
"""A provider asks a thousand runs at once for the same wait. They come back over this share of it, at most so long."""


def pause_s(failure: Failure, failures: int, jitter: float) -> float | None:
    """Return how long to wait after the `failures`-th failure in a row, or None to give up.

    `jitter` is a random number from 0 to 1. A Retry-After is a lower bound (WIRE 1.10).
    """
    if not failure.retryable or failures >= BUDGET:
        return None
    return spread_s(backoff_s(_FIRST_S, _LONGEST_S, failures, 1.0), failure.retry_after_s or 0.0, jitter)


def backoff_s(first_s: float, longest_s: float, failures: int, jitter: float) -> float:
    """Return the wait after the `failures`-th failure in a row: exponential, with full jitter (0 to 1)."""
    doublings = min(failures - 1, _MOST_DOUBLINGS)
    return min(first_s * 2.0**doublings, longest_s) * jitter


def spread_s(backoff: float, wish_s: float, jitter: float) -> float:
    """Return a wait of at least `wish_s` seconds, and of less than `backoff` or the wish's spread more, by `jitter`."""
    return wish_s + max(backoff, min(_SPREAD * wish_s, _WIDEST_S)) * jitter
