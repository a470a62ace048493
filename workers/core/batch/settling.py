"""What a settled step comes to: events, and what this life knows. A fact of a step that is not under way is void."""

from typing import Final

from api_contracts import batch
from api_contracts.batch import BatchTrouble
from api_contracts.failure import Failure
from api_contracts.runs import EventData
from workers.core.batch import acts, failures, ids, jobs, pace
from workers.core.batch.acts import Step
from workers.core.batch.desk import RUN, Desk
from workers.core.batch.harvest import most_frequent
from workers.core.batch.news import news_of
from workers.core.batch.plan import Planner
from workers.core.batch.state import BatchState, Shard

Fact = (
    acts.RowsRead | acts.DatasetSeen | acts.RowsUploaded | acts.JobSeen | acts.JobStopped | acts.JobHarvested
    | acts.OutputMissing | acts.RowsCut | acts.RowsCounted | acts.StepFailed
)  # fmt: skip

_OUTPUT_TRIES: Final = 8
"""Looks for the output of a job that is completed: a few minutes (WIRE 7: completed before the output is visible)."""
_READY_S: Final = 3600.0
_SETTLES: Final[dict[type, tuple[Step, ...]]] = {
    acts.RowsRead: ("read",), acts.DatasetSeen: ("create", "ready"), acts.RowsUploaded: ("upload",),
    acts.JobSeen: ("submit", "look"), acts.JobStopped: ("stop",), acts.JobHarvested: ("harvest",),
    acts.OutputMissing: ("harvest",), acts.RowsCut: ("cut",), acts.RowsCounted: ("count",),
}  # fmt: skip
_LEADING_ON: Final[frozenset[Step]] = frozenset({"create", "upload", "ready", "submit"})


class Settler:
    """Takes facts."""

    def __init__(self, run_id: str, desk: Desk, planner: Planner) -> None:
        self._run_id = run_id
        self._desk = desk
        self._planner = planner

    def take(self, fact: Fact, now: float) -> None:
        """Take one fact."""
        steps = (fact.step,) if isinstance(fact, acts.StepFailed) else _SETTLES[type(fact)]
        effect = self._desk.settle(getattr(fact, "shard", RUN), steps)
        if effect is None:
            return
        match fact:
            case acts.RowsRead():
                self._read(fact, now)
            case acts.RowsCut() if isinstance(effect, acts.CutRows):
                self._cut(effect, fact, now)
            case acts.JobHarvested(number) if isinstance(effect, acts.HarvestJob):
                self._harvested(self._shard(number), effect, fact, now)
            case acts.RowsCounted(counts):
                self._desk.counted = counts
            case acts.StepFailed(shard, step, failure, jitter):
                self._failed(shard, step, failure, jitter, now)
            case _:
                self._take_of_shard(self._shard(getattr(fact, "shard", RUN)), fact, now)

    def _take_of_shard(self, shard: Shard, fact: Fact, now: float) -> None:
        match fact:
            case acts.DatasetSeen():
                self._dataset_seen(shard, fact, now)
            case acts.RowsUploaded():
                self._uploaded(shard, now)
            case acts.JobSeen(_, view):
                self.job_seen(shard, view, now)
            case acts.JobStopped():
                hand = self._desk.hand(shard.number)
                hand.stopped, hand.looked_at, hand.to_look = True, now, True
            case acts.OutputMissing(_, jitter):
                self._output_missing(shard, jitter, now)
            case _:
                pass

    def job_seen(self, shard: Shard, view: jobs.JobView, now: float, inbox: str | None = None) -> bool:
        """Tell what is new about a job; one that was not known to exist does now. Return whether anything was told."""
        events = []
        if shard.stage == "uploaded":
            event = batch.BatchSubmitted(
                shard=shard.number, attempt=shard.attempt, job=self._planner.job_of(shard), expires_at=view.expires_at,
                output=view.output or ids.output_id(self._run_id, shard.number), inbox=inbox,
            )  # fmt: skip
            self._desk.emit(event, now)
            events.append(event)
        hand = self._desk.hand(shard.number)
        hand.looked_at, hand.look_failures, hand.to_look = now, 0, False
        stopped = hand.stopped or self._state.ending is not None
        for news in (told := news_of(shard, view, self._state.unknown_states, now, inbox, stopped=stopped)):
            self._desk.emit(news, now)
        return bool(events or told)

    # -- in --------------------------------------------------------------------------------------------------------

    def _read(self, fact: acts.RowsRead, now: float) -> None:
        if fact.quarantined:
            self._emit(
                batch.BatchQuarantined(
                    rows=fact.quarantined, reasons=most_frequent(fact.reasons), samples=list(fact.samples)
                ), now,
            )  # fmt: skip
        if len(fact.shards) > failures.MOST_SHARDS:
            self._desk.fail(failures.TOO_MANY_SHARDS, now)
        elif fact.rows != fact.quarantined + sum(shard.rows for shard in fact.shards):
            self._desk.fail(failures.DOES_NOT_ADD_UP, now)
        else:
            self._emit(
                batch.BatchValidated(
                    rows=fact.rows, quarantined=fact.quarantined, bytes=fact.bytes, shards=list(fact.shards)
                ), now,
            )  # fmt: skip
            if not fact.shards:
                self._desk.fail(failures.no_rows(self._state.reasons), now)

    def _dataset_seen(self, shard: Shard, seen: acts.DatasetSeen, now: float) -> None:
        hand = self._desk.hand(shard.number)
        hand.exists, hand.ready = True, seen.ready
        if shard.stage == "planned":
            if seen.ready:
                self._uploaded(shard, now)
        elif shard.stage == "uploaded" and not seen.ready:
            if now >= (shard.uploaded_at or now) + _READY_S:
                self._give_up(shard, failures.NOT_READY, now)
            hand.look_at = self._planner.next_ready_look(shard, now)

    def _uploaded(self, shard: Shard, now: float) -> None:
        dataset = self._planner.dataset_of(shard)
        self._emit(batch.BatchUploaded(shard=shard.number, dataset=dataset, rows=shard.rows, bytes=shard.bytes), now)

    # -- back ------------------------------------------------------------------------------------------------------

    def _harvested(self, shard: Shard, harvest: acts.HarvestJob, fact: acts.JobHarvested, now: float) -> None:
        counts = fact.counts
        left_open = counts.pending and harvest.last and harvest.rest is not None
        if left_open or sum(counts) != shard.rows:
            self._desk.fail(failures.DOES_NOT_ADD_UP, now)
            self._emit(BatchTrouble(kind="no_output", shard=shard.number, message="its rows do not add up"), now)
            return
        if counts.quarantined:
            self._emit(
                batch.BatchQuarantined(
                    rows=counts.quarantined, reasons={"refused_by_provider": counts.quarantined}, shard=shard.number
                ), now,
            )  # fmt: skip
        self._emit(
            batch.BatchHarvested(
                shard=shard.number, available=fact.usage is not None, succeeded=counts.succeeded, failed=counts.failed,
                quarantined=counts.quarantined, again=counts.pending, lines=fact.lines, duplicates=fact.duplicates,
                strangers=fact.strangers, corrupt=fact.corrupt, reasons=most_frequent(fact.reasons),
            ), now,
        )  # fmt: skip
        if fact.usage is not None:
            job, account = self._planner.job_of(shard), self._planner.account
            self._emit(batch.BatchCost(shard=shard.number, job=job, usage=fact.usage, **account), now)

    def _output_missing(self, shard: Shard, jitter: float, now: float) -> None:
        """Only a completed job's output can still appear; nobody waits for it for ever."""
        if shard.job_state == jobs.COMPLETED and shard.failures < _OUTPUT_TRIES:
            self._failed(shard.number, "harvest", failures.NO_OUTPUT, jitter, now)
        else:
            self._emit(BatchTrouble(kind="no_output", shard=shard.number, message=shard.job_state), now)

    def _cut(self, cut: acts.CutRows, fact: acts.RowsCut, now: float) -> None:
        shards = self._state.shards
        parents = [cut.parent] if cut.parent else [shard.number for shard in shards.values() if shard.pending]
        if not cut.rows == sum(shards[number].pending for number in parents) == sum(each.rows for each in fact.shards):
            self._desk.fail(failures.DOES_NOT_ADD_UP, now)
            return
        self._emit(
            batch.BatchResubmitted(
                cause=cut.cause, parents=parents, attempt=cut.attempt, rows=cut.rows, shards=list(fact.shards)
            ), now,
        )  # fmt: skip

    # -- what went wrong -------------------------------------------------------------------------------------------

    def _failed(self, number: int, step: Step, failure: Failure, jitter: float, now: float) -> None:
        if step == "look":
            self._look_failed(number, failure, now)
            return
        where = self._shard(number) if number else self._state
        pause = pace.pause_s(failure, where.failures + 1, jitter)
        if step in ("create", "upload"):
            self._desk.hand(number).exists = False
        if pause is not None:
            self._emit(
                BatchTrouble(
                    kind="step", shard=number or None, step=step, failure=failure, failures=where.failures + 1,
                    retry_at=now + pause,
                ), now,
            )  # fmt: skip
        elif isinstance(where, BatchState):
            self._desk.fail(failure, now)
        elif step in _LEADING_ON:
            self._give_up(where, failure, now)
        elif step == "stop":
            self._desk.hand(number).stopped = self._desk.hand(number).to_look = True
        else:
            self._emit(BatchTrouble(kind="no_output", shard=number, step=step, failure=failure), now)

    def _look_failed(self, number: int, failure: Failure, now: float) -> None:
        """The next look has its own time, and the job its own bound; the first failure of a life is told."""
        hand = self._desk.hand(number)
        hand.looked_at, hand.to_look = now, False
        hand.look_failures += 1
        if hand.look_failures == 1:
            self._emit(BatchTrouble(kind="step", shard=number, step="look", failure=failure, failures=1), now)

    def _give_up(self, shard: Shard, failure: Failure, now: float) -> None:
        """A shard cannot be submitted. The others go on, unless none ever could."""
        if any(other.submitted_at is not None for other in self._state.shards.values()):
            self._emit(BatchTrouble(kind="abandoned", shard=shard.number, failure=failure), now)
        else:
            self._desk.fail(failure, now)

    @property
    def _state(self) -> BatchState:
        return self._desk.state

    def _shard(self, number: int) -> Shard:
        return self._state.shards[number]

    def _emit(self, event: EventData, now: float) -> None:
        self._desk.emit(event, now)
