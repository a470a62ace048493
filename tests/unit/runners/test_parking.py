"""A run that parks: told to Celery first, then without a lease; awake again by its time or a letter, in a new life."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from api_contracts.failure import Failure
from api_contracts.runs import EventData, Result, RunParked, RunResumed, RunStarted
from tests.unit.runners.cell import Cell, Worker, end_of, remote, says, wants
from workers.adapters.memory.model import MemoryModel
from workers.core.runs.frame import Action, Begin, Effect, Emit, Finish, Machine, Park, SignalArrived
from workers.runners.drive import Performer
from workers.runners.outcome import Dropped, Ended, Parked

WAITS_S = 100.0


@dataclass
class Waiter:
    """`Machine` that waits for a time or a letter, parked."""

    run_id: str
    at: float
    cursor: str = "0"
    deadline: float | None = None
    parks: int = 0
    closed: list[str] = field(default_factory=list)

    def fold(self, event: EventData, at: float) -> None:
        self.parks += isinstance(event, RunParked)

    def receive(self, fact: object, now: float) -> list[Action]:
        if isinstance(fact, SignalArrived):
            return [self.finish(fact.type)]
        if not isinstance(fact, Begin):
            return []
        first = Emit(RunStarted(owner=fact.owner) if self.parks == 0 else RunResumed(owner=fact.owner))
        if now >= self.at + WAITS_S:
            return [first, self.finish("time")]
        return [first, Park(self.at + WAITS_S, "waiting for a letter")]

    def finish(self, why: str) -> Finish:
        result = Result(run_id=self.run_id, kind="chat", status="completed").model_dump(mode="json", exclude_none=True)
        return Finish("completed", result | {"why": why})


class Patience:
    """`Kinds` of waiters."""

    def prepare(self, run_id: str, queued: Any, request: Mapping[str, Any], at: float) -> tuple[Machine, Performer]:
        return Waiter(run_id, at), self

    def perform(self, effect: Effect, post: Callable[[object], None]) -> None:
        raise AssertionError(effect)

    async def close(self) -> None:
        return None


async def given_parked(cell: Cell) -> tuple[Worker, str]:
    """Return a worker and a run that it has parked."""
    worker, run_id = cell.worker(kinds=Patience()), await cell.submitted()
    outcome = await worker.serve(run_id)
    assert isinstance(outcome, Parked)
    assert await worker.reception.park(outcome)
    return worker, run_id


async def ended(cell: Cell, run_id: str) -> str:
    outcome = await cell.worker("bob", kinds=Patience()).serve(run_id)
    assert isinstance(outcome, Ended)
    return str(outcome.result["why"])


@pytest.mark.requirement("RUN-07")
async def test_a_parked_run_has_said_so_and_keeps_no_lease_and_no_message() -> None:
    cell = Cell()
    worker, run_id = await given_parked(cell)
    last = await cell.last(run_id)
    assert (last.type, last.data["why"]) == ("run.parked", "waiting for a letter")
    assert last.data["until"] == pytest.approx(cell.clock.now() + WAITS_S)
    assert len(worker.keeper) == len(worker.reception) == 0
    dropped = await worker.serve(run_id)
    assert dropped == Dropped("parked")
    assert dropped.truth == RunParked(why="waiting for a letter", until=last.data["until"]), "Flower is told again"
    await cell.pass_time(WAITS_S - 1)
    assert await worker.sweeper.sweep() == 0


@pytest.mark.requirement("RUN-07", "RUN-17")
async def test_its_time_wakes_it_in_another_worker_after_every_worker_was_away() -> None:
    cell = Cell()
    worker, run_id = await given_parked(cell)
    await worker.die()
    await cell.pass_time(WAITS_S + 1)
    assert await cell.worker("bob").sweeper.sweep() == 1
    assert await ended(cell, run_id) == "time"
    assert [t for t in await cell.types(run_id) if t != "run.queued"] == [
        "run.started", "run.parked", "run.resumed", "run.completed",
    ]  # fmt: skip


@pytest.mark.requirement("RUN-06", "RUN-07")
async def test_a_letter_wakes_it_at_once() -> None:
    cell = Cell()
    worker, run_id = await given_parked(cell)
    assert await cell.store.signal(run_id, "approve", {}, "1") == "woken"
    assert await worker.sweeper.wake(run_id)
    assert not await worker.sweeper.wake(run_id)
    assert await ended(cell, run_id) == "approve"
    assert (await cell.types(run_id)).count("run.parked") == 1


@pytest.mark.requirement("RUN-07")
async def test_a_letter_between_the_decision_and_the_park_is_not_slept_through() -> None:
    cell = Cell()
    worker, run_id = cell.worker(kinds=Patience()), await cell.submitted()
    outcome = await worker.serve(run_id)
    assert isinstance(outcome, Parked)
    assert await cell.store.signal(run_id, "approve", {}, "1") == "sent"
    assert not await worker.reception.park(outcome)
    assert await worker.sweeper.wake(run_id)
    assert await ended(cell, run_id) == "approve"


@pytest.mark.requirement("RUN-07", "RUN-04")
async def test_a_worker_that_dies_before_it_lets_go_leaves_a_run_that_parks_again() -> None:
    cell = Cell()
    worker, run_id = cell.worker(kinds=Patience()), await cell.submitted()
    assert isinstance(await worker.serve(run_id), Parked)
    await cell.pass_time(15)
    other = cell.worker("bob", kinds=Patience())
    assert await other.sweeper.sweep() == 1
    outcome = await other.serve(run_id)
    assert isinstance(outcome, Parked)
    assert await other.reception.park(outcome)
    assert (await cell.types(run_id)).count("run.parked") == 2


@pytest.mark.requirement("RUN-03", "RUN-07")
async def test_a_worker_that_lets_go_too_late_does_not_park_the_run_of_another() -> None:
    cell = Cell()
    worker, run_id = cell.worker(kinds=Patience()), await cell.submitted()
    late = await worker.serve(run_id)
    assert isinstance(late, Parked)
    await cell.pass_time(15)
    await cell.worker("bob").sweeper.sweep()
    assert isinstance(await cell.worker("bob", kinds=Patience()).serve(run_id), Parked)
    assert await worker.reception.park(late)
    assert cell.store._runs[run_id].owner == "bob#1"


# -- chats that wait ---------------------------------------------------------------------------------------------------

BUSY = Failure(
    code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider", retry_after_s=20.0
)


async def left_to_wait(cell: Cell, run_id: str, seconds: float = 0.0) -> Parked:
    """Have a chat served until it parks, after so many seconds, by a worker that dies then; return how it waits."""
    worker = cell.worker()
    serving = await worker.begin(run_id)
    await cell.pass_time(seconds)
    outcome = await end_of(serving)
    assert isinstance(outcome, Parked)
    assert await worker.reception.park(outcome)
    assert len(worker.keeper) == len(worker.reception) == 0
    await worker.die()
    return outcome


@pytest.mark.requirement("RUN-07", "CHAT-10")
async def test_a_chat_that_is_told_to_wait_asks_in_another_life_once_it_is_time() -> None:
    cell = Cell(MemoryModel([BUSY], says("at last")))
    run_id = await cell.submitted()
    parked = await left_to_wait(cell, run_id)
    bob = cell.worker("bob")
    await cell.pass_time(19)
    assert await bob.sweeper.sweep() == 0
    await cell.pass_time((parked.until or 0) - cell.clock.now())
    assert await bob.sweeper.sweep() == 1
    outcome = await bob.serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == "at last"
    assert (await cell.types(run_id))[3:6] == ["chat.replaced", "run.parked", "run.resumed"]
    assert len(cell.model.asked) == 2


@pytest.mark.requirement("RUN-07", "RUN-06")
@pytest.mark.parametrize(
    ("kind", "status"), [("cancel", "cancelled"), ("interrupt", "completed"), ("approve", "parked")]
)
async def test_a_letter_to_a_chat_that_waits_is_heard_at_once_and_the_provider_is_left_alone(
    kind: str, status: str
) -> None:
    cell = Cell(MemoryModel([BUSY], says("at last")))
    run_id = await cell.submitted()
    first = await left_to_wait(cell, run_id)
    bob = cell.worker("bob")
    assert await cell.store.signal(run_id, kind, {}, "1") == "woken"
    assert await bob.sweeper.wake(run_id)
    outcome = await bob.serve(run_id)
    assert (await cell.last(run_id)).type == f"run.{status}"
    assert len(cell.model.asked) == 1
    if isinstance(outcome, Parked):
        assert outcome.until == first.until, "it waits no longer for having been woken"


@pytest.mark.requirement("RUN-07", "RUN-18")
async def test_an_operator_has_a_chat_that_waits_ask_at_once() -> None:
    cell = Cell(MemoryModel([BUSY], says("at last")))
    run_id = await cell.submitted()
    await left_to_wait(cell, run_id)
    bob = cell.worker("bob")
    assert await cell.store.retry(run_id, "ann", "it is well again") == "woken"
    assert await bob.sweeper.sweep() == 1
    assert isinstance(await bob.serve(run_id), Ended)
    assert len(cell.model.asked) == 2


@pytest.mark.requirement("RUN-07", "TOOL-03")
async def test_a_chat_that_waits_for_another_service_is_woken_by_its_result() -> None:
    cell = Cell(MemoryModel(wants("pay"), says("paid")))
    run_id = await cell.submitted(tools=[remote("pay")])
    await left_to_wait(cell, run_id, seconds=5)
    bob = cell.worker("bob")
    await cell.bell.deliver(cell.store, cell.bell.calls[0], {"paid": True})
    assert await bob.sweeper.wake(run_id)
    outcome = await bob.serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.result["tool_calls"][0]["content"] == '{"paid": true}'
    assert len(cell.bell.calls) == 1
