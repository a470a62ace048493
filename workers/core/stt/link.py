"""When a session connects again, and when it gives up. Pure: chance and time come in.

Not retry's pause: speech does not wait, so the first tries come sooner, and what counts as a success differs. Failures
count in a row. A provider that takes connections and drops them must run into the budget although it says something
each time, and a caller who says nothing for an hour must not (FEAT B2, livekit #7208): a connection is healthy once
it heard a word further on than any before it, said anything after `HEALTHY_AFTER_S`, or was open for `HEALTHY_FOR_S`.
When the session ends only words count: it must not end for ever.
"""

import zlib
from typing import Final

from api_contracts.failure import AtFault, Category, Failure
from workers.core.retry import backoff_s
from workers.core.stt.acts import Disconnected

BUDGET: Final = 8
"""Failures in a row that end the session."""

CONNECT_WITHIN_S: Final = 10.0
HEALTHY_AFTER_S: Final = 10.0
HEALTHY_FOR_S: Final = 60.0
"""FEAT A2.2: a healthy minute. Some drop what is silent after three."""

TOO_SLOW: Final = "no connection in time"
STALLED: Final = "stalled: it was sent audio and said nothing"

_FIRST_S, _LONGEST_S, _MOST_S = 0.25, 10.0, 300.0
_REFUSALS: Final[dict[int, tuple[Category, AtFault]]] = {
    401: ("authentication", "caller"), 403: ("authentication", "caller"), 402: ("account", "caller"),
    404: ("not_found", "caller"), 412: ("account", "caller"),
}  # fmt: skip


def chance(run_id: str, conn: int) -> float:
    """Return a number from 0 to 1 for a failure that no adapter saw: the same for the same try, spread over runs."""
    return zlib.crc32(f"{run_id}/{conn}".encode()) / 0xFFFFFFFF


def pause_s(lost: Disconnected, failures: int) -> float | None:
    """Return how long to wait after the `failures`-th failure in a row, or None to give up.

    Exponential with full jitter; a Retry-After is a lower bound. A refusal (4xx but 408, 429) is final.
    """
    if is_refusal(lost) or failures >= BUDGET:
        return None
    return pause_beside_s(lost, failures)


def pause_beside_s(lost: Disconnected, failures: int) -> float:
    """Return how long to wait for the next try at a connection that is to take over. A refusal is no end there."""
    return min(max(backoff_s(_FIRST_S, _LONGEST_S, failures, lost.jitter), lost.retry_after_s or 0.0), _MOST_S)


def is_refusal(lost: Disconnected) -> bool:
    """Return whether the same connection would be refused again."""
    refused = lost.code is not None and 400 <= lost.code < 500 and lost.code not in (408, 429)
    return refused or not lost.retryable


def given_up(lost: Disconnected, *, was_connected: bool) -> Failure:
    """Return why the session ends without its provider."""
    status = lost.code if lost.code is not None and 100 <= lost.code < 600 else None
    why = f" ({lost.code})" if lost.code is not None else ""
    if is_refusal(lost):
        category, at_fault = _REFUSALS.get(status or 0, ("bad_request" if status else "transport", "caller"))
        code, message, retryable = "stt_refused", f"the provider refused the connection{why}", False
    else:
        category, at_fault = ("rate_limit", "caller") if status == 429 else ("transport", "provider")
        code = "stt_lost" if was_connected else "stt_unreachable"
        message, retryable = f"no lasting connection in {BUDGET} tries in a row{why}", True
    return Failure(
        code=code, category=category, message=message, retryable=retryable, at_fault=at_fault, provider_status=status
    )


TOO_MANY_ERRORS: Final = Failure(
    code="stt_errors", category="protocol", at_fault="provider", retryable=True,
    message="the provider sent nothing but errors",
)  # fmt: skip
