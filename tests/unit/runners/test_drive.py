"""One run under one lease: the order of its writes, stores that are away, defects, leases that are lost."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from api_contracts.client.scripts import RESULT_BLOB
from api_contracts.failure import Failure
from api_contracts.runs import RunQueued
from tests.unit.runners.cell import TIMING, Cell, ChatKinds, end_of, says, wants
from tests.waiting import idle
from workers.adapters.memory.model import Hold, MemoryModel
from workers.adapters.tools import Registry, tool
from workers.core.runs.frame import Action, Effect, Machine
from workers.runners.drive import Performer
from workers.runners.outcome import Dropped, Ended

BUSY = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")


@pytest.mark.requirement("RUN-08")
async def test_sql_comes_before_the_terminal_event_and_that_before_the_outcome() -> None:
    cell = Cell(MemoryModel(says("hello")))
    run_id = await cell.submitted()
    outcome = await cell.worker().serve(run_id)
    assert isinstance(outcome, Ended)
    assert (outcome.status, outcome.failure) == ("completed", None)
    assert outcome.result["message"] == {"role": "assistant", "content": "hello"}
    assert cell.happened == [
        "accepted",
        "run.started", "chat.requested",
        "chat.delta", "chat.message", "chat.usage",
        "saved",
        "run.completed",
        "outcome",
    ]  # fmt: skip
    record = await cell.archive.load(run_id)
    assert record is not None
    assert (record.kind, record.status, record.epoch, record.result) == ("chat", "completed", 1, outcome.result)
    assert (await cell.last(run_id)).data == {"result": outcome.result}


@pytest.mark.requirement("RUN-08", "RUN-16")
async def test_the_record_carries_whose_run_it_was_and_how_long_it_took() -> None:
    cell = Cell(MemoryModel(says("a", hold := Hold())))
    queued_at = cell.clock.now()
    run_id = await cell.submitted(deadline_s=60)
    worker = cell.worker()
    serving = await worker.begin(run_id)
    await hold.reached.wait()
    await cell.pass_time(2)
    hold.go.set()
    await end_of(serving)
    record = await cell.archive.load(run_id)
    assert record is not None
    assert (record.queued_at, record.finished_at) == (queued_at, queued_at + 2)
    assert (record.tenant, dict(record.labels)) == ("default", {})


@pytest.mark.requirement("CHAT-02")
async def test_followers_see_text_while_the_model_still_speaks() -> None:
    cell = Cell(MemoryModel(says("first", hold := Hold(), "second")))
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    assert (await cell.last(run_id)).data == {"attempt": 1, "text": "first"}
    hold.go.set()
    await end_of(serving)


@pytest.mark.requirement("CHAT-02", "RUN-21")
async def test_a_word_that_met_an_outage_lands_though_nothing_else_happens() -> None:
    cell = Cell(MemoryModel(says(before := Hold(), "first", after := Hold())))
    run_id = await cell.submitted()
    worker = cell.worker()
    serving = await worker.begin(run_id)
    worker.line.away.add("append")
    before.go.set()
    await after.reached.wait()
    await idle()
    assert "chat.delta" not in await cell.types(run_id)
    worker.line.away.remove("append")
    await cell.pass_time(1)
    assert (await cell.last(run_id)).data == {"attempt": 1, "text": "first"}
    after.go.set()
    assert isinstance(await end_of(serving), Ended)


async def test_each_effect_waits_for_the_events_that_announce_it() -> None:
    """The line is cut before each append in turn: nothing that it would have announced has begun."""

    began: list[str] = []

    @tool(effect="at_most_once")
    async def act() -> str:
        began.append("act")
        return "done"

    def new_cell() -> Cell:
        return Cell(MemoryModel(wants("act"), says("ok")), Registry([act]))

    whole = new_cell()
    await whole.worker().serve(await whole.submitted(tools=["act"]))
    began.clear()
    for append in range(1, 1 + sum(1 for each in whole.happened if each.startswith(("run.", "chat.", "tool.")))):
        cell = new_cell()
        run_id = await cell.submitted(tools=["act"])
        worker = cell.worker()
        worker.line.cut_at = (append, "before")
        serving = await worker.begin(run_id)
        if serving.done():
            break
        assert worker.line.cut.is_set()
        written = await cell.types(run_id)
        assert len(cell.model.asked) <= written.count("chat.requested")
        assert len(began) <= written.count("tool.call_started")
        await worker.die()
        began.clear()
    assert append > 5


# -- stores that are away ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-21")
@pytest.mark.parametrize("lost", ["away", "lost_reply"])
async def test_a_journal_that_cannot_be_written_for_a_while_is_written_once(lost: str) -> None:
    cell = Cell(MemoryModel(says("a", hold := Hold(), "b")))
    run_id = await cell.submitted()
    worker = cell.worker()
    serving = await worker.begin(run_id)
    getattr(worker.line, lost).add("append")
    hold.go.set()
    await cell.pass_time(5 if lost == "away" else 0)
    assert not serving.done()
    worker.line.away.clear()
    await cell.pass_time(1)
    assert isinstance(await end_of(serving), Ended)
    assert len(cell.model.asked) == 1, "the run was not begun again"
    types = await cell.types(run_id)
    assert types.count("chat.message") == types.count("run.completed") == 1


@pytest.mark.requirement("RUN-08", "RUN-21")
async def test_a_run_does_not_end_before_sql_has_it() -> None:
    cell = Cell(MemoryModel(says("a")))
    cell.archive.away = True
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    await cell.pass_time(8)
    assert not serving.done()
    assert (await cell.types(run_id))[-1] == "chat.usage"
    cell.archive.away = False
    await cell.pass_time(1)
    assert isinstance(await end_of(serving), Ended)
    assert (await cell.types(run_id))[-1] == "run.completed"


@pytest.mark.requirement("RUN-03", "RUN-08")
async def test_a_run_that_is_lost_while_sql_is_away_is_left_alone() -> None:
    cell = Cell(MemoryModel(says("a")))
    cell.archive.away = True
    run_id = await cell.submitted()
    worker = cell.worker()
    serving = await worker.begin(run_id)
    await cell.pass_time(TIMING.lease_s)
    await cell.store.acquire(run_id, "bob", "")
    await worker.keeper.renew()
    cell.archive.away = False
    await cell.pass_time(1)
    assert await end_of(serving) == Dropped("the lease was lost")
    assert await cell.archive.load(run_id) is None


# -- large results -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-25")
@pytest.mark.parametrize(("text", "spilled"), [("x" * 60_000, False), ("x" * 70_000, True), ("€" * 30_000, True)])
async def test_a_result_over_64_kb_is_spilled_and_referenced(text: str, spilled: bool) -> None:
    cell = Cell(MemoryModel(says(text)))
    run_id = await cell.submitted()
    outcome = await cell.worker().serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == text
    data = (await cell.last(run_id)).data
    if spilled:
        assert data == {"result_blob": RESULT_BLOB}
        assert json.loads(await cell.store.blob(run_id, RESULT_BLOB) or "") == outcome.result
    else:
        assert data == {"result": outcome.result}


# -- leases ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-03")
async def test_a_zombie_stops_within_one_renewal_and_writes_nothing_more() -> None:
    stopped = asyncio.Event()

    @tool(effect="at_most_once")
    async def act() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()

    cell = Cell(MemoryModel(wants("act")), Registry([act]))
    run_id = await cell.submitted(tools=["act"])
    zombie = cell.worker("zombie")
    serving = await zombie.begin(run_id)
    cell.clock.advance(TIMING.lease_s)  # it was paused: nothing was renewed
    await cell.store.acquire(run_id, "bob", "")
    before = await cell.journal(run_id)
    await zombie.keep()
    await cell.pass_time(TIMING.renew_s)
    assert await end_of(serving) == Dropped("the lease was lost")
    assert stopped.is_set()
    assert await cell.journal(run_id) == before
    assert await cell.archive.load(run_id) is None
    await zombie.die()


@pytest.mark.requirement("RUN-03")
async def test_a_zombie_that_writes_before_it_renews_is_refused() -> None:
    cell = Cell(MemoryModel(says("a", hold := Hold(), "b")))
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    cell.clock.advance(TIMING.lease_s)
    await cell.store.acquire(run_id, "bob", "")
    before = await cell.journal(run_id)
    hold.go.set()
    assert await end_of(serving) == Dropped("the lease was lost")
    assert await cell.journal(run_id) == before


@pytest.mark.requirement("RUN-21")
async def test_an_owner_that_renews_late_keeps_a_run_that_nobody_took() -> None:
    cell = Cell(MemoryModel(says("a", hold := Hold(), "b")))
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    await cell.pass_time(3 * TIMING.lease_s, step=TIMING.lease_s)
    hold.go.set()
    assert isinstance(await end_of(serving), Ended)
    assert len(cell.model.asked) == 1


# -- defects -----------------------------------------------------------------------------------------------------------


class Broken:
    """Kinds whose machine or performer has a defect at the `nth` chance."""

    def __init__(self, cell: Cell, where: str, nth: int) -> None:
        self._made = ChatKinds(cell)
        self._where = where
        self._chances = nth

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        if self._where == "prepare":
            self._fail()
        machine, performer = self._made.prepare(run_id, queued, request, at)
        receive, perform = machine.receive, performer.perform
        broken_machine: Any = machine
        broken_performer: Any = performer

        def received(fact: object, now: float) -> list[Action]:
            self._fail()
            return receive(fact, now)

        def performed(effect: Effect, post: Callable[[object], None]) -> None:
            self._fail()
            perform(effect, post)

        if self._where == "machine":
            broken_machine.receive = received
        elif self._where == "performer":
            broken_performer.perform = performed
        return broken_machine, broken_performer

    def _fail(self) -> None:
        self._chances -= 1
        if self._chances == 0:
            raise RuntimeError("the customer's secret")


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize(
    ("where", "nth"), [("prepare", 1), ("machine", 1), ("machine", 2), ("machine", 3), ("performer", 1)]
)
async def test_a_defect_fails_the_run_without_telling_what_was_in_it(where: str, nth: int) -> None:
    cell = Cell(MemoryModel(says("a")))
    run_id = await cell.submitted()
    outcome = await cell.worker(kinds=Broken(cell, where, nth)).serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert (outcome.status, outcome.failure.code, outcome.failure.at_fault) == ("failed", "internal", "us")
    assert "RuntimeError" in outcome.failure.message
    last = await cell.last(run_id)
    assert last.type == "run.failed"
    for told in (str(outcome), str(last), str(await cell.archive.load(run_id))):
        assert "secret" not in told
        assert "Traceback" not in told
    assert cell.model.open == 0


@pytest.mark.requirement("RUN-09")
async def test_a_defect_of_the_adapter_fails_the_run_too() -> None:
    cell = Cell(MemoryModel([RuntimeError("the customer's secret")]))
    outcome = await cell.worker().serve(await cell.submitted())
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert outcome.failure.code == "internal"
    assert "secret" not in str(outcome)


@pytest.mark.requirement("RUN-09")
async def test_a_defect_of_one_run_is_not_felt_by_another() -> None:
    cell = Cell(MemoryModel([RuntimeError("broken")], says("fine", hold := Hold())))
    first, second = await cell.submitted(), await cell.submitted()
    worker = cell.worker()
    failing, healthy = await worker.begin(first), await worker.begin(second)
    hold.go.set()
    outcomes = [await end_of(failing), await end_of(healthy)]
    assert [outcome.status for outcome in outcomes if isinstance(outcome, Ended)] == ["failed", "completed"]


# -- signals and time --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-06")
async def test_what_was_said_before_the_start_is_heard_by_the_first_life() -> None:
    cell = Cell(MemoryModel(says("at once")))
    run_id = await cell.submitted()
    for kind in ("approve", "reject", "update_settings"):
        assert await cell.store.signal(run_id, kind, {"by": "ann"}, "") == "sent"
    assert isinstance(await cell.worker().serve(run_id), Ended)
    assert (await cell.types(run_id))[1:6] == ["run.started", "chat.requested", *["run.ignored"] * 3]


@pytest.mark.requirement("RUN-06")
async def test_a_cancel_stops_the_model_and_keeps_what_was_said() -> None:
    cell = Cell(MemoryModel(says("so far", Hold())))
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    assert await cell.store.signal(run_id, "cancel", {"reason": "enough"}, "s1") == "sent"
    outcome = await end_of(serving)
    assert isinstance(outcome, Ended)
    assert (outcome.status, outcome.result["message"]["content"]) == ("cancelled", "so far")
    assert (await cell.last(run_id)).data["reason"] == "enough"
    assert cell.model.open == 0
    assert await cell.store.signal(run_id, "cancel", {}, "s2") == "finished"


@pytest.mark.requirement("RUN-06")
async def test_a_signal_from_before_the_start_is_taken() -> None:
    cell = Cell(MemoryModel(says(Hold())))
    run_id = await cell.submitted()
    await cell.store.signal(run_id, "cancel", {}, "s1")
    outcome = await cell.worker().serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.status == "cancelled"


@pytest.mark.requirement("CHAT-10", "RUN-12")
async def test_the_clock_wakes_a_run_that_pauses() -> None:
    cell = Cell(MemoryModel([BUSY], says("now")))
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    await cell.pass_time(0.4, step=0.1)
    assert len(cell.model.asked) == 1
    await cell.pass_time(0.1, step=0.1)
    outcome = await end_of(serving)
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"
    assert [asked.request_id for asked in cell.model.asked] == [f"{run_id}.1", f"{run_id}.2"]


@pytest.mark.requirement("RUN-12")
async def test_the_clock_ends_a_run_whose_deadline_has_come() -> None:
    cell = Cell(MemoryModel(says(Hold())))
    run_id = await cell.submitted(deadline_s=4)
    serving = await cell.worker().begin(run_id)
    await cell.pass_time(3.5)
    assert not serving.done()
    await cell.pass_time(0.5)
    outcome = await end_of(serving)
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert outcome.failure.code == "deadline_exceeded"
    await idle()
    assert cell.model.open == 0


@pytest.mark.requirement("RUN-21")
async def test_what_came_while_the_store_was_away_is_decided_before_the_time_that_passed() -> None:
    """The tool's deadline was noticed first, but nothing was said of it: its answer is there now, and counts."""
    go = asyncio.Event()

    @tool(effect="pure", timeout_s=2.0)
    async def look() -> str:
        """Look."""
        await go.wait()
        return "seen"

    cell = Cell(MemoryModel(wants("look"), says("ok")), Registry([look]))
    run_id, worker = await cell.submitted(tools=["look"]), cell.worker()
    serving = await worker.begin(run_id)
    worker.line.away.add("append")
    await cell.store.signal(run_id, "hm", {}, "1")  # the run has something to say, and cannot
    await cell.pass_time(3.0)
    go.set()
    await cell.pass_time(1.0)
    worker.line.away.clear()
    await cell.pass_time(1.0)
    outcome = await end_of(serving)
    assert isinstance(outcome, Ended)
    assert [call["state"] for call in outcome.result["tool_calls"]] == ["succeeded"]
