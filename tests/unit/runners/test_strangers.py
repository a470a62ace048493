"""What strangers wrote where only the service writes: the run fails with a code of its own, or goes on undisturbed."""

import pytest

from tests.unit.runners.cell import QUESTION, Cell, says
from tests.waiting import idle
from workers.adapters.memory.model import Hold, MemoryModel
from workers.ports import Granted, KeysDamaged
from workers.runners.drive import MOST_TOLD
from workers.runners.outcome import Dropped, Ended

pytestmark = pytest.mark.requirement("RUN-20")


async def test_a_run_with_damaged_keys_fails_once_with_a_code_of_its_own() -> None:
    cell = Cell(MemoryModel())
    run_id = await cell.submitted()
    cell.store.damage(run_id, keep=1)
    ann = cell.worker()
    outcome = await ann.serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert (outcome.status, outcome.failure.code, outcome.failure.at_fault) == ("failed", "run_keys_damaged", "us")
    assert await cell.types(run_id) == ["run.queued", "run.started", "run.failed"]
    record = await cell.archive.load(run_id)
    assert record is not None
    assert record.result["failure"]["code"] == "run_keys_damaged"
    assert ann.accepted == [run_id]
    assert cell.model.asked == []


async def test_an_owner_whose_run_is_spoilt_under_its_hands_ends_it() -> None:
    cell = Cell(MemoryModel(says("half", hold := Hold(), "never told")))
    run_id = await cell.submitted()
    ann = cell.worker()
    serving = await ann.begin(run_id)
    await hold.reached.wait()
    cell.store.damage(run_id, keep=2)
    hold.go.set()
    await idle()
    outcome = serving.result()
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert outcome.failure.code == "run_keys_damaged"
    assert (await cell.types(run_id))[-2:] == ["run.resumed", "run.failed"]


async def test_a_damaged_run_whose_result_is_in_sql_keeps_that_result() -> None:
    cell = Cell(MemoryModel(says("hello")))
    run_id = await cell.submitted()
    first = await cell.worker().serve(run_id)
    cell.store.damage(run_id, keep=2)
    assert await cell.worker("bob").serve(run_id) == first
    assert isinstance(first, Ended)
    assert first.status == "completed"


async def test_what_is_damaged_again_and_again_comes_again_and_spoils_nothing() -> None:
    cell = Cell(MemoryModel(says("hello")))
    run_id = await cell.submitted()
    ann = cell.worker()

    async def always(*_: object) -> Granted:
        raise KeysDamaged(run_id)

    ann.line.acquire = always  # type: ignore[attr-defined]
    outcome = await ann.serve(run_id)
    assert not isinstance(outcome, Ended | Dropped)
    assert ann.accepted == []
    assert isinstance(await cell.worker("bob").serve(run_id), Ended)


async def test_an_owner_reads_no_further_than_its_lease_says() -> None:
    """A well-formed event that a stranger wrote behind the last word."""
    cell = Cell(MemoryModel(says("hello")))
    run_id = await cell.submitted()
    forged = (await cell.store.read(run_id))[0].model_copy(update={"seq": 2, "type": "chat.message"})
    ann, read = cell.worker(), cell.store.read

    async def with_forged(asked: str, after: int = 0) -> object:
        found = await read(asked, after)
        return [*found, forged] if len(found) == 1 else found

    ann.line.read = with_forged  # type: ignore[attr-defined]
    outcome = await ann.serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"
    assert outcome.result["message"]["content"] == "hello"


async def test_a_spilled_request_that_somebody_replaced_is_damage() -> None:
    cell = Cell(MemoryModel())
    run_id = await cell.submitted(messages=[{"role": "user", "content": "x" * 70_000}])
    for junk in ("{", "[1]", "[" * 100_000):
        await cell.store.put_blob(run_id, 0, junk)
        outcome = await cell.worker().serve(run_id)
        assert isinstance(outcome, Ended)
        assert outcome.failure is not None
        assert outcome.failure.code == "run_keys_damaged"
        run_id = await cell.submitted(messages=[{"role": "user", "content": "x" * 70_000}])


async def test_a_stored_result_that_somebody_replaced_is_said_to_be_lost() -> None:
    cell = Cell(MemoryModel(says("x" * 70_000)))
    run_id = await cell.submitted()
    await cell.worker().serve(run_id)
    await cell.store.put_blob(run_id, 1, "{")
    cell.archive._records.clear()
    outcome = await cell.worker("bob").serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert outcome.failure.code == "journal_lost"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["no_such_signal", "conflict", "tool_result", "\x00" * 70_000])
async def test_forged_letters_fill_no_journal(kind: str) -> None:
    cell = Cell(MemoryModel(says("half", hold := Hold(), " whole")))
    run_id = await cell.submitted()
    ann = cell.worker()
    serving = await ann.begin(run_id)
    await hold.reached.wait()
    for number in range(3 * MOST_TOLD):
        await cell.store.signal(run_id, kind, {"call_id": str(number), "digest": str(number)}, "")
    await idle()
    await ann.die()
    await cell.pass_time(30)
    cell.model = MemoryModel(says("all"))
    for number in range(MOST_TOLD):
        await cell.store.signal(run_id, kind, {"call_id": str(number), "digest": str(number)}, "")
    outcome = await cell.worker("bob").serve(run_id, QUESTION)
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"
    told = [each for each in await cell.types(run_id) if each in ("run.ignored", "run.conflict")]
    assert len(told) == MOST_TOLD
    assert serving.cancelled()
