"""What both faces of the client do with the replies about a retry. Pure."""

from typing import Any, Final, Literal

from api_contracts import keys
from api_contracts.client.scripts import ScriptCall, retry_call
from api_contracts.failure import RetryRefusal, RetryRefused, RunNotFound, SignalRefused

Retried = Literal["reopened", "woken", "running"]
"""It was over and goes on; it waited and is rung for; it is at work, and nothing was done."""

TELLING: Final = "telling"
"""The reply to ask again after: the old outcome is on its way to Celery."""

_MOST_BY, _MOST_REASON = 200, 2000
_DONE: Final[dict[str, Retried]] = {"reopened": "reopened", "woken": "woken", "running": "running"}
_REFUSED: Final[dict[str, RetryRefusal]] = {
    "completed": "completed", "session": "session", TELLING: "being_told", "gone": "journal_gone",
}  # fmt: skip


def retry_of(run_id: str, by: str, reason: str, *, ttl_s: float) -> ScriptCall:
    """Return the script. Raises `BadRunId`, and `SignalRefused` for words that are too long or no text."""
    keys.check_run_id(run_id)
    for name, text, most in (("by", by, _MOST_BY), ("reason", reason, _MOST_REASON)):
        if not isinstance(text, str) or len(text) > most or not _is_text(text):
            raise SignalRefused(f"{name} of a retry is text of at most {most} characters")
    return retry_call(run_id, by, reason, ttl_s=ttl_s)


def retried(run_id: str, reply: str, *, remembered: bool) -> Retried:
    """Return what was done, or raise `RetryRefused`, `RunNotFound`. `remembered`: SQL has the run's result."""
    if reply == "missing" and not remembered:
        raise RunNotFound(run_id)
    if (done := _DONE.get(reply)) is not None:
        return done
    raise RetryRefused(run_id, _REFUSED.get(reply, "journal_gone"))


def is_over(standing: Any, seq: int) -> bool:
    """Return whether a journal that ends with an end at `seq` is at its end: `standing` is `seq`, `status` of the lease
    hash. A run that was reopened has no status, or is further on.
    """
    last, status = standing
    return last is None or (status is not None and int(last) <= seq)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
