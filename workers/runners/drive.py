"""The loop of every run: facts in, actions out, each effect after the events that announce it.

One driver per run and lease. It waits on one queue of facts; whatever happens elsewhere (the model, tools, signals,
time) is posted there. What was decided together is appended together.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from api_contracts.client.scripts import RESULT_BLOB, SPILL_BYTES
from api_contracts.runs import (
    EventData,
    Result,
    RunCancelled,
    RunCompleted,
    RunFailedEvent,
    RunParked,
    RunQueued,
    Status,
)
from workers.core.runs.frame import (
    Action,
    Begin,
    Draining,
    Effect,
    Emit,
    Finish,
    Machine,
    Park,
    Release,
    SignalArrived,
    Woke,
    later_id,
)
from workers.errors import internal
from workers.ports import (
    Archive,
    Bell,
    Clock,
    Inbox,
    LeaseLost,
    Letter,
    Onlooker,
    RunRecord,
    RunStore,
    RunWatch,
    StoreUnavailable,
)
from workers.runners.alarm import Alarm
from workers.runners.outcome import Dropped, Ended, Outcome, Parked

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_PAUSE_S = 0.5
"""Between tries to reach a store that is away."""


class Performer(Protocol):
    """The half of a runner that is special to one kind of work."""

    def perform(self, effect: Effect, post: Callable[[object], None]) -> None:
        """Begin the effect; post what comes of it, an exception for a defect of ours. Never waits."""
        ...

    async def close(self) -> None:
        """Stop whatever is under way, and return when it has stopped."""
        ...


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
    ) -> None:
        self.run_id = run_id
        self.kind = queued.kind
        self._watch = watch
        self._queued = queued
        self._signature = signature
        self._machine = machine
        self._performer = performer
        self._services = services
        self._facts: list[object] = []
        self._something = asyncio.Event()
        self._alarm = Alarm(services.clock, lambda: self.post(Woke()))
        self._epoch = 0
        self._seq = 0
        self._queued_at = 0.0
        self._seen = "0"
        self._outcome: Outcome | None = None

    def post(self, fact: object) -> None:
        """Hand the run a fact. On the loop only."""
        self._facts.append(fact)
        self._something.set()

    def lost(self) -> None:
        """Tell the run that its lease is another's."""
        self.post(LeaseLost(self.run_id))

    def drain(self, force_at: float) -> None:
        """Ask the run to hand over, at the latest at `force_at`."""
        self.post(Draining(force_at))

    async def run(self, owner: str, epoch: int, seq: int, queued_at: float, letters: Sequence[Letter] = ()) -> Outcome:
        """Drive to the end of the run, or of our part in it. Raises `LeaseLost` when the run is another's.

        `letters` are those that a parked run was sent since: decided with `Begin`, or it would park again before them.
        """
        self._epoch, self._seq, self._queued_at = epoch, seq, queued_at
        after = letters[-1].id if letters else self._machine.cursor
        unwatch = self._services.inbox.watch(self.run_id, after, self._letter)
        try:
            return await self._drive(owner, letters)
        except (LeaseLost, StoreUnavailable):
            raise
        except Exception as exc:  # noqa: BLE001 - a defect of ours ends this run, and no other
            _log.exception("run.defect", run_id=self.run_id)
            return await self._give_up(exc)
        finally:
            unwatch()
            self._alarm.set(None)
            await self._performer.close()

    async def _drive(self, owner: str, letters: Sequence[Letter]) -> Outcome:
        early, self._facts = self._facts, []  # a process that drains says so first: nothing is begun to be stopped
        signals = [SignalArrived(letter.id, letter.type, letter.data) for letter in letters]
        await self._perform(self._decide([*early, Begin(owner), *signals]))
        while self._outcome is None:
            await self._perform(self._decide(await self._next()))
        return self._outcome

    async def _give_up(self, exc: Exception) -> Outcome:
        """Fail the run: taken up again it would meet the same defect for ever."""
        failure = internal(exc)
        result = Result(run_id=self.run_id, kind=self._queued.kind, status="failed", failure=failure)
        stored = result.model_dump(mode="json", exclude_none=True)
        await self._end(Finish("failed", stored, failure))
        return Ended("failed", stored, failure)

    def _letter(self, letter: Letter) -> None:
        self.post(SignalArrived(letter.id, letter.type, letter.data))

    async def _next(self) -> list[object]:
        self._alarm.set(self._machine.deadline)
        await self._something.wait()
        self._something.clear()
        facts, self._facts = self._facts, []
        return facts

    def _decide(self, facts: list[object]) -> list[Action]:
        now = self._services.clock.now()
        actions: list[Action] = []
        for fact in facts:
            if isinstance(fact, Exception):
                raise fact
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
                    events.append(event)
                    continue
                case Park():
                    park = action
                    continue
                case Effect():
                    await self._commit(events)
                    self._performer.perform(action, self.post)
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

    async def _commit(self, events: list[EventData]) -> None:
        if events:
            await self._append(events)
            events.clear()

    async def _append(self, events: list[EventData], terminal: Status | None = None) -> None:
        store, base = self._services.store, self._seq
        self._seq = await self._until_done(
            lambda: store.append(self.run_id, self._epoch, base, events, terminal=terminal)
        )
        self._watch.saw(events, self._services.clock.now())

    async def _end(self, finish: Finish) -> None:
        """SQL first, then the terminal event; Celery's turn comes when the driver returns."""
        await self._performer.close()
        await self._until_done(lambda: self._services.archive.save(self._record(finish)))
        text = json.dumps(finish.result, ensure_ascii=False)
        spilled = len(text.encode()) > SPILL_BYTES
        if spilled:
            await self._until_done(lambda: self._services.store.put_blob(self.run_id, RESULT_BLOB, text))
        await self._append([_terminal(finish, spilled=spilled)], finish.status)
        self._outcome = Ended(finish.status, finish.result, finish.failure)

    async def _release(self) -> None:
        await self._performer.close()
        await self._until_done(lambda: self._services.store.release(self.run_id, self._epoch))
        try:
            await self._services.bell.ring(self.run_id, self._signature, self._queued)
        except StoreUnavailable as exc:  # a released run is due within a lease: a sweeper rings
            _log.warning("run.not_rung", run_id=self.run_id, error=str(exc))
        self._outcome = Dropped("handed over")

    async def _park(self, park: Park) -> None:
        await self._performer.close()
        await self._append([RunParked(why=park.why, until=park.until)])
        seen = later_id(self._seen, self._machine.cursor)
        self._outcome = Parked(self.run_id, self._epoch, park.why, park.until, seen)

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
            self.run_id, queued.kind, finish.status, self._epoch, queued.tenant, queued.labels, finish.result,
            self._queued_at, self._services.clock.now(),
        )  # fmt: skip


def _terminal(finish: Finish, *, spilled: bool) -> EventData:
    where = {"result_blob": RESULT_BLOB} if spilled else {"result": dict(finish.result)}
    if finish.status == "completed":
        return RunCompleted.model_validate(where)
    if finish.status == "cancelled":
        return RunCancelled.model_validate(where | {"reason": finish.reason})
    return RunFailedEvent.model_validate(where | {"failure": finish.failure})
