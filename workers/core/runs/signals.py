"""What every kind of run makes of a signal: the event that takes the letter into the journal. Pure.

A letter that nothing comes of is told too: whoever sent it can read why, and a successor passes it over.
"""

from api_contracts.names import Kind
from api_contracts.runs import RunCancelling, RunConflicted, RunIgnored
from api_contracts.signals import SIGNALS
from workers.core.runs.frame import SignalArrived
from workers.core.text import filterable

_MOST_REASON, _MOST_WORD = 200, 64
_CALLED = {
    "chat": "a chat", "stt": "a speech session", "stt_file": "a transcription", "batch": "a batch",
    "cite": "a cited answer",
}  # fmt: skip


def cancelling(letter: SignalArrived) -> RunCancelling:
    """Take a cancel."""
    reason = filterable(str(letter.data.get("reason") or ""))[:_MOST_REASON]
    return RunCancelling(inbox=letter.id, reason=reason, by=sender(letter))


def passed_over(letter: SignalArrived, kind: Kind) -> RunConflicted | RunIgnored:
    """Take a letter that changes nothing in a run of this kind."""
    if letter.type == "conflict":
        return RunConflicted(inbox=letter.id, digest=filterable(str(letter.data.get("digest") or ""))[:_MOST_WORD])
    if letter.type in SIGNALS:
        return ignored(letter, f"{_CALLED[kind]} does nothing on {letter.type}")
    return ignored(letter, "there is no such signal")


def ignored(letter: SignalArrived, reason: str) -> RunIgnored:
    """Take a letter that changes nothing, for this reason."""
    return RunIgnored(inbox=letter.id, signal=filterable(letter.type)[:_MOST_WORD], reason=reason, by=sender(letter))


def sender(letter: SignalArrived) -> str | None:
    """Return who sent it, if that was said."""
    by = letter.data.get("by")
    return filterable(by)[:_MOST_REASON] if isinstance(by, str) and by else None
