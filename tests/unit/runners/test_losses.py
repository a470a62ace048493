"""Redis forgets a live run: it begins anew, or says that it cannot; nothing is dropped, no effect comes twice."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from api_contracts.failure import Failure
from api_contracts.keys import new_run_id
from api_contracts.runs import Event
from tests.unit.runners.cell import QUESTION, TIMING, Cell, Worker, says, wants
from tests.waiting import idle
from workers.adapters.memory.model import Hold, MemoryModel, Step
from workers.adapters.memory.runs import MemoryRuns
from workers.adapters.tools import Registry, tool
from workers.ports import Begun, RunRecord
from workers.runners.outcome import Dropped, Ended, Outcome, Unreachable

LARGE = {"messages": [{"role": "user", "content": "x" * 70_000}]}


def wipe(store: MemoryRuns) -> None:
    """Lose everything, as a server that was started on an empty disk."""
    for kept in (store._runs, store._due, store._boxes, store._blobs):
        kept.clear()


def is_lost(outcome: Outcome) -> bool:
    return (
        isinstance(outcome, Ended) and isinstance(outcome.failure, Failure) and outcome.failure.code == "journal_lost"
    )


async def noticed(cell: Cell, worker: Worker, serving: "asyncio.Task[Outcome]") -> Outcome:
    """Return the outcome of a run that hears of its loss at the next renewal."""
    await worker.keeper.renew()
    await idle()
    assert serving.done(), "the run goes on without a journal"
    return serving.result()


def guarded_cell(effect: Any, *answers: list[Step]) -> tuple[Cell, Hold, list[str]]:
    """Return a cell whose one tool is under way until it is let go on, and what has been done."""
    hold, done = Hold(), list[str]()

    @tool(effect=effect)
    async def pay() -> str:
        """Pay."""
        done.append("paid")
        hold.reached.set()
        await hold.go.wait()
        return "paid"

    return Cell(MemoryModel(wants("pay"), *answers), Registry([pay])), hold, done


@pytest.mark.requirement("RUN-04")
@pytest.mark.parametrize("fields", [{}, LARGE], ids=["small", "spilled"])
async def test_a_run_that_did_nothing_above_idempotent_begins_anew_when_its_journal_is_gone(
    fields: dict[str, Any],
) -> None:
    hold = Hold()
    cell = Cell(MemoryModel(says("a", hold), says("all of it")))
    run_id, ann = await cell.submitted(**fields), cell.worker("ann")
    serving = await ann.begin(run_id)
    wipe(cell.store)
    assert isinstance(await noticed(cell, ann, serving), Dropped)
    assert [ring.run_id for ring in cell.bell.rings] == [run_id]
    outcome = await cell.worker("bob").serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == "all of it"


@pytest.mark.requirement("RUN-04", "RUN-08")
@pytest.mark.parametrize("effect", ["keyed", "at_most_once"])
async def test_a_run_that_may_have_had_an_effect_fails_when_its_journal_is_gone(effect: str) -> None:
    cell, hold, done = guarded_cell(effect)
    run_id, ann = await cell.submitted(tools=["pay"]), cell.worker("ann")
    serving = await ann.begin(run_id)
    assert hold.reached.is_set()
    wipe(cell.store)
    assert is_lost(await noticed(cell, ann, serving))
    record = await cell.archive.load(run_id)
    assert record is not None
    assert record.result["failure"]["code"] == "journal_lost"
    assert is_lost(await cell.worker("bob").serve(run_id, QUESTION | {"tools": ["pay"]})), "sent again by its producer"
    await cell.store.announced(run_id)
    assert await cell.store.retry(run_id, "ann", "try again") == "reopened"
    again = await cell.worker("cid").serve(run_id, QUESTION | {"tools": ["pay"]})
    assert is_lost(again), "nobody knows what it had begun, whoever asks for it"
    assert done == ["paid"]


async def test_an_effect_that_may_be_repeated_leaves_no_note_and_the_run_begins_anew() -> None:
    cell, _, done = guarded_cell("idempotent", says("never"))
    run_id, ann = await cell.submitted(tools=["pay"]), cell.worker("ann")
    serving = await ann.begin(run_id)
    wipe(cell.store)
    assert isinstance(await noticed(cell, ann, serving), Dropped)
    assert done == ["paid"]
    assert "noted" not in cell.happened


async def test_sql_knows_of_an_effect_before_it_begins_and_after_the_journal_does() -> None:
    cell, _, done = guarded_cell("keyed")
    cell.archive.away = True
    run_id, ann = await cell.submitted(tools=["pay"]), cell.worker("ann")
    await ann.begin(run_id)
    assert (await cell.types(run_id))[-1] == "tool.call_started"
    assert done == []
    cell.archive.away = False
    await cell.pass_time(1.0)
    assert done == ["paid"]
    assert (await cell.archive.remembered(run_id))[1] is not None
    await ann.die()


@pytest.mark.requirement("RUN-04")
async def test_nobody_who_dies_on_the_way_to_a_known_end_has_the_run_begin_anew() -> None:
    """Each life of a run whose journal tells of nothing but beginnings asks SQL again."""
    cell, _, done = guarded_cell("keyed", says("paid again"))
    run_id, ann, bob = new_run_id(), cell.worker("ann"), cell.worker("bob")
    await cell.archive.note(Begun(run_id, "chat", "default", {}, 1.0))
    await cell.submitted(run_id, tools=["pay"])
    ann.line.cut_at = (1, "after")
    await ann.begin(run_id)
    assert (await cell.types(run_id)) == ["run.queued", "run.started"]
    await ann.die()
    await cell.pass_time(TIMING.lease_s)
    assert is_lost(await bob.serve(run_id))
    assert done == []


async def test_a_run_that_began_while_sql_was_away_stops_before_an_effect_that_another_journal_tells_of() -> None:
    cell, _, done = guarded_cell("keyed")
    run_id, ann = new_run_id(), cell.worker("ann")
    await cell.archive.note(Begun(run_id, "chat", "default", {}, 1.0))
    cell.archive.away = True
    await cell.submitted(run_id, tools=["pay"])
    serving = await ann.begin(run_id)
    cell.archive.away = False
    await cell.pass_time(1.0)
    assert is_lost(serving.result())
    assert done == []
    assert (await cell.types(run_id))[-1] == "run.failed"


@pytest.mark.requirement("RUN-08")
async def test_a_run_that_had_ended_in_sql_when_redis_was_wiped_ends_so_for_celery_too() -> None:
    hold = Hold()
    cell = Cell(MemoryModel(says("all", hold)))
    run_id, ann = await cell.submitted(), cell.worker("ann")
    serving = await ann.begin(run_id)
    cell.archive.away = True
    hold.go.set()
    await idle()
    wipe(cell.store)
    cell.archive.away = False
    await cell.pass_time(1.0)
    assert "saved" in cell.happened
    outcome = serving.result()
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"


async def test_a_zombie_leaves_a_run_alone_that_began_anew_without_it() -> None:
    hold = Hold()
    cell = Cell(MemoryModel(says("a", hold), says("b")))
    run_id, ann = await cell.submitted(), cell.worker("ann")
    serving = await ann.begin(run_id)
    wipe(cell.store)
    await cell.submitted(run_id)
    assert await noticed(cell, ann, serving) == Dropped("the lease was lost")
    assert cell.bell.rings == []


@pytest.mark.requirement("RUN-08", "RUN-21")
async def test_a_message_of_a_lost_run_has_the_failure_in_sql_before_celery_hears_it() -> None:
    cell = Cell()
    run_id, begun = new_run_id(), Begun("x", "chat", "acme", {"team": "a"}, 1.0, "key")
    await cell.archive.note(replace(begun, run_id=run_id))
    cell.archive.away = True
    assert isinstance(await cell.worker().serve(run_id), Unreachable)
    cell.archive.away = False
    assert is_lost(await cell.worker().serve(run_id))
    record = await cell.archive.load(run_id)
    assert record is not None
    assert (record.tenant, record.labels, record.idempotency_key) == ("acme", {"team": "a"}, "key")
    assert (await cell.archive.remembered(run_id))[1] is None


async def test_a_message_that_asks_after_a_run_of_which_nothing_is_known_makes_no_bad_request_of_it() -> None:
    """The poller of a batch knows neither its request nor its digest."""
    cell, run_id = Cell(), new_run_id()
    assert is_lost(await cell.worker().serve(run_id, {"stored": ""}))
    assert await cell.types(run_id) == []


@pytest.mark.requirement("RUN-08", "RUN-10")
async def test_a_message_that_finds_no_journal_leaves_alone_the_one_that_is_written_meanwhile() -> None:
    cell, run_id = Cell(), new_run_id()
    ann = cell.worker("ann")

    async def read_late(run_id: str) -> list[Event]:
        await cell.submitted(run_id)
        return await cell.store.read(run_id)

    ann.line.read = read_late  # type: ignore[method-assign]
    assert await ann.serve(run_id, {"stored": ""}) == Dropped("its journal was lost: it has begun anew")
    assert await cell.archive.load(run_id) is None


@pytest.mark.requirement("RUN-08", "RUN-10")
async def test_a_message_that_finds_no_journal_does_not_overwrite_the_end_of_the_one_that_is_written_meanwhile() -> (
    None
):
    cell, run_id = Cell(MemoryModel(says("all of it"))), new_run_id()
    ann, remembered, asked, answer = cell.worker("ann"), cell.archive.remembered, asyncio.Event(), asyncio.Event()

    async def remembered_before(run_id: str) -> tuple[RunRecord | None, Begun | None]:
        known = await remembered(run_id)
        asked.set()
        await answer.wait()
        return known

    cell.archive.remembered = remembered_before  # type: ignore[method-assign]
    serving = await ann.begin(run_id, {"stored": ""})
    assert asked.is_set()
    cell.archive.remembered = remembered  # type: ignore[method-assign]
    await cell.pass_time(0.5)
    await cell.submitted(run_id)
    assert isinstance(await cell.worker("bob").serve(run_id), Ended)
    await cell.pass_time(0.5)
    answer.set()
    outcome, record = await serving, await cell.archive.load(run_id)
    assert isinstance(outcome, Ended)
    assert record is not None
    assert (outcome.status, record.status) == ("completed", "completed")
    assert (await cell.last(run_id)).type == "run.completed"


async def test_a_loss_is_looked_into_until_the_stores_answer() -> None:
    hold = Hold()
    cell = Cell(MemoryModel(says("a", hold), says("b")))
    run_id, ann = await cell.submitted(), cell.worker("ann")
    serving = await ann.begin(run_id)
    wipe(cell.store)
    ann.line.away.update(("known", "submit"))
    await ann.keeper.renew()
    await cell.pass_time(2.0)
    assert not serving.done()
    ann.line.away.clear()
    cell.bell.away = True
    await cell.pass_time(1.0)
    assert isinstance(serving.result(), Dropped)
    cell.bell.away = False
    await cell.pass_time(TIMING.lost_message_s)
    assert await ann.sweeper.sweep() == 1
