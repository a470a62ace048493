"""One life of a batch, fact by fact."""

from collections.abc import Iterable
from typing import Any

from api_contracts.batch import BatchRequest, ShardPlan
from api_contracts.failure import Failure
from api_contracts.runs import EventData
from tests.unit.core.batch.world import EVENT_TYPES, RUN, T0
from workers.core.batch import acts, jobs
from workers.core.batch.acts import Counts
from workers.core.batch.jobs import JobView, Progress
from workers.core.batch.submission import BatchSubmission
from workers.core.runs.frame import Action, Begin, Emit, SignalArrived, Woke


def request(**fields: Any) -> BatchRequest:
    """Return a request whose rows nobody looks at."""
    return BatchRequest.model_validate({"model": "m", "rows": [1], **fields})


def job(shard: int) -> str:
    return f"fw-54c3241fc72fcdc7c01a6c8e-s{shard:04d}-job"


def read(*rows: int, quarantined: int = 0, size: int = 100) -> acts.RowsRead:
    """Return the fact that the input makes shards of so many rows."""
    plans = [ShardPlan(shard=shard, rows=each, bytes=each * size) for shard, each in enumerate(rows, 1)]
    reasons = {"not_json": quarantined} if quarantined else {}
    return acts.RowsRead(sum(rows) + quarantined, quarantined, sum(rows) * size, plans, reasons)


def view(shard: int, state: str, processed: int = 0, **fields: Any) -> JobView:
    return JobView(job(shard), state, Progress(processed, processed), **fields)


def harvested(shard: int, *counts: int, **fields: Any) -> acts.JobHarvested:
    """Return the fact that a job's output is read: succeeded, failed, quarantined, pending."""
    return acts.JobHarvested(shard, Counts(*counts), **fields)


class Run:
    """See the module. `events` are those of all lives before, too."""

    def __init__(self, asked: BatchRequest | None = None, journal: Iterable[tuple[EventData, float]] = ()) -> None:
        self.asked = asked or request()
        self.machine = BatchSubmission(RUN, self.asked, T0)
        self.journal = list(journal)
        self.now = max([T0, *(at for _, at in self.journal)])
        self.last: list[Action] = []
        self.letters = 0
        for event, at in self.journal:
            self.machine.fold(event, at)

    def feed(self, *facts: object) -> list[str]:
        """Hand it facts; return in short what it decided."""
        self.last = [action for fact in facts for action in self.machine.receive(fact, self.now)]
        for action in self.last:
            if isinstance(action, Emit):
                again = EVENT_TYPES[action.event.TYPE].model_validate_json(action.event.to_json())
                assert again == action.event
                self.journal.append((again, self.now))
        return kinds(self.last)

    def begin(self) -> "Run":
        self.feed(Begin("w"))
        return self

    def later(self, seconds: float) -> list[str]:
        """Let time pass; the alarm goes off if it is set for that."""
        self.now += seconds
        due = self.machine.deadline
        return self.feed(Woke()) if due is not None and due <= self.now else []

    def letter(self, kind: str, data: dict[str, Any] | None = None) -> list[str]:
        self.letters += 1
        return self.feed(SignalArrived(f"{int(self.now)}-{self.letters}", kind, data or {}))

    def told(self, shard: int, seen: JobView) -> list[str]:
        """Let the poller tell."""
        return self.letter(jobs.SIGNAL, jobs.letter_of(shard, seen))

    def failed(self, shard: int, step: acts.Step, failure: Failure, jitter: float = 1.0) -> list[str]:
        return self.feed(acts.StepFailed(shard, step, failure, jitter))

    def reborn(self) -> "Run":
        """Return the next life."""
        again = Run(self.asked, self.journal)
        again.letters = self.letters
        again.now = self.now
        return again.begin()

    def submitted(self, *rows: int, quarantined: int = 0) -> "Run":
        """Come to where each shard's job exists."""
        self.begin()
        self.feed(read(*rows, quarantined=quarantined))
        for shard in range(1, len(rows) + 1):
            self.feed(acts.DatasetSeen(shard, ready=True))
            self.feed(acts.JobSeen(shard, view(shard, "VALIDATING")))
        return self

    def effect(self, kind: type[Any]) -> Any:
        """Return the last decided effect or action of this kind."""
        return [each for each in self.last if isinstance(each, kind)][-1]

    def event(self, kind: type[Any]) -> Any:
        """Return the last event of this kind."""
        return [event for event, _ in self.journal if isinstance(event, kind)][-1]

    @property
    def types(self) -> list[str]:
        return [event.TYPE for event, _ in self.journal]


def kinds(actions: Iterable[Action]) -> list[str]:
    """Return events by their type, other actions by their class."""
    return [action.event.TYPE if isinstance(action, Emit) else type(action).__name__ for action in actions]
