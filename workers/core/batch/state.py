"""What a batch knows: a fold over its journal, and nothing else.

The ledger obeys one rule, after every event: the rows are those that succeeded, failed, were set aside, or are pending
in a shard. Each of the four is counted on its own, so that the sum can be wrong.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from api_contracts import batch, runs
from api_contracts.batch import JobGroup, RowCounts
from api_contracts.chat import Usage
from api_contracts.failure import Failure
from api_contracts.runs import EventData
from workers.core.batch.jobs import NOTHING_YET, TERMINAL, Progress
from workers.core.runs.living import Living

Stage = Literal["planned", "uploaded", "submitted", "over", "closed"]
"""Of a shard: cut; its dataset holds the rows; its job exists; the job has ended; its rows are accounted for."""


@dataclass(slots=True)
class Shard:
    """A share of the rows while the run lives. Times are seconds since 1970."""

    number: int
    rows: int
    bytes: int
    attempt: int
    stage: Stage = "planned"
    uploaded_at: float | None = None
    submitted_at: float | None = None
    changed_at: float = 0.0
    expires_at: float | None = None
    output: str = ""
    job_state: str = ""
    group: JobGroup = "waiting"
    code: str = ""
    message: str = ""
    progress: Progress = NOTHING_YET
    failures: int = 0
    retry_at: float | None = None
    no_output: bool = False
    abandoned: Failure | None = None
    succeeded: int = 0
    failed: int = 0
    quarantined: int = 0
    pending: int = 0
    usage: Usage | None = None
    void: bool = False
    """The run ended, and was reopened, before the shard was done: what its job left undone is tried again."""

    def __post_init__(self) -> None:
        self.pending = self.rows


@dataclass(frozen=True, slots=True)
class Ending:
    """The run is being ended before its time."""

    status: Literal["failed", "cancelled"]
    since: float
    failure: Failure | None = None
    reason: str = ""


@dataclass(slots=True)
class BatchState(Living):
    """See the module."""

    validated_at: float | None = None
    submitted_at: float | None = None
    harvested_at: float | None = None
    lives: int = 0
    parked_until: float = 0.0
    ending: Ending | None = None
    rows: int = 0
    refused: int = 0
    """Rows that our own check set aside."""
    reasons: Counter[str] = field(default_factory=Counter)
    shards: dict[int, Shard] = field(default_factory=dict)
    splits: int = 0
    failures: int = 0
    retry_at: float | None = None
    unknown_states: set[str] = field(default_factory=set)
    at_risk: bool = False
    usage: Usage = field(default_factory=Usage)

    def counts(self) -> RowCounts:
        """Return the rows by what has become of them."""
        shards = self.shards.values()
        return RowCounts(
            total=self.rows,
            succeeded=sum(shard.succeeded for shard in shards),
            failed=sum(shard.failed for shard in shards),
            quarantined=self.refused + sum(shard.quarantined for shard in shards),
            pending=sum(shard.pending for shard in shards),
        )

    @property
    def adds_up(self) -> bool:
        """Whether no row is lost or counted twice."""
        sums = self.counts()
        return sums.total == sums.succeeded + sums.failed + sums.quarantined + sums.pending

    @property
    def done(self) -> float:
        """From 0 to 1, of the rows that could be submitted: those settled, and those processed by jobs at work."""
        fit, pending = self.rows - self.refused, self.counts().pending
        working = sum(min(s.progress.processed, s.pending) for s in self.shards.values() if s.stage != "closed")
        return (fit - pending + working) / fit if fit else 0.0

    def fold(self, event: EventData, at: float) -> None:
        """Take one event written at `at`; types that mean nothing to a batch are passed over."""
        self.fold_life(event, at)
        match event:
            case runs.RunStarted() | runs.RunResumed():
                self._begin(event)
            case runs.RunCancelling():
                self.ending = self.ending or Ending("cancelled", at, reason=event.reason)
            case runs.RunCompleted() | runs.RunFailedEvent() | runs.RunCancelled():
                self._reopen()
            case batch.BatchValidated():
                self.rows, self.refused, self.validated_at = event.rows, event.quarantined, at
                self.failures, self.retry_at = 0, None
                self._plan(event.shards, attempt=1)
            case batch.BatchResubmitted():
                self._resubmit(event)
            case batch.BatchTrouble():
                self._fold_trouble(event, at)
            case batch.BatchAtRisk():
                self.at_risk = True
            case runs.RunParked():
                self.parked_until = event.until or 0.0
            case _:
                self._fold_shard(event, at)

    def _begin(self, event: runs.RunStarted | runs.RunResumed) -> None:
        self.lives += 1
        if event.inbox is not None:  # an operator waits no longer
            self._calm_all()

    def _reopen(self) -> None:
        """Whoever folds an end was reopened. Rows that are settled stay; all others have their tries again."""
        self.ending = None
        self._calm_all()
        for shard in self.shards.values():
            if shard.stage != "closed":
                shard.void, shard.abandoned, shard.no_output = True, None, False
        if not self.shards:  # nothing was submitted: the input is read again, for it may be another now
            self.validated_at, self.rows, self.refused = None, 0, 0
            self.reasons.clear()

    def _calm_all(self) -> None:
        self.failures, self.retry_at, self.parked_until = 0, None, 0.0
        for number in self.shards:
            self._calm(number)

    def _fold_shard(self, event: EventData, at: float) -> None:
        match event:
            case batch.BatchQuarantined():
                self.reasons.update(event.reasons)
            case batch.BatchUploaded():
                shard = self._calm(event.shard)
                shard.stage, shard.uploaded_at = "uploaded", at
            case batch.BatchSubmitted():
                shard = self._calm(event.shard)
                shard.stage, shard.submitted_at, shard.changed_at = "submitted", at, at
                shard.output, shard.expires_at = event.output, event.expires_at
                self.submitted_at = at
            case batch.BatchState():
                self._fold_state(event, at)
            case batch.BatchProgress():
                shard = self.shards[event.shard]
                shard.progress = Progress(
                    event.processed, event.succeeded, event.failed, event.input_tokens, event.output_tokens,
                    event.cached_tokens,
                )  # fmt: skip
                shard.changed_at = at
            case batch.BatchHarvested():
                shard = self._calm(event.shard)
                shard.stage, self.harvested_at = "closed", at
                shard.succeeded, shard.failed, shard.quarantined = event.succeeded, event.failed, event.quarantined
                shard.pending = event.again
                self.reasons.update(event.reasons)
            case batch.BatchCost():
                self.shards[event.shard].usage = event.usage
                self.usage = self.usage + event.usage
            case _:
                pass

    def _fold_state(self, event: batch.BatchState, at: float) -> None:
        shard = self._calm(event.shard)
        shard.job_state, shard.group, shard.changed_at = event.state, event.group, at
        shard.code, shard.message = event.code, event.message
        if event.group in TERMINAL:
            shard.stage = "over"

    def _fold_trouble(self, event: batch.BatchTrouble, at: float) -> None:
        match event.kind:
            case "step" if event.retry_at is not None:
                where = self if event.shard is None else self.shards[event.shard]
                where.failures, where.retry_at = event.failures or 0, event.retry_at
            case "no_output" if event.shard is not None:
                self._calm(event.shard).no_output = True
            case "abandoned" if event.shard is not None:
                self._calm(event.shard).abandoned = event.failure
            case "unknown_state":
                self.unknown_states.add(event.message)
            case "fatal":
                self.ending = self.ending or Ending("failed", at, event.failure)
            case _:
                pass

    def _plan(self, plans: list[batch.ShardPlan], attempt: int) -> None:
        for plan in plans:
            self.shards[plan.shard] = Shard(plan.shard, plan.rows, plan.bytes, attempt)

    def _resubmit(self, event: batch.BatchResubmitted) -> None:
        self.failures, self.retry_at = 0, None
        self.splits += event.cause == "split"
        for parent in event.parents:
            self.shards[parent].stage = "closed"
            self.shards[parent].pending = 0
        self._plan(event.shards, event.attempt)

    def _calm(self, number: int) -> Shard:
        """Return a shard that has just got on: what failed before counts no more."""
        shard = self.shards[number]
        shard.failures, shard.retry_at = 0, None
        return shard
