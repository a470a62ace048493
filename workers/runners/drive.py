"""The loop of every run: facts in, actions out, each effect after the events that announce it.

One driver per run and lease. It waits on one queue of facts; whatever happens elsewhere (the model, tools, signals,
time) is posted there. What was decided together is appended together.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, cast, runtime_checkable

import structlog

from api_contracts.client.scripts import RESULT_BLOB, RETRY_LETTER, SPILL_BYTES
from api_contracts.failure import Failure
from api_contracts.runs import (
    EventData,
    Result,
    RunConflicted,
    RunIgnored,
    RunParked,
    RunQueued,
)
from workers.core.runs.deadline import is_sooner
from workers.core.runs.frame import (
    Action,
    Begin,
    Draining,
    Effect,
    Emit,
    Finish,
    Machine,
    Park,
    Passing,
    Plain,
    Release,
    SignalArrived,
    Woke,
    later_id,
)
from workers.core.runs.refusal import JOURNAL_LOST
from workers.errors import internal
from workers.ports import (
    Archive,
    Begun,
    Bell,
    Clock,
    Inbox,
    KeysDamaged,
    Lease,
    LeaseLost,
    Letter,
    Onlooker,
    RunRecord,
    RunStore,
    RunWatch,
    StoreUnavailable,
)
from workers.runners.alarm import Alarm
from workers.runners.letters import retry_in
from workers.runners.outcome import Dropped, Ended, Outcome, Parked
from workers.runners.scribe import Scribe
from workers.runners.terminal import terminal_of

T = TypeVar("T")

_log = structlog.get_logger(__name__)

MOST_TOLD: Final = 100
"""Letters of no effect that a run's journal tells of. Anyone may write any number of them; the rest is passed over."""
_PAUSE_S = 0.5
"""Between tries to reach a store that is away."""


OF_NO_EFFECT: Final[frozenset[type[EventData]]] = frozenset((RunIgnored, RunConflicted))
"""What tells of a letter that changed nothing."""


class _JournalWasLost(Exception):
    """Another journal of this run told SQL of an effect."""


class Performer(Protocol):
    """The half of a runner that is special to one kind of work."""

    def perform(self, effect: Effect, post: Callable[[object], None]) -> None:
        """Begin the effect; post what comes of it, an exception for a defect of ours. Never waits."""
        ...

    async def close(self) -> None:
        """Stop whatever is under way, and return when it has stopped."""
        ...


@runtime_checkable
class Foresees(Protocol):
    """A performer that can make ready for an effect before what announces it is on record."""

    def foresee(self, effect: Effect, post: Callable[[object], None]) -> None:
        """Make ready, maybe in vain: nothing may happen yet that the journal must tell of. Never waits."""


@dataclass(frozen=True, slots=True)
class DriverServices:
    """What a driver needs of the process."""

    store: RunStore
    inbox: Inbox
    archive: Archive
    bell: Bell
    clock: Clock
    onlooker: Onlooker


class Driver:
    """Drives one run under one lease."""

    def __init__(
        self,
        run_id: str,
        queued: RunQueued,
        signature: str,
        machine: Machine,
        performer: Performer,
        services: DriverServices,
        watch: RunWatch,
        told: int = 0,
    ) -> None:
        """`told`: letters of no effect that the journal tells of already."""
        self.run_id = run_id
        self.kind = queued.kind
        self._queued = queued
        self._signature = signature
        self._machine = machine
        self._performer = performer
        self._services = services
        self._facts: list[object] = []
        self._decided: list[Action] = []
        self._something = asyncio.Event()
        self._is_idle = False
        self._scribe = Scribe(services.store, services.clock, watch, self._until_done, self._wake)
        self._queued_at = 0.0
        self._seen = "0"
        self._outcome: Outcome | None = None
        self._is_noted = False
        self._told = told

    def post(self, fact: object) -> None:
        """Hand the run a fact. On the loop only."""
        if isinstance(fact, Passing):
            fact = fact.fact
            if self._is_idle and self._scribe.is_settled:
                self._pass_on(fact)
                return
        elif isinstance(fact, Plain) and self._is_idle and self._scribe.is_settled:
            self._decide_here(fact)
            return
        self._queue(fact)

    def lost(self) -> None:
        """Tell the run that its lease is another's."""
        self.post(LeaseLost(self.run_id))

    def drain(self, force_at: float) -> None:
        """Ask the run to hand over, at the latest at `force_at`."""
        self.post(Draining(force_at))

    async def run(
        self, owner: str, lease: Lease, seq: int, queued_at: float, letters: Sequence[Letter] = ()
    ) -> Outcome:
        """Drive to the end of the run, or of our part in it. Raises `LeaseLost` when the run is another's.

        `letters` are those that a parked run was sent since: decided with `Begin`, or it would park again before them.
        """
        self._lease, self._queued_at = lease, queued_at
        self._scribe.begin(lease, seq)
        after = letters[-1].id if letters else self._machine.cursor
        alarm = Alarm(self._services.clock, lambda: self.post(Woke()))  # not ours: each would hold the other for ever
        unwatch = self._services.inbox.watch(self.run_id, after, self._letter)
        try:
            return await self._drive(owner, letters, alarm)
        except (LeaseLost, StoreUnavailable, KeysDamaged):
            raise
        except _JournalWasLost:
            _log.error("run.journal_lost", run_id=self.run_id)
            return await self._give_up(JOURNAL_LOST)
        except Exception as exc:  # noqa: BLE001 - a defect of ours ends this run, and no other
            _log.exception("run.defect", run_id=self.run_id)
            return await self._give_up(internal(exc))
        finally:
            unwatch()
            alarm.set(None)
            self._scribe.close()
            await self._performer.close()

    async def _drive(self, owner: str, letters: Sequence[Letter], alarm: Alarm) -> Outcome:
        early, self._facts = self._facts, []  # a process that drains says so first: nothing is begun to be stopped
        signals = [SignalArrived(each.id, each.type, each.data) for each in letters if each.type != RETRY_LETTER]
        retry = retry_in(letters)
        if retry is not None:
            self._seen = letters[-1].id  # all of them are decided before the run parks
        await self._perform(self._decide([*early, Begin(owner, retry), *signals]))
        while self._outcome is None:
            await self._perform(self._decide(await self._next(alarm)))
        return self._outcome

    async def _give_up(self, failure: Failure) -> Outcome:
        """Fail the run: taken up again it would meet the same for ever."""
        result = Result(run_id=self.run_id, kind=self._queued.kind, status="failed", failure=failure)
        stored = result.model_dump(mode="json", exclude_none=True)
        await self._end(Finish("failed", stored, failure))
        return Ended("failed", stored, failure, self._lease.epoch)

    def _letter(self, letter: Letter) -> None:
        self.post(SignalArrived(letter.id, letter.type, letter.data))

    def _queue(self, fact: object) -> None:
        self._facts.append(fact)
        self._wake()

    def _pass_on(self, fact: object) -> None:
        """Tell at once what is only to be told: to wake for it would cost more than it."""
        try:
            events = [action.event for action in self._decide([fact]) if isinstance(action, Emit)]
        except Exception as exc:  # noqa: BLE001 - a defect of ours: it ends the run where its facts are decided
            self._queue(exc)
            return
        if events:
            self._scribe.tell(events)

    def _decide_here(self, fact: Plain) -> None:
        """Decide a fact where it comes in: no turn of the loop, no way through all that waits for the run to end.

        Effects alone are done at once, events alone are told; with both, or a nearer deadline, the task goes on.
        """
        due, self._is_idle = self._machine.deadline, False  # what the effects post waits its turn
        try:
            actions = self._machine.receive(fact, self._services.clock.now())
            if all(isinstance(action, Effect) and not action.once for action in actions):
                for effect in actions:
                    self._performer.perform(cast("Effect", effect), self.post)
            elif all(type(action) is Emit for action in actions):
                self._scribe.tell([cast("Emit", action).event for action in actions])
            else:
                self._decided = actions
        except Exception as exc:  # noqa: BLE001 - a defect of ours: it ends this run, not whoever brought the fact
            self._facts.append(exc)
        self._is_idle = not (self._facts or self._decided or is_sooner(self._machine.deadline, due))
        if not self._is_idle:
            self._wake()

    def _wake(self) -> None:
        self._is_idle = False
        self._something.set()

    async def _next(self, alarm: Alarm) -> list[object]:
        alarm.set(self._machine.deadline)
        self._is_idle = not self._facts
        await self._something.wait()
        self._is_idle = False
        self._something.clear()
        await self._scribe.settle()
        facts, self._facts = self._facts, []
        if len(facts) == 1:
            return facts
        # After an outage much has come together: what came is decided before the time that passed, or a session would
        # take for silence what it was told meanwhile.
        awake = [fact for fact in facts if isinstance(fact, Woke)]
        return [fact for fact in facts if not isinstance(fact, Woke)] + awake[:1]

    def _decide(self, facts: list[object]) -> list[Action]:
        now = self._services.clock.now()
        actions, self._decided = self._decided, []
        for fact in facts:
            if isinstance(fact, Exception):
                try:
                    raise fact
                finally:
                    del fact, facts  # or this frame, the run in it, and the exception hold each other
            if isinstance(fact, SignalArrived):
                self._seen = later_id(self._seen, fact.id)
            actions += self._machine.receive(fact, now)
        return actions

    async def _perform(self, actions: list[Action]) -> None:
        events: list[EventData] = []
        park: Park | None = None
        for action in actions:
            match action:
                case Emit(event):
                    if self._is_worth_telling(event):
                        events.append(event)
                    continue
                case Park():
                    park = action
                    continue
                case Effect():
                    await self._begin(action, events)
                case Finish():
                    await self._commit(events)
                    await self._end(action)
                case Release():
                    await self._commit(events)
                    await self._release()
            park = None
        await self._commit(events)
        if park is not None:
            await self._park(park)

    async def _begin(self, effect: Effect, events: list[EventData]) -> None:
        if events and isinstance(self._performer, Foresees):
            self._performer.foresee(effect, self.post)
        await self._commit(events)
        if effect.once and not self._is_noted:
            await self._note()
        self._performer.perform(effect, self.post)

    def _is_worth_telling(self, event: EventData) -> bool:
        if type(event) not in OF_NO_EFFECT:
            return True
        self._told += 1
        if self._told == MOST_TOLD:
            _log.warning("run.letters_untold", run_id=self.run_id, told=MOST_TOLD)
        return self._told <= MOST_TOLD

    async def _commit(self, events: list[EventData]) -> None:
        if events:
            await self._scribe.append(events)
            events.clear()

    async def _end(self, finish: Finish) -> None:
        """SQL first, then the terminal event; Celery's turn comes when the driver returns."""
        await self._performer.close()
        if not finish.archived:
            finish = await self._archived(finish)
        text = json.dumps(finish.result, ensure_ascii=False)
        spilled = len(text.encode()) > SPILL_BYTES
        if spilled:
            await self._until_done(lambda: self._services.store.put_blob(self.run_id, RESULT_BLOB, text))
        await self._scribe.append([terminal_of(finish, spilled=spilled)], finish.status)
        _log.info("run.ended", run_id=self.run_id, status=finish.status, code=finish.failure and finish.failure.code)
        self._outcome = Ended(finish.status, finish.result, finish.failure, self._lease.epoch)

    async def _archived(self, finish: Finish) -> Finish:
        """Return the end that SQL has now: this one, the one that the run's turn came to before, or that without it."""
        said = await self._until_done(lambda: self._services.archive.save(self._record(finish), finish.turn))
        if isinstance(said, RunRecord):
            frame = Result.model_validate(said.result)
            return Finish(frame.status, said.result, frame.failure, archived=True)
        if said == "moved" and finish.moved is not None:
            _log.warning("run.conversation_moved", run_id=self.run_id)
            return await self._archived(finish.moved)
        return finish

    async def _note(self) -> None:
        """Have SQL know, once in each life, that the run must not begin anew if its journal is lost from here on."""
        queued = self._queued
        begun = Begun(
            self.run_id, queued.kind, queued.tenant, queued.labels, self._queued_at, queued.idempotency_key
        )  # fmt: skip
        if not await self._until_done(lambda: self._services.archive.note(begun)):
            raise _JournalWasLost
        self._is_noted = True

    async def _release(self) -> None:
        await self._performer.close()
        await self._until_done(lambda: self._services.store.release(self._lease))
        try:
            await self._services.bell.ring(self.run_id, self._signature, self._queued)
        except StoreUnavailable as exc:  # a released run is due within a lease: a sweeper rings
            _log.warning("run.not_rung", run_id=self.run_id, error=str(exc))
        self._outcome = Dropped("handed over")

    async def _park(self, park: Park) -> None:
        await self._performer.close()
        await self._scribe.append([RunParked(why=park.why, until=park.until)])
        seen = later_id(self._seen, self._machine.cursor)
        self._outcome = Parked(self._lease, park.why, park.until, seen)

    async def _until_done(self, act: Callable[[], Awaitable[T]]) -> T:
        """Act, again and again while a store is away, until the run is known to be another's."""
        while True:
            if any(isinstance(fact, LeaseLost) for fact in self._facts):
                raise LeaseLost(self.run_id)
            try:
                return await act()
            except StoreUnavailable as exc:
                _log.warning("run.waiting", run_id=self.run_id, error=str(exc))
                await self._services.clock.sleep_until(self._services.clock.now() + _PAUSE_S)

    def _record(self, finish: Finish) -> RunRecord:
        queued = self._queued
        return RunRecord(
            self.run_id, queued.kind, finish.status, self._lease.epoch, queued.tenant, queued.labels, finish.result,
            self._queued_at, self._services.clock.now(), queued.idempotency_key,
            queued.conversation,
        )  # fmt: skip
