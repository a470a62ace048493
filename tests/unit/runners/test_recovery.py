"""A worker dies in the middle of something; another finishes the run when its lease is over. Nobody else is needed."""

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.runners.cell import TIMING, Cell, Worker, end_of, end_over_parks, remote, says, wants
from tests.waiting import idle
from workers.adapters.memory.model import Hold, MemoryModel
from workers.adapters.tools import CallContext, Registry, tool
from workers.runners.outcome import Ended
from workers.runners.reception import MOST_LIVES

EFFECTS = ("pure", "idempotent", "keyed", "at_most_once")
UNKNOWN = "It is not known whether the tool took effect; it was not repeated."


async def found_and_finished(cell: Cell, run_id: str, worker: Worker) -> Ended:
    """Let the lease run out; `worker` sweeps, gets the message that it rang for, and finishes the run."""
    assert await worker.sweeper.sweep() == 0, "nobody takes a run whose lease is good"
    await cell.pass_time(TIMING.lease_s)
    assert await worker.sweeper.sweep() == 1
    assert await worker.sweeper.sweep() == 0, "a run is rung for once"
    assert cell.bell.rings[-1].run_id == run_id
    outcome = await worker.serve(run_id)
    assert isinstance(outcome, Ended)
    assert (await cell.types(run_id)).count("run.resumed") == 1
    return outcome


@dataclass
class Here:
    """A tool of the worker: how often it began, under which keys; it never ends in a worker that will die."""

    began: list[str] = field(default_factory=list)
    hang: bool = True

    def registry(self, effect: Any) -> Registry:
        @tool(effect=effect)
        async def act(context: CallContext) -> str:
            self.began.append(context.key)
            if self.hang:
                await asyncio.get_running_loop().create_future()
            return "done"

        return Registry([act])


@pytest.mark.requirement("RUN-04", "RUN-17")
async def test_dead_while_the_model_speaks() -> None:
    cell = Cell(MemoryModel(says("half", hold := Hold()), says("whole")))
    run_id = await cell.submitted()
    ann = cell.worker("ann")
    await ann.begin(run_id)
    await hold.reached.wait()
    await ann.die()
    outcome = await found_and_finished(cell, run_id, cell.worker("bob"))
    assert outcome.result["message"]["content"] == "whole"
    types = await cell.types(run_id)
    assert types.index("chat.delta") < types.index("run.resumed") < types.index("chat.replaced")


@pytest.mark.requirement("RUN-04", "TOOL-11", "TOOL-12")
@pytest.mark.parametrize("effect", EFFECTS)
async def test_dead_while_a_tool_of_the_worker_runs(effect: str) -> None:
    here = Here()
    cell = Cell(MemoryModel(wants("act"), says("ok")), here.registry(effect))
    run_id = await cell.submitted(tools=["act"])
    ann = cell.worker("ann")
    await ann.begin(run_id)
    assert len(here.began) == 1
    await ann.die()
    here.hang = False
    outcome = await found_and_finished(cell, run_id, cell.worker("bob"))
    (call,) = outcome.result["tool_calls"]
    if effect == "at_most_once":
        assert (call["state"], call["content"], len(here.began)) == ("outcome_unknown", UNKNOWN, 1)
    else:
        assert (call["state"], call["content"]) == ("succeeded", "done")
        assert len(here.began) == 2
        assert len(set(here.began)) == 1, "the repeat has the same key"
    assert len(cell.model.asked) == 2, "the answer that was committed is not asked for again"


@pytest.mark.requirement("RUN-04", "TOOL-03", "TOOL-11")
@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("sent", [False, True])
async def test_dead_while_a_call_is_sent(effect: str, sent: bool) -> None:
    """Before or after the broker had it: nobody who comes later can tell."""
    cell = Cell(MemoryModel(wants("act"), says("ok")))
    run_id = await cell.submitted(tools=[remote("act", effect)])
    ann, bob = cell.worker("ann"), cell.worker("bob")
    cell.bell.away = not sent
    ann.line.cut_at = (3, "before")  # the third append says that the call was sent
    await ann.begin(run_id)
    assert len(cell.bell.calls) == sent
    assert (await cell.types(run_id))[-1] == "tool.call_reserved"
    await ann.die()
    cell.bell.away = False
    await cell.pass_time(TIMING.lease_s)
    serving = await bob.begin(run_id)
    again = effect != "at_most_once"
    assert len(cell.bell.calls) == sent + again
    assert len({call.task_id for call in cell.bell.calls}) <= 1
    for call in cell.bell.calls:
        await cell.bell.deliver(cell.store, call, "done")
    await cell.pass_time(60)
    outcome = await end_over_parks(cell, bob, run_id, serving)
    assert isinstance(outcome, Ended)
    (line,) = outcome.result["tool_calls"]
    assert line["state"] == ("succeeded" if sent or again else "outcome_unknown")


@pytest.mark.requirement("RUN-04", "RUN-06", "TOOL-03")
async def test_dead_while_another_service_works_whose_result_comes_meanwhile() -> None:
    cell = Cell(MemoryModel(wants("act"), says("ok")))
    run_id = await cell.submitted(tools=[remote("act")])
    ann = cell.worker("ann")
    await ann.begin(run_id)
    await ann.die()
    await cell.bell.deliver(cell.store, cell.bell.calls[0], {"paid": True})
    outcome = await found_and_finished(cell, run_id, cell.worker("bob"))
    assert outcome.result["tool_calls"][0]["content"] == '{"paid": true}'
    assert len(cell.bell.calls) == 1


@pytest.mark.requirement("RUN-04", "RUN-06", "RUN-18")
async def test_dead_between_an_operator_s_word_and_what_came_before_it() -> None:
    """The word is told with the begin, before the letters that are older: they must not be passed over."""
    cell = Cell(MemoryModel(says("half", hold := Hold()), says("whole"), says("whole")))
    run_id = await cell.submitted()
    ann, bob, cid = (cell.worker(name) for name in ("ann", "bob", "cid"))
    await ann.begin(run_id)
    await hold.reached.wait()
    await ann.die()
    assert await cell.store.signal(run_id, "cancel", {}, "c") == "sent"
    await cell.pass_time(TIMING.lease_s)
    assert await cell.store.retry(run_id, "dan", "go on") == "woken"
    bob.line.cut_at = (1, "after")
    await bob.begin(run_id)
    assert bob.line.cut.is_set()
    await bob.die()
    await cell.pass_time(TIMING.lease_s)
    outcome = await end_of(await cid.begin(run_id))
    assert isinstance(outcome, Ended)
    assert outcome.status == "cancelled"


@pytest.mark.requirement("RUN-04", "TOOL-03", "TOOL-07")
@pytest.mark.parametrize(("comes", "state"), [(True, "succeeded"), (False, "outcome_unknown")])
async def test_dead_until_the_time_of_a_call_is_over_whose_result_had_come(comes: bool, state: str) -> None:
    """What came while nobody had the run is decided before the time that has passed."""
    cell = Cell(MemoryModel(wants("act"), says("ok")))
    run_id = await cell.submitted(tools=[remote("act")])
    ann, bob = cell.worker("ann"), cell.worker("bob")
    await ann.begin(run_id)
    await ann.die()
    if comes:
        await cell.bell.deliver(cell.store, cell.bell.calls[0], {"paid": True})
    await cell.pass_time(1000)
    assert await bob.sweeper.sweep() == 1
    outcome = await end_of(await bob.begin(run_id))
    assert isinstance(outcome, Ended)
    assert outcome.result["tool_calls"][0]["state"] == state
    assert len(cell.bell.calls) == 1


async def deliver_all(cell: Cell) -> None:
    """Let the other services answer every call that they got."""
    for call in list(cell.bell.calls):
        await cell.bell.deliver(cell.store, call, "paid")
    await idle()


async def ends_after_a_cut(append: int, when: str) -> bool:
    """Play a run whose worker dies before or after its n-th append; return False when there is no n-th."""
    here = Here(hang=False)
    cell = Cell(MemoryModel(wants("act", "pay"), says("x"), says("x"), says("x")), here.registry("at_most_once"))
    run_id = await cell.submitted(tools=["act", remote("pay")])
    ann, bob = cell.worker("ann"), cell.worker("bob")
    ann.line.cut_at = (append, when)
    serving = await ann.begin(run_id)
    await deliver_all(cell)
    if not ann.line.cut.is_set():
        assert isinstance(await end_of(serving), Ended)
        return False
    await ann.die()
    await cell.pass_time(TIMING.lease_s)
    resumed = await bob.begin(run_id)
    await deliver_all(cell)
    await cell.pass_time(60)
    outcome = await end_over_parks(cell, bob, run_id, resumed)
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"
    assert len(here.began) <= 1
    assert max(Counter(call.call_id for call in cell.bell.calls).values(), default=0) <= 1
    return True


@pytest.mark.requirement("RUN-04", "TOOL-06", "TOOL-12")
async def test_dead_before_and_after_every_append() -> None:
    """The line to the store is cut at each append in turn; the run always ends, and what counts happens once."""
    for append in itertools.count(1):
        if not await ends_after_a_cut(append, "before"):
            break
        assert await ends_after_a_cut(append, "after")
    assert append > 6


@pytest.mark.requirement("RUN-04", "RUN-17")
async def test_living_workers_find_and_finish_the_runs_of_a_dead_one_by_themselves() -> None:
    cell = Cell(MemoryModel(*[says(Hold())] * 3, *[says("ok")] * 3))
    run_ids = [await cell.submitted() for _ in range(3)]
    ann, bob = cell.worker("ann"), cell.worker("bob")
    await ann.keep()
    await bob.keep()
    for run_id in run_ids:
        await ann.begin(run_id)
    await cell.pass_time(30)
    assert cell.bell.rings == [], "its leases are renewed for as long as it lives"
    await ann.die()
    await cell.pass_time(TIMING.lease_s + TIMING.sweep_s)
    assert sorted(ring.run_id for ring in cell.bell.rings) == sorted(run_ids)
    for run_id in run_ids:
        assert isinstance(await bob.serve(run_id), Ended)
    await bob.die()


@pytest.mark.requirement("RUN-04", "RUN-10")
async def test_dead_between_the_end_and_the_callbacks() -> None:
    cell = Cell(MemoryModel(says("ok")))
    run_id = await cell.submitted()
    ann, bob = cell.worker("ann"), cell.worker("bob")
    first = await ann.serve(run_id)
    await cell.pass_time(TIMING.lease_s)
    assert await bob.sweeper.sweep() == 1
    assert await bob.serve(run_id) == first
    await cell.store.announced(run_id)
    await cell.pass_time(TIMING.longest_look_s)
    assert await bob.sweeper.sweep() == 0


@pytest.mark.requirement("RUN-04", "RUN-08")
async def test_dead_between_sql_and_the_terminal_event() -> None:
    cell = Cell(MemoryModel(says("ok")))
    run_id = await cell.submitted()
    ann = cell.worker("ann")
    ann.line.cut_at = (4, "before")
    await ann.begin(run_id)
    assert ann.line.cut.is_set()
    assert await cell.archive.load(run_id) is not None
    await ann.die()
    outcome = await found_and_finished(cell, run_id, cell.worker("bob"))
    assert len(cell.model.asked) == 1
    record = await cell.archive.load(run_id)
    assert record is not None
    assert (record.epoch, record.result) == (2, outcome.result)


@pytest.mark.requirement("RUN-03")
async def test_a_worker_that_lost_a_run_to_itself_stops_the_first_of_the_two() -> None:
    """It was paused for longer than a lease, and a message for the run reached it before its renewal did."""
    here = Here()
    cell = Cell(MemoryModel(wants("act"), says("ok")), here.registry("at_most_once"))
    run_id = await cell.submitted(tools=["act"])
    ann = cell.worker("ann")
    first = await ann.begin(run_id)
    cell.clock.advance(TIMING.lease_s)
    second = await ann.begin(run_id)
    assert isinstance(await end_of(second), Ended)
    await idle()
    assert first.done()
    assert (await cell.types(run_id))[-1] == "run.completed"
    assert len(ann.reception) == len(ann.keeper) == 0


@pytest.mark.requirement("RUN-09")
async def test_a_run_that_kills_its_worker_every_time_is_given_up() -> None:
    """Otherwise it would take one worker after another with it, for ever."""
    cell = Cell(MemoryModel(*(says("half", Hold()) for _ in range(MOST_LIVES))))
    run_id = await cell.submitted()
    for life in range(MOST_LIVES):
        worker = cell.worker(f"worker-{life}")
        await worker.begin(run_id)
        await worker.die()
        await cell.pass_time(TIMING.lease_s)
    outcome = await cell.worker("last").serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert (outcome.status, outcome.failure.code, outcome.failure.at_fault) == ("failed", "workers_lost", "us")
    types = await cell.types(run_id)
    assert types.count("run.resumed") == MOST_LIVES
    assert types[-1] == "run.failed"
    assert len(cell.model.asked) == MOST_LIVES


async def test_a_run_that_is_handed_over_ever_again_is_not_given_up() -> None:
    cell = Cell(MemoryModel(*(says("half", Hold()) for _ in range(2 * MOST_LIVES)), says("whole")))
    run_id = await cell.submitted()
    for life in range(2 * MOST_LIVES):
        worker = cell.worker(f"worker-{life}")
        serving = await worker.begin(run_id)
        worker.reception.drain(cell.clock.now())
        await end_of(serving)
    outcome = await cell.worker("last").serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == "whole"


async def test_a_run_that_gets_somewhere_between_deaths_is_not_given_up() -> None:
    answers = [wants("act") for _ in range(MOST_LIVES + 2)]
    here = Here(hang=False)
    cell = Cell(MemoryModel(), here.registry("pure"))
    run_id = await cell.submitted(tools=["act"], limits={"rounds": 100})
    for life, answer in enumerate(answers):
        cell.model.add(answer, says("half", Hold()))
        worker = cell.worker(f"worker-{life}")
        await worker.begin(run_id)
        await worker.die()
        await cell.pass_time(TIMING.lease_s)
    cell.model.add(says("whole"))
    outcome = await cell.worker("last").serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == "whole"
