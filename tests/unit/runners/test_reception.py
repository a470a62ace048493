"""What a message comes to: recorded, leased, driven; or dropped, because the journal knows better."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from api_contracts.client.scripts import REQUEST_BLOB
from api_contracts.failure import Failure
from api_contracts.keys import derived_run_id, new_run_id
from api_contracts.runs import RunQueued, RunStarted
from tests.logs import logged
from tests.unit.core.turns import REFUSED
from tests.unit.runners.cell import QUESTION, TIMING, Cell, end_of, remote, says, wants
from tests.waiting import idle
from workers.adapters.memory.model import Hold, MemoryModel
from workers.adapters.tools import Registry, tool
from workers.core.runs.frame import Machine
from workers.ports import Lease
from workers.runners.drive import Performer
from workers.runners.outcome import Dropped, Ended, Unreachable
from workers.runners.reception import refusal

LARGE = QUESTION | {"messages": [{"role": "user", "content": "x" * 70_000}]}


class RefusingKinds:
    """`Kinds` to whom no request is right."""

    def prepare(self, run_id: str, queued: RunQueued, request: Any, at: float) -> tuple[Machine, Performer]:
        return refusal(run_id, queued.kind, REFUSED)


async def begun_before(cell: Cell, run_id: str) -> None:
    """Have the run be one whose worker died when it had begun it: its journal is read again."""
    await cell.store.acquire(run_id, "gone", "")
    await cell.store.append(Lease(run_id, 1, "gone"), 1, [RunStarted(owner="gone")])
    await cell.pass_time(TIMING.lease_s)


def failed(outcome: object, code: str) -> bool:
    return isinstance(outcome, Ended) and outcome.failure is not None and outcome.failure.code == code


# -- foreign messages --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-13")
async def test_a_foreign_message_gets_its_record_from_the_worker() -> None:
    cell = Cell(MemoryModel(says("hello")))
    run_id = new_run_id()
    request = QUESTION | {"tenant": "acme", "labels": {"team": "a"}, "lane": "background"}
    outcome = await cell.worker().serve(run_id, request)
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"
    queued = RunQueued.model_validate((await cell.journal(run_id))[0].data)
    assert (queued.kind, queued.writer, queued.request) == ("chat", "test", request)
    assert (queued.tenant, queued.labels, queued.lane) == ("acme", {"team": "a"}, "background")
    record = await cell.archive.load(run_id)
    assert record is not None
    assert (record.tenant, dict(record.labels)) == ("acme", {"team": "a"})


@pytest.mark.requirement("RUN-16")
async def test_each_line_of_the_log_says_whose_run_it_is_and_holds_no_key() -> None:
    cell = Cell(MemoryModel(says("hello")))
    whose = {"tenant": "acme", "labels": {"team": "a"}, "idempotency_key": "ann@example.org"}
    run_id = new_run_id()
    with logged() as lines:
        await cell.worker().serve(run_id, QUESTION | whose)
    (ended,) = (line for line in lines if line["event"] == "run.ended")
    assert (ended["run_id"], ended["status"], ended["code"]) == (run_id, "completed", None)
    assert (ended["tenant"], ended["labels"]) == ("acme", {"team": "a"})
    assert ended["idempotency_id"] == derived_run_id("acme", "ann@example.org")
    assert "example.org" not in str(lines)
    first, *_, usage, _ = [event.data for event in await cell.journal(run_id)]
    assert {name: first[name] for name in whose} == whose
    assert usage["tenant"] == "acme"
    record = await cell.archive.load(run_id)
    assert record is not None
    assert record.idempotency_key == "ann@example.org"


@pytest.mark.requirement("RUN-13")
@pytest.mark.parametrize(
    "request_",
    ["text", [1], 5, {"model": "m"}, QUESTION | {"labels": 5, "lane": 7}, QUESTION | {"extra": {"x": "\ud800"}}],
)
async def test_a_foreign_request_that_is_no_request_fails_and_says_so(request_: Any) -> None:
    cell = Cell()
    run_id = new_run_id()
    outcome = await cell.worker(kinds=RefusingKinds()).serve(run_id, request_)
    assert failed(outcome, "refused")
    assert RunQueued.model_validate((await cell.journal(run_id))[0].data).to_json(), "it can be stored"
    assert await cell.types(run_id) == ["run.queued", "run.started", "run.failed"]
    assert cell.model.asked == []


@pytest.mark.requirement("RUN-25")
async def test_a_request_over_64_kb_is_spilled_and_read_back() -> None:
    cell = Cell(MemoryModel(says("read")))
    run_id = new_run_id()
    await cell.worker().serve(run_id, LARGE)
    queued = RunQueued.model_validate((await cell.journal(run_id))[0].data)
    assert (queued.request, queued.request_blob) == (None, REQUEST_BLOB)
    assert json.loads(await cell.store.blob(run_id, REQUEST_BLOB) or "") == LARGE
    assert cell.model.asked[0].body["messages"] == LARGE["messages"]


@pytest.mark.requirement("RUN-25")
async def test_the_signature_for_re_sends_carries_the_digest_and_no_content() -> None:
    cell = Cell(MemoryModel(says(Hold())))
    run_id = new_run_id()
    worker = cell.worker()
    await worker.begin(run_id, QUESTION)
    digest = (await cell.journal(run_id))[0].data["digest"]
    await worker.die()
    await cell.pass_time(TIMING.lease_s)
    (claimed,) = await cell.store.claim_due(10)
    assert claimed.signature == f"{run_id} by {digest}"


# -- what is there already ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-10")
async def test_a_duplicate_of_a_live_run_is_dropped() -> None:
    cell = Cell(MemoryModel(says("a", hold := Hold())))
    run_id = await cell.submitted()
    ann, bob = cell.worker("ann"), cell.worker("bob")
    serving = await ann.begin(run_id)
    before = await cell.journal(run_id)
    assert await bob.serve(run_id) == Dropped("held by ann#1")
    assert await ann.serve(run_id) == Dropped("held by ann#1")
    assert (ann.accepted, bob.accepted) == ([run_id], [])
    assert await cell.journal(run_id) == before
    hold.go.set()
    assert isinstance(await end_of(serving), Ended)
    assert len(cell.model.asked) == 1


@pytest.mark.requirement("RUN-12")
async def test_an_expired_message_ends_a_run_that_nobody_began_and_no_other() -> None:
    cell = Cell(MemoryModel(says("a", hold := Hold()), says("b")))
    ann, bob = cell.worker("ann"), cell.worker("bob")
    late, begun = await cell.submitted(), await cell.submitted()
    outcome = await ann.reception.serve(replace(ann.message(late), is_expired=True), ann._accept(late))
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert (outcome.failure.code, await cell.types(late)) == ("expired", ["run.queued", "run.started", "run.failed"])
    serving = await ann.begin(begun)
    duplicate = replace(bob.message(begun), is_expired=True)
    assert await bob.reception.serve(duplicate, bob._accept(begun)) == Dropped("held by ann#2")
    await ann.die()
    assert serving.cancelled()
    assert not hold.go.is_set()
    await cell.pass_time(TIMING.lease_s)
    outcome = await bob.reception.serve(duplicate, bob._accept(begun))
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == "b"


@pytest.mark.requirement("RUN-01")
async def test_the_same_foreign_message_twice_is_one_run() -> None:
    cell = Cell(MemoryModel(says("a", hold := Hold())))
    run_id = new_run_id()
    ann, bob = cell.worker("ann"), cell.worker("bob")
    serving = await ann.begin(run_id, QUESTION)
    reordered = dict(reversed(QUESTION.items()))
    assert await bob.serve(run_id, reordered) == Dropped("held by ann#1")
    hold.go.set()
    await end_of(serving)
    assert (await cell.types(run_id)).count("run.conflict") == 0


@pytest.mark.requirement("RUN-01")
async def test_another_request_under_the_same_id_is_dropped_and_noted_and_the_live_run_untouched() -> None:
    cell = Cell(MemoryModel(says("a", hold := Hold())))
    run_id = await cell.submitted()
    ann, bob = cell.worker("ann"), cell.worker("bob")
    serving = await ann.begin(run_id)
    other = QUESTION | {"temperature": 1}
    for _ in range(2):
        assert await bob.serve(run_id, other) == Dropped("another request under the same id")
        await idle()
    assert bob.accepted == []
    assert (await cell.types(run_id)).count("run.conflict") == 1
    hold.go.set()
    outcome = await end_of(serving)
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"
    assert "temperature" not in cell.model.asked[0].body


@pytest.mark.requirement("RUN-01", "RUN-10")
async def test_another_request_under_the_id_of_a_finished_run_is_dropped() -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = await cell.submitted()
    worker = cell.worker()
    await worker.serve(run_id)
    before = await cell.journal(run_id)
    assert await worker.serve(run_id, QUESTION | {"temperature": 1}) == Dropped("another request under the same id")
    assert await cell.journal(run_id) == before


@pytest.mark.requirement("RUN-10")
async def test_a_finished_run_that_was_not_announced_announces_what_is_stored() -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = await cell.submitted()
    worker = cell.worker()
    first = await worker.serve(run_id)
    again = await worker.serve(run_id)
    assert again == first
    assert worker.accepted == [run_id], "there is nothing to lease: Celery acknowledges when it has the outcome"
    assert len(cell.model.asked) == 1
    await cell.store.announced(run_id)
    assert await worker.serve(run_id) == Dropped("finished and announced")


@pytest.mark.requirement("RUN-08", "RUN-10")
@pytest.mark.parametrize("text", ["short", "x" * 70_000])
async def test_what_sql_lost_is_announced_from_the_journal(text: str) -> None:
    cell = Cell(MemoryModel(says(text)))
    run_id = await cell.submitted()
    first = await cell.worker().serve(run_id)
    cell.archive._records.clear()
    assert await cell.worker().serve(run_id) == first


@pytest.mark.requirement("RUN-08", "RUN-10")
async def test_a_failed_run_is_announced_with_its_failure() -> None:
    cell = Cell(MemoryModel([REFUSED]))
    run_id = await cell.submitted()
    await cell.worker().serve(run_id)
    outcome = await cell.worker().serve(run_id)
    assert isinstance(outcome, Ended)
    assert (outcome.status, outcome.failure) == ("failed", REFUSED)


@pytest.mark.requirement("RUN-08")
async def test_a_run_that_only_sql_remembers_is_announced_from_there() -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = await cell.submitted()
    first = await cell.worker().serve(run_id)
    cell.store._runs.clear()
    assert await cell.worker().serve(run_id) == first


async def test_a_run_that_nobody_remembers_is_said_to_be_lost() -> None:
    assert failed(await Cell().worker().serve(new_run_id()), "journal_lost")


async def test_a_run_whose_result_nobody_has_is_said_to_be_lost() -> None:
    cell = Cell(MemoryModel(says("x" * 70_000)))
    run_id = await cell.submitted()
    await cell.worker().serve(run_id)
    cell.archive._records.clear()
    cell.store._blobs.clear()
    assert failed(await cell.worker().serve(run_id), "journal_lost")


async def test_a_run_whose_request_nobody_has_is_said_to_be_lost() -> None:
    cell = Cell()
    run_id = new_run_id()
    await cell.submitted(run_id, **LARGE)
    cell.store._blobs.clear()
    assert failed(await cell.worker().serve(run_id), "journal_lost")
    assert await cell.types(run_id) == ["run.queued", "run.started", "run.failed"]


@pytest.mark.requirement("RUN-09")
async def test_a_journal_that_cannot_be_read_ends_the_run_as_our_defect() -> None:
    cell = Cell()
    run_id = await cell.submitted()
    await begun_before(cell, run_id)
    cell.store._runs[run_id].events.append(cell.store._runs[run_id].events[1].model_copy(update={"seq": 3, "data": {}}))
    assert failed(await cell.worker().serve(run_id), "internal")
    assert (await cell.types(run_id))[-2:] == ["run.resumed", "run.failed"]


# -- acknowledging -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-21")
@pytest.mark.parametrize("call", ["submit", "acquire"])
async def test_a_message_whose_store_is_away_must_come_again(call: str) -> None:
    cell = Cell()
    worker = cell.worker()
    worker.line.away.add(call)
    assert isinstance(await worker.serve(new_run_id(), QUESTION), Unreachable)
    assert worker.accepted == []


@pytest.mark.requirement("RUN-21")
async def test_a_conflict_that_cannot_be_noted_comes_again() -> None:
    cell = Cell()
    worker = cell.worker()
    worker.line.away.add("signal")
    assert isinstance(await worker.serve(await cell.submitted(), QUESTION | {"seed": 1}), Unreachable)


@pytest.mark.requirement("RUN-10", "RUN-21")
@pytest.mark.parametrize("away", ["archive", "read"])
async def test_a_stored_outcome_that_cannot_be_read_now_comes_again(away: str) -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = await cell.submitted()
    worker = cell.worker()
    await worker.serve(run_id)
    if away == "archive":
        cell.archive.away = True
    else:
        cell.archive._records.clear()
        worker.line.away.add("read")
    assert isinstance(await worker.serve(run_id), Unreachable)


@pytest.mark.requirement("RUN-21")
@pytest.mark.parametrize("call", ["read", "blob"])
async def test_once_accepted_a_message_never_comes_again_but_its_run_does(call: str) -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = new_run_id()
    await cell.submitted(run_id, **LARGE)
    await begun_before(cell, run_id)
    ann, bob = cell.worker("ann"), cell.worker("bob")
    ann.line.away.add(call)
    assert isinstance(await ann.serve(run_id), Dropped)
    assert ann.accepted == [run_id]
    await cell.pass_time(TIMING.lease_s)
    assert await bob.sweeper.sweep() == 1
    assert isinstance(await bob.serve(cell.bell.rings[0].run_id), Ended)


@pytest.mark.requirement("RUN-10")
async def test_a_message_is_accepted_exactly_once_and_only_with_the_lease() -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = await cell.submitted()
    worker = cell.worker()
    held: list[object] = []

    async def accept() -> None:
        held.append(await cell.store.acquire(run_id, "somebody else", ""))

    await worker.reception.serve(worker.message(run_id), accept)
    assert len(held) == 1
    assert "ann" in str(held[0]), "the lease was ours when the message was accepted"


@pytest.mark.requirement("RUN-10")
async def test_celery_is_told_of_the_message_while_sql_is_asked_about_the_run() -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = await cell.submitted()
    worker, is_asked, remembered = cell.worker(), asyncio.Event(), cell.archive.remembered

    async def ask(asked: str) -> Any:
        is_asked.set()
        return await remembered(asked)

    async def accept() -> None:
        await is_asked.wait()

    cell.archive.remembered = ask  # type: ignore[method-assign]
    serving = asyncio.create_task(worker.reception.serve(worker.message(run_id), accept))
    assert isinstance(await end_of(serving), Ended)


# -- draining ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-05")
async def test_a_draining_worker_hands_its_runs_over_and_rings_for_them() -> None:
    cell = Cell(MemoryModel(wants("ask"), says("thanks")))
    run_id = await cell.submitted(tools=[remote("ask")])
    ann, bob = cell.worker("ann"), cell.worker("bob")
    serving = await ann.begin(run_id)
    assert len(ann.reception) == 1
    ann.reception.drain(cell.clock.now() + 5)
    assert await end_of(serving) == Dropped("handed over")
    assert (len(ann.reception), len(ann.keeper)) == (0, 0)
    (ring,) = cell.bell.rings
    assert (ring.run_id, ring.signature) == (run_id, f"{run_id} by {ring.queued.digest}")
    second = await bob.begin(run_id)
    await cell.bell.deliver(cell.store, cell.bell.calls[0], 42)
    outcome = await end_of(second)
    assert isinstance(outcome, Ended)
    assert outcome.result["tool_calls"][0]["content"] == "42"
    assert len(cell.bell.calls) == 1
    assert (await cell.types(run_id)).count("run.resumed") == 1


@pytest.mark.requirement("RUN-05")
async def test_a_draining_worker_waits_for_an_answer_until_its_time_is_over() -> None:
    cell = Cell(MemoryModel(says("a", Hold()), says("b")))
    run_id = await cell.submitted()
    ann = cell.worker("ann")
    serving = await ann.begin(run_id)
    ann.reception.drain(cell.clock.now() + 5)
    await cell.pass_time(4.5)
    assert not serving.done()
    await cell.pass_time(0.5)
    assert await end_of(serving) == Dropped("handed over")
    assert cell.model.open == 0
    outcome = await cell.worker("bob").serve(cell.bell.rings[0].run_id)
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == "b"


@pytest.mark.requirement("RUN-05")
async def test_a_run_that_comes_while_draining_is_handed_over_before_anybody_is_asked() -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = await cell.submitted()
    ann = cell.worker("ann")
    ann.reception.drain(cell.clock.now() + 5)
    assert await ann.serve(run_id) == Dropped("handed over")
    assert cell.model.asked == []
    assert [ring.run_id for ring in cell.bell.rings] == [run_id]
    assert isinstance(await cell.worker("bob").serve(run_id), Ended)


@pytest.mark.requirement("RUN-05", "RUN-17")
async def test_a_hand_over_without_a_broker_is_found_by_a_sweeper() -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = await cell.submitted()
    ann, bob = cell.worker("ann"), cell.worker("bob")
    cell.bell.away = True
    ann.reception.drain(cell.clock.now() + 5)
    assert await ann.serve(run_id) == Dropped("handed over")
    cell.bell.away = False
    await cell.pass_time(TIMING.lease_s)
    assert await bob.sweeper.sweep() == 1
    assert isinstance(await bob.serve(run_id), Ended)


@pytest.mark.requirement("RUN-05")
async def test_a_draining_worker_lets_a_tool_finish_and_the_next_asks_with_its_result() -> None:
    go = asyncio.Event()

    @tool(effect="at_most_once")
    async def act() -> str:
        await go.wait()
        return "acted"

    cell = Cell(MemoryModel(wants("act"), says("ok")), Registry([act]))
    run_id = await cell.submitted(tools=["act"])
    ann = cell.worker("ann")
    serving = await ann.begin(run_id)
    ann.reception.drain(cell.clock.now() + 60)
    await idle()
    assert not serving.done()
    go.set()
    assert await end_of(serving) == Dropped("handed over")
    outcome = await cell.worker("bob").serve(run_id)
    assert isinstance(outcome, Ended)
    assert [call["state"] for call in outcome.result["tool_calls"]] == ["succeeded"]


async def test_a_failure_of_the_provider_has_the_contracts_shape_in_the_outcome() -> None:
    failure = Failure(code="provider_down", category="overloaded", message="down", at_fault="provider")
    cell = Cell(MemoryModel([failure]))
    assert failed(await cell.worker().serve(await cell.submitted()), "provider_down")


async def test_the_model_is_not_asked_before_the_attempt_is_on_record() -> None:
    model = MemoryModel(says("a"))
    cell = Cell(model)
    worker = cell.worker()
    worker.line.cut_at = (1, "before")
    await worker.begin(await cell.submitted())
    assert worker.line.cut.is_set()
    assert model.asked == []
    await worker.die()
