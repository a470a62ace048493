"""Runs that only a later release can go on with: this one leaves them alone, for a time (docs/decisions/0020). Pure.

After a roll-back, or while old and new workers serve side by side, a worker may take a run that a later release began.
Mostly it goes on with it: types of events that it does not know are passed over, fields too. What it must not pass over
says so (`needs` in its data), or makes no sense. Such a run is parked: a worker of the later release takes it up.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from api_contracts import SCHEMA_VERSION
from api_contracts.failure import Failure
from api_contracts.names import Kind
from api_contracts.runs import (
    Event,
    EventData,
    Result,
    RunCancelling,
    RunParked,
    RunQueued,
    RunResumed,
    RunStarted,
)
from api_contracts.vocabulary import EVENT_TYPES
from workers.core.runs.deadline import DEADLINE_EXCEEDED, deadline_of
from workers.core.runs.frame import Action, Begin, Emit, Finish, Park, SignalArrived
from workers.core.text import storable

PATIENCE_S: Final = 86_400.0
"""So long a run waits for a worker that can read it; then it fails."""

FIRST_LOOK_S: Final = 5.0
LONGEST_LOOK_S: Final = 300.0
"""A worker of the later release may be there already: the first looks follow closely, each later one less so."""

WAITS: Final = "waits for"
"""How the reasons of such parks begin."""


class NeedsLater(Exception):
    """This release cannot go on with the run; the text says why, without content."""

    code = "later_release"

    @property
    def why(self) -> str:
        """Why the run is parked."""
        return f"{WAITS} a later release: {self}, this one has {SCHEMA_VERSION}"


class NeedsAbsent(NeedsLater):
    """Something that the run needs is away from this worker; the text names it. It is waited for in the same way."""

    code = "tools_away"

    @property
    def why(self) -> str:
        """Why the run is parked."""
        return f"{WAITS} {self}"


def check_needs(event: Event) -> None:
    """Raise `NeedsLater` for an event that this release must not pass over."""
    if event.needs > SCHEMA_VERSION:
        raise NeedsLater(f"event {event.seq}, {event.type:.80}, needs schema version {event.needs}")


def check_written_later(events: Sequence[Event], at: Event, exc: Exception) -> None:
    """Raise `NeedsLater` for event `at` that cannot be folded, if a later release had its hands in the journal."""
    if any(event.type not in EVENT_TYPES or _is_later(event.data.get("version")) for event in events):
        raise NeedsLater(f"event {at.seq}, {at.type:.80}, is not understood ({type(exc).__name__})") from exc


def check_request(queued: RunQueued, exc: ValidationError) -> None:
    """Raise `NeedsLater` when a request is refused that was sent under a later schema version."""
    if _is_later(queued.version):
        raise NeedsLater(f"its request is of schema version {queued.version}") from exc


def _is_later(version: Any) -> bool:
    return isinstance(version, int) and version > SCHEMA_VERSION


class Waiting:
    """`Machine` of a run that waits for a later release. It ends on a cancel, at its deadline, or out of patience.

    Of the run's own work nothing is stopped or settled: this release does not know what that would be.
    """

    deadline: float | None = None

    def __init__(
        self, run_id: str, kind: Kind, needs: NeedsLater, events: Sequence[Event], deadline_s: float | None
    ) -> None:
        self.cursor = "0"
        self._run_id = run_id
        self._kind = kind
        self._why = needs.why
        self._code = needs.code
        self._started = any(event.type == RunStarted.TYPE for event in events)
        self._cancelling = any(event.type == RunCancelling.TYPE for event in events)
        self._late_at = deadline_of(events[0].at / 1000, deadline_s)
        self._since, self._looks = _waited(events)
        self._over = False

    def fold(self, event: EventData, at: float) -> None:
        """See `Machine`: nothing is known of this run but what the journal's frame says."""

    def receive(self, fact: object, now: float) -> list[Action]:
        """See `Machine`."""
        if self._over:
            return []
        match fact:
            case Begin(owner):
                first = RunResumed(owner=owner) if self._started else RunStarted(owner=owner)
                return [Emit(first), self._next(now)]
            case SignalArrived(type="cancel"):
                reason = storable(str(fact.data.get("reason") or ""))[:200]
                return [Emit(RunCancelling(inbox=fact.id, reason=reason)), self._end("cancelled", reason=reason)]
            case _:
                return []

    def _next(self, now: float) -> Action:
        since = now if self._since is None else self._since
        if self._cancelling:
            return self._end("cancelled")
        if self._late_at is not None and now >= self._late_at:
            return self._end("failed", DEADLINE_EXCEEDED)
        if now >= since + PATIENCE_S:
            return self._end("failed", self._given_up())
        look_at = now + min(FIRST_LOOK_S * 2 ** min(self._looks, 16), LONGEST_LOOK_S)
        return Park(min(look_at, since + PATIENCE_S, self._late_at or look_at), self._why)

    def _end(self, status: Any, failure: Failure | None = None, reason: str = "") -> Finish:
        self._over = True
        result = Result(run_id=self._run_id, kind=self._kind, status=status, failure=failure)
        return Finish(status, result.model_dump(mode="json", exclude_none=True), failure, reason)

    def _given_up(self) -> Failure:
        return Failure(
            code=self._code, category="internal", at_fault="us",
            message=f"it {self._why}; for {PATIENCE_S / 3600:.0f} hours none came",
        )  # fmt: skip


def _waited(events: Sequence[Event]) -> tuple[float | None, int]:
    """Return since when the run has done nothing but wait, and how often it was looked at."""
    frame = (RunStarted.TYPE, RunResumed.TYPE, RunParked.TYPE)
    ours = list(itertools.takewhile(lambda event: event.type in frame, reversed(events)))
    parks = [e for e in ours if e.type == RunParked.TYPE and str(e.data.get("why")).startswith(WAITS)]
    return (parks[-1].at / 1000 if parks else None), len(parks)
