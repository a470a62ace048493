"""A batch and its world in virtual time: workers that die, replies that are lost, a poller that may be dead or repeat
itself. Whatever happens, the journal keeps its rules after every event."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Literal

from api_contracts import batch
from api_contracts.batch import BatchRequest, BatchResult
from api_contracts.failure import Failure
from api_contracts.runs import RUN_EVENTS, EventData, RunParked
from tests.unit.core.batch.provider import Provider
from tests.unit.core.batch.rowstore import Replaced, RowStore
from workers.core.batch import acts, jobs
from workers.core.batch.state import BatchState
from workers.core.batch.submission import BatchSubmission
from workers.core.runs.frame import (
    Action,
    Begin,
    Draining,
    Effect,
    Emit,
    Finish,
    Park,
    Release,
    SignalArrived,
    Woke,
    later_id,
)  # fmt: skip

RUN: Final = "Run-1"
T0: Final = 1_000_000.0
BUSY = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
REFUSED = Failure(code="refused", category="bad_request", message="no", at_fault="caller")
EVENT_TYPES: Final = {cls.TYPE: cls for cls in (*RUN_EVENTS, *batch.BATCH_EVENTS)}

TroubleKind = Literal["die_before", "die_after", "die_halfway", "lose_reply", "fail", "refuse", "drain", "die_late"]


@dataclass(frozen=True)
class Poller:
    """How the beat's poller behaves: `every_s` 0 is dead; each letter comes `copies` times, `late_s` late."""

    every_s: float = 60.0
    copies: int = 1
    late_s: Sequence[float] = (0.0,)


@dataclass
class World:
    """What outlives the workers. `troubles` says what goes wrong at which effect of the whole story."""

    request: BatchRequest
    provider: Provider
    troubles: dict[int, TroubleKind] = field(default_factory=dict)
    poller: Poller = Poller()
    signals: Sequence[tuple[float, str, dict[str, Any]]] = ()
    """Further letters: seconds after the submit, type, data."""
    die_at_event: int | None = None
    """The worker dies when so many events are written."""

    def __post_init__(self) -> None:
        self.store = RowStore(self.request)
        self.journal: list[tuple[EventData, float]] = []
        self.ledger = BatchState(T0)
        self.inbox: list[tuple[float, SignalArrived]] = []
        self.now = T0
        self.finish: Finish | None = None
        self.lives = 0
        self.effects = 0
        self.done: list[Effect] = []
        self.parks: list[Park] = []
        self._order = count()
        self._seen: dict[str, jobs.JobView] = {}
        self._polled_at = T0
        self._late: list[tuple[float, int, Callable[[], object]]] = []
        for after, kind, data in self.signals:
            self._post(T0 + after, kind, data)

    # -- the story -------------------------------------------------------------------------------------------------

    def run(self, most_lives: int = 3000) -> BatchResult:
        """Live until the run ends."""
        while self.finish is None:
            self.lives += 1
            assert self.lives < most_lives, "the run does not end"
            self._pass_late_writes()
            Life(self).live()
        assert self.now < T0 + 60 * 86_400, "the run takes months"
        return BatchResult.model_validate(self.finish.result)

    @property
    def types(self) -> list[str]:
        return [event.TYPE for event, _ in self.journal]

    def events(self, kind: type[EventData]) -> list[Any]:
        return [event for event, _ in self.journal if isinstance(event, kind)]

    def perform(self, effect: Effect, share: float = 1.0) -> object:
        """Let an effect land; return its fact."""
        if isinstance(effect, acts.ReadRows | acts.HarvestJob | acts.CutRows | acts.CountRows):
            return self._on_rows(effect, share)
        assert share == 1.0 or isinstance(effect, acts.Upload)
        provider, now = self.provider, self.now
        match effect:
            case acts.CreateDataset(shard, dataset, _, rows):
                return acts.DatasetSeen(shard, provider.create_dataset(dataset, rows, now))
            case acts.Upload(shard, dataset):
                if share == 1.0:
                    provider.upload(dataset, [row.custom_id for row in self.store.of_shard(shard).values()], now)
                return acts.RowsUploaded(shard)
            case acts.LookAtDataset(shard, dataset):
                return acts.DatasetSeen(shard, provider.is_ready(dataset, now))
            case acts.CreateJob(shard, job, _, dataset, output):
                self._seen[job] = jobs.job_view(provider.create_job(job, dataset, output, now))
                return acts.JobSeen(shard, self._seen[job])
            case acts.LookAtJob(shard, job):
                return acts.JobSeen(shard, self._view(job))
            case acts.StopJob(shard, job):
                provider.delete_job(job, now)
                return acts.JobStopped(shard)
        raise AssertionError(f"no such effect: {effect}")

    def _on_rows(self, effect: Effect, share: float) -> object:
        match effect:
            case acts.ReadRows(life):
                return self.store.read(life, share)
            case acts.HarvestJob():
                files = self.provider.files(effect.output, self.now) if effect.output else None
                if effect.output and files is None:
                    return acts.OutputMissing(effect.shard, 0.5)
                return self.store.harvest(effect, files, share)
            case acts.CutRows():
                return self.store.cut(effect, share)
            case _:
                return acts.RowsCounted(self.store.count())

    def later(self, effect: Effect) -> None:
        """Let an effect of a dead worker land in another's time; SQL's fence keeps it from changing rows."""
        heapq.heappush(self._late, (self.now + 30, next(self._order), lambda: self.perform(effect)))

    def _pass_late_writes(self) -> None:
        while self._late and self._late[0][0] <= self.now:
            try:
                heapq.heappop(self._late)[2]()
            except Replaced:
                pass

    # -- the inbox -------------------------------------------------------------------------------------------------

    def unread(self, cursor: str) -> list[tuple[float, SignalArrived]]:
        return [(at, letter) for at, letter in self.inbox if later_id(letter.id, cursor) != cursor]

    def poll(self, until: float) -> None:
        """Let the poller work up to `until`: it sees each job at its time, and tells what is new."""
        every = self.poller.every_s
        while every and self._polled_at + every <= until:
            self._polled_at += every
            for place, name in enumerate(list(self.provider.jobs)):
                view = self._view(name, self._polled_at)
                if jobs.is_news(self._seen.get(name), view) and self._seen.get(name) != view:
                    self._seen[name] = view
                    late = self.poller.late_s[place % len(self.poller.late_s)]
                    for copy in range(self.poller.copies):
                        at = self._polled_at + late + 90 * copy
                        self._post(at, jobs.SIGNAL, jobs.letter_of(_shard_of(name), view))

    def _post(self, at: float, kind: str, data: dict[str, Any]) -> None:
        """Ids follow the order of arrival, as a stream's do."""
        self.inbox.append((at, SignalArrived("0-0", kind, data)))
        self.inbox.sort(key=lambda entry: entry[0])
        self.inbox = [
            (when, SignalArrived(f"{int((when - T0) * 1000) + 1}-{place}", letter.type, letter.data))
            for place, (when, letter) in enumerate(self.inbox)
        ]

    def _view(self, job: str, at: float | None = None) -> jobs.JobView:
        found = self.provider.resource(job, self.now if at is None else at)
        return jobs.gone(job) if found is None else jobs.job_view(found)


class Died(Exception):
    """The worker is gone."""


class Life:
    """One worker's part of the run: the driver's rules, in virtual time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machine = BatchSubmission(RUN, world.request, T0)
        for event, at in world.journal:
            self.machine.fold(event, at)
        self._read = self.machine.cursor
        self._facts: list[tuple[float, int, object]] = []
        self._in_flight: dict[int, Effect] = {}
        self._uncommitted: list[EventData] = []
        self._over = False

    def live(self) -> None:
        try:
            letters = [letter for at, letter in self.world.unread(self._read) if at <= self.world.now]
            self._feed(Begin("w"), *letters)
            for _ in range(20_000):
                if self._over:
                    return
                self._step()
            raise AssertionError("a life does not end")
        except Died:
            self.world.now += 10  # the lease runs out

    def _step(self) -> None:
        """Let the next thing happen: a fact, a letter, the alarm."""
        world, alarm = self.world, self.machine.deadline
        ahead = [at for at, _, _ in self._facts[:1]] + ([alarm] if alarm is not None else [])
        assert ahead, "the run waits for nothing"
        world.poll(min(ahead))
        letters = world.unread(self._read)
        at = max(world.now, min([*ahead, *(at for at, _ in letters[:1])]))
        world.now = at
        world._pass_late_writes()
        together: list[object] = [letter for when, letter in letters if when <= at]
        while self._facts and self._facts[0][0] <= at:
            fact = heapq.heappop(self._facts)[2]
            if isinstance(fact, Landing):
                fact.land(self)
            else:
                together.append(fact)
        if alarm is not None and alarm <= at:
            together.append(Woke())
        self._feed(*together)
        assert self._over or (self.machine.deadline or at + 1) > at, "the alarm goes off for ever"

    def post(self, after: float, fact: object) -> None:
        heapq.heappush(self._facts, (self.world.now + after, next(self.world._order), fact))

    def _feed(self, *together: object) -> None:
        """Decide facts that came together, then do what was decided, as the driver does."""
        letters = [fact.id for fact in together if isinstance(fact, SignalArrived)]
        self._read = max([self._read, *letters], key=_order)
        actions = [action for fact in together for action in self.machine.receive(fact, self.world.now)]
        park: Park | None = None
        for action in actions:
            assert not self._over, "something was decided after the end"
            if isinstance(action, Park):
                park = action
            elif isinstance(action, Emit):
                self._append(action.event)
            else:
                self._commit()
                self._do(action)
                park = None
        self._commit()
        if park is not None:
            self._do(park)

    def _do(self, action: Action) -> None:
        world = self.world
        match action:
            case Park():
                world.parks.append(action)
                self._append(RunParked(why=action.why, until=action.until))
                self._commit()
                self._park(action)
            case Release():
                self._over = True
            case Finish():
                self._over = True
                world.finish = action
                assert self.machine.state == world.ledger, "the state is not the fold of the journal"
            case acts.StopStep(shard):
                self._in_flight.pop(shard, None)
            case Effect():
                self._begin(action)

    def _append(self, event: EventData) -> None:
        again = EVENT_TYPES[event.TYPE].model_validate_json(event.to_json())
        assert again == event, "the event changes on its way through the store"
        self._uncommitted.append(again)

    def _commit(self) -> None:
        """Events that stand together are one append."""
        world, events = self.world, self._uncommitted
        self._uncommitted = []
        for event in events:
            world.journal.append((event, world.now))
            world.ledger.fold(event, world.now)
            check_state(world.ledger)
        before = len(world.journal) - len(events)
        if world.die_at_event is not None and before < world.die_at_event <= len(world.journal):
            raise Died

    def _park(self, park: Park) -> None:
        """Wait for the time, or for a letter that nobody has read."""
        self._over = True
        world = self.world
        assert park.until is not None, "a batch always has a time to look up"
        assert park.until > world.now, "parked until a time that is over"
        while world.now < park.until:
            world.poll(world.now)
            if any(at <= world.now for at, _ in world.unread(self._read)):
                return
            world.now = min([park.until, world.now + 30, *(at for at, _ in world.unread(self._read)[:1])])

    def _begin(self, effect: Effect) -> None:
        world = self.world
        number = world.effects
        world.effects += 1
        shard = getattr(effect, "shard", 0)
        self._in_flight[shard] = effect
        trouble = world.troubles.get(number)
        if trouble == "drain":
            self.post(0.0, Draining(world.now + 20))
        self.post(_DURATION.get(type(effect), 0.3), Landing(effect, shard, trouble))


@dataclass(frozen=True)
class Landing:
    """An effect comes to its end, well or badly."""

    effect: Effect
    shard: int
    trouble: TroubleKind | None

    def land(self, life: Life) -> None:
        if life._in_flight.get(self.shard) is not self.effect:
            return  # stopped
        del life._in_flight[self.shard]
        world = life.world
        match self.trouble:
            case "die_before":
                raise Died
            case "die_late":
                if not isinstance(self.effect, acts.CreateJob):  # its own timeout is shorter than the lease
                    world.later(self.effect)
                raise Died
            case "die_halfway" if isinstance(self.effect, acts.ReadRows | acts.HarvestJob | acts.CutRows | acts.Upload):
                world.perform(self.effect, share=0.5)
                raise Died
            case "fail" | "refuse":
                life.post(0.0, self._failed(BUSY if self.trouble == "fail" else REFUSED))
                return
        fact = world.perform(self.effect)
        world.done.append(self.effect)
        if self.trouble in ("die_after", "die_halfway"):
            raise Died
        life.post(0.0, self._failed(BUSY) if self.trouble == "lose_reply" else fact)

    def _failed(self, failure: Failure) -> acts.StepFailed:
        return acts.StepFailed(self.shard, _STEPS[type(self.effect)], failure, 0.5)


_DURATION: dict[type[Effect], float] = {acts.ReadRows: 20.0, acts.Upload: 8.0, acts.HarvestJob: 15.0}
_STEPS: dict[type[Effect], acts.Step] = {
    acts.ReadRows: "read", acts.CreateDataset: "create", acts.Upload: "upload", acts.LookAtDataset: "ready",
    acts.CreateJob: "submit", acts.LookAtJob: "look", acts.StopJob: "stop", acts.HarvestJob: "harvest",
    acts.CutRows: "cut", acts.CountRows: "count",
}  # fmt: skip


def check_state(state: BatchState) -> None:
    """BATCH-19, after every event."""
    sums = state.counts()
    assert sums.total == sums.succeeded + sums.failed + sums.quarantined + sums.pending, sums
    assert min(sums.model_dump().values()) >= 0, sums


def check_end(world: World, result: BatchResult) -> None:
    """Every row has one end, SQL and the journal say the same, and what the provider answered is there."""
    rows, counts = world.store.rows, result.rows
    assert all(row.settled <= 1 for row in rows.values()), "a row was settled twice"
    assert max(world.provider.created.values(), default=0) <= 1, "a shard has two jobs"
    if result.status != "completed":
        return
    assert counts.pending == 0
    assert tuple(world.store.count()) == (counts.succeeded, counts.failed, counts.quarantined, counts.pending)
    assert all(row.settled == 1 for row in rows.values()), "a row has no end"
    if "split" not in [event.cause for event in world.events(batch.BatchResubmitted)]:
        assert max(world.provider.attempts.values()) <= world.request.attempts, "a row was submitted too often"
    harvested = {event.shard: event for event in world.events(batch.BatchHarvested)}
    answered: set[str] = set()
    for name, job in world.provider.jobs.items():
        event = harvested.get(_shard_of(name))
        if event is not None and event.available:
            answered |= world.provider.answered(job.output, world.now, world.request.fail_on)
    assert {row.custom_id for row in rows.values() if row.state == "succeeded"} == answered, "answers are lost"
    assert len(world.events(batch.BatchCost)) == sum(event.available for event in harvested.values())


def _order(stream_id: str) -> tuple[int, ...]:
    return tuple(map(int, stream_id.split("-")))


def _shard_of(job: str) -> int:
    return int(job.rpartition("-s")[2].partition("-")[0])
