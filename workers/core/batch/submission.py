"""A batch as a machine: rows in, shards of them to the provider, answers back, every row accounted for.

Ids come from the run and the shard, and every step is create-or-adopt, so what a crash interrupts is simply done again:

    rows being read           read again from the start; nothing was submitted before they were all in SQL
    dataset created, filled   adopted; uploaded again unless it is READY
    job being created         adopted: the same id is the same job
    job at work               looked at, or told of by the poller
    output being read         read again; rows that are settled stay as they are
    rows being cut anew       cut again: the same rows, the same shards

The run is parked while the provider works and whenever it waits for more than a moment. Every entry of the inbox is
taken into the journal, what makes no sense too: an entry that is not would end each park at once.

This file owns the way of a run: its signals, waits, limits and ends. `plan` owns what a shard needs next, `settling`
what a settled step comes to, `state` what is known.
"""

from collections.abc import Iterator
from typing import Final

from api_contracts import batch
from api_contracts.batch import BatchRequest
from api_contracts.failure import Failure
from api_contracts.runs import EventData, Status
from workers.core.batch import acts, failures, jobs, pace
from workers.core.batch.desk import RUN, Desk
from workers.core.batch.plan import Next, Planner
from workers.core.batch.result import result_of
from workers.core.batch.settling import Fact, Settler
from workers.core.batch.state import BatchState, Shard
from workers.core.runs import signals
from workers.core.runs.deadline import DEADLINE_EXCEEDED, deadline_of, soonest
from workers.core.runs.frame import (
    HOLD_S,
    Action,
    Begin,
    Draining,
    Effect,
    Finish,
    Park,
    Release,
    SignalArrived,
    later_id,
)

AT_ONCE: Final = 4
"""Steps under way at the same time."""

LINGER_S: Final = 0.25
"""How long a life goes on after its beginning and after each letter: letters come in company, since a poll looks at
many jobs. Those that came while the run was parked are there at the beginning (`Driver.run`)."""

ENDING_S: Final = 600.0
"""How long a run that is cancelled, or failed, waits for its jobs to stop and for what they finished."""


class BatchSubmission:
    """`Machine` of a batch."""

    def __init__(self, run_id: str, request: BatchRequest, queued_at: float) -> None:
        self._run_id = run_id
        self._request = request
        self._desk = Desk(queued_at)
        self._planner = Planner(run_id, request, self._desk.state)
        self._settler = Settler(run_id, self._desk, self._planner)
        self._began_at: float | None = None
        self._heard_at = 0.0
        self._wake_at: float | None = None
        self._force_at: float | None = None
        self._parked = False
        self._over = False

    @property
    def state(self) -> BatchState:
        """What the journal says."""
        return self._desk.state

    @property
    def cursor(self) -> str:
        """See `Machine`."""
        return self.state.cursor

    @property
    def deadline(self) -> float | None:
        """See `Machine`."""
        return soonest(self._wake_at, self._force_at, self._run_deadline())

    def fold(self, event: EventData, at: float) -> None:
        """See `Machine`."""
        self.state.fold(event, at)

    def receive(self, fact: object, now: float) -> list[Action]:
        """See `Machine`. Facts of steps that are not under way change nothing."""
        if not self._over:
            self._take(fact, now)
            if self._began_at is not None:
                self._go_on(now)
        return self._desk.take()

    def _take(self, fact: object, now: float) -> None:
        match fact:
            case Begin():
                self._desk.emit(fact.told(resumed=self.state.started_at is not None), now)
                self._began_at = self._heard_at = now
            case SignalArrived() if later_id(fact.id, self.cursor) != self.cursor:
                self._heard_at = now
                self._signal(fact, now)
            case Draining(force_at):
                self._force_at = force_at
            case _ if isinstance(fact, Fact):
                self._settler.take(fact, now)
            case _:
                pass

    # -- signals ---------------------------------------------------------------------------------------------------

    def _signal(self, letter: SignalArrived, now: float) -> None:
        if letter.type == "cancel":
            self._desk.emit(signals.cancelling(letter), now)
            self._desk.drop_what_is_in_vain()
        elif letter.type != jobs.SIGNAL:
            self._desk.emit(signals.passed_over(letter, "batch"), now)
        elif (told := jobs.view_in(letter.data)) is not None:
            self._news(*told, letter.id, now)
        else:
            message = "news of a job that make no sense"
            self._desk.emit(batch.BatchTrouble(kind="letter", message=message, inbox=letter.id), now)

    def _news(self, number: int, view: jobs.JobView, inbox: str, now: float) -> None:
        """Take what the poller saw. It may have seen a job whose creation is not known to have come to anything."""
        shard = self.state.shards.get(number)
        if shard is not None and self._is_of(shard, view) and self._settler.job_seen(shard, view, now, inbox):
            return
        message = f"news that are old, of a job that is {view.state}"
        self._desk.emit(batch.BatchTrouble(kind="stale", message=message, inbox=inbox), now)

    def _is_of(self, shard: Shard, view: jobs.JobView) -> bool:
        created = shard.stage == "submitted" or (shard.stage == "uploaded" and view.state != jobs.GONE)
        return created and view.job == self._planner.job_of(shard)

    # -- the way of a run ------------------------------------------------------------------------------------------

    def _go_on(self, now: float) -> None:
        """Begin whatever can be begun; then wait for it, or for the next moment at which there is something to do."""
        self._wake_at = None
        if self._force_at is not None and now >= self._force_at:
            self._release()
            return
        self._look_at_the_clock(now)
        if self.state.ending is not None and now >= self.state.ending.since + ENDING_S:
            self._conclude(now)
            return
        waits, held_back = self._begin_steps(now)
        alarms = [*waits, *self._alarms(now)]
        if self._desk.doing:
            self._wake_at = min(alarms, default=None)
        elif held_back:
            self._release()
        elif waits:
            self._wait(min(alarms), now)
        else:
            self._conclude(now)

    def _begin_steps(self, now: float) -> tuple[list[float], bool]:
        """Begin what there is room for. Return the times that others wait for, and whether any was held back."""
        waits: list[float] = []
        held_back = False
        for number, step in list(self._ending_steps(now) if self.state.ending else self._steps(now)):
            if not isinstance(step, Effect):
                waits.append(step)
            elif self._force_at is not None:
                held_back = True
            elif len(self._desk.doing) < AT_ONCE:
                self._desk.begin(number, step)
                self._parked = False
        return waits, held_back

    def _alarms(self, now: float) -> Iterator[float]:
        """Yield the times at which to look up from work that is under way."""
        if self.state.ending is not None:
            yield self.state.ending.since + ENDING_S
        elif self._request.promise_s is not None and not self.state.at_risk:
            worry_at = pace.worry_at(self.state.queued_at, self._request.promise_s)
            if worry_at > now:
                yield worry_at

    def _look_at_the_clock(self, now: float) -> None:
        if self.state.ending is not None:
            return
        for shard in list(self.state.shards.values()):
            if self._planner.is_lost(shard, now):
                event = batch.BatchState(
                    shard=shard.number, state=jobs.GONE, group="void", message=f"it never ended ({shard.job_state})"
                )
                self._desk.emit(event, now)
        if (end := self._run_deadline()) is not None and now >= end:
            self._desk.fail(DEADLINE_EXCEEDED, now)
        elif not self.state.adds_up:
            self._desk.fail(failures.DOES_NOT_ADD_UP, now)
        else:
            self._watch_promise(now)

    def _watch_promise(self, now: float) -> None:
        state, promise_s = self.state, self._request.promise_s
        if promise_s is None or state.at_risk:
            return
        began_at = state.validated_at if state.validated_at is not None else now
        expected_at = pace.expected_end(began_at, state.done, now)
        promise_at = state.queued_at + promise_s
        worried = now >= pace.worry_at(state.queued_at, promise_s) if expected_at is None else expected_at > promise_at
        if worried or now >= promise_at:
            self._desk.emit(batch.BatchAtRisk(promise_at=promise_at, expected_at=expected_at), now)

    def _steps(self, now: float) -> Iterator[tuple[int, Effect | float]]:
        """Yield what each shard, and the run, needs next, if it is not under way; a time for what has to wait."""
        state, doing = self.state, self._desk.doing
        for shard in state.shards.values():
            if shard.number not in doing:
                step = self._planner.next_of(shard, self._desk.hand(shard.number), now)
                if step is not None:
                    yield shard.number, step
        if RUN not in doing and (step := self._step_of_the_run(now)) is not None:
            yield RUN, step

    def _step_of_the_run(self, now: float) -> Next:
        state = self.state
        if state.retry_at is not None and now < state.retry_at:
            return state.retry_at
        if state.validated_at is None:
            return acts.ReadRows(state.lives)
        first = max(state.shards, default=0) + 1
        if (shard := next((each for each in state.shards.values() if self._planner.to_split(each)), None)) is not None:
            return acts.CutRows(state.lives, "split", shard.number, shard.rows, shard.attempt, first)
        if any(shard.stage != "closed" for shard in state.shards.values()):
            return None
        if pending := state.counts().pending:
            attempt = max(shard.attempt for shard in state.shards.values()) + 1
            return acts.CutRows(state.lives, "again", RUN, pending, attempt, first)
        return acts.CountRows() if self._desk.counted is None else None

    def _ending_steps(self, now: float) -> Iterator[tuple[int, Effect | float]]:
        for shard in self.state.shards.values():
            if shard.number not in self._desk.doing:
                step = self._planner.last_of(shard, self._desk.hand(shard.number), now)
                if step is not None:
                    yield shard.number, step

    # -- waits and ends --------------------------------------------------------------------------------------------

    def _wait(self, until: float, now: float) -> None:
        """Keep the worker for a moment, or park. Facts that came together with it may follow: it is decided anew."""
        draining = self._force_at is not None
        linger_until = self._heard_at + LINGER_S
        if draining and until - now <= HOLD_S:
            self._release()
        elif self._parked or draining or (until - now > HOLD_S and now >= linger_until):
            self._parked = True
            self._desk.act(Park(min(until, self._run_deadline() or until), self._why()))
        else:
            self._wake_at = until if until - now <= HOLD_S else linger_until

    def _conclude(self, now: float) -> None:
        ending = self.state.ending
        if ending is not None:
            self._finish(ending.status, ending.failure, now, ending.reason)
        elif self._counts_agree():
            self._finish("completed", None, now)
        else:
            self._finish("failed", failures.DOES_NOT_ADD_UP, now)

    def _counts_agree(self) -> bool:
        """Hold the ledger against SQL."""
        ours = self.state.counts()
        return self._desk.counted == (ours.succeeded, ours.failed, ours.quarantined, ours.pending)

    def _finish(self, status: Status, failure: Failure | None, now: float, reason: str = "") -> None:
        self._over = True
        result = result_of(self._run_id, self.state, status, failure, now)
        self._desk.act(Finish(status, result, failure, reason))

    def _release(self) -> None:
        self._over = True
        self._desk.act(Release())

    def _run_deadline(self) -> float | None:
        return None if self.state.ending else deadline_of(self.state.counts_from, self._request.deadline_s)

    def _why(self) -> str:
        """Say in a few words what the run waits for."""
        open_ = [shard for shard in self.state.shards.values() if shard.stage != "closed"]
        working = sum(shard.stage == "submitted" for shard in open_)
        return f"{working} of {len(open_)} open jobs are at work"
