"""Whole batches through Reception and Driver: each row has one end, whatever happens meanwhile."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from api_contracts.batch import BatchResult
from tests.unit.runners.batch_cell import BUSY, REFUSED, BatchCell, Fate, ask, body, jsonl
from tests.unit.runners.cell import TIMING, Worker
from tests.waiting import idle
from workers.adapters.memory.model import Hold
from workers.core.batch import ids
from workers.core.batch.acts import Counts
from workers.runners.outcome import Dropped, Ended, Parked

ROWS = [ask(n) for n in range(1, 8)]


def fated(**fates: Fate) -> dict[str, Fate]:
    return {f"row-{name.removeprefix('r')}": fate for name, fate in fates.items()}


async def told(cell: BatchCell, run_id: str, kind: str) -> list[dict[str, Any]]:
    """The data of all events of a type."""
    return [event.data for event in await cell.journal(run_id) if event.type == kind]


async def check(cell: BatchCell, run_id: str, result: BatchResult) -> None:
    """The result, SQL and the journal say the same; nothing is left under way."""
    counts, kept = result.rows, cell.rows.rows(run_id)
    assert (result.status, counts.pending, counts.total) == ("completed", 0, len(kept))
    assert await cell.rows.counts(run_id) == Counts(counts.succeeded, counts.failed, counts.quarantined, 0)
    assert all((row.response is not None) == (row.state == "succeeded") for row in kept)
    assert cell.rows.watched(run_id) == {}
    assert (cell.service.open, cell.inputs.open) == (0, 0)
    submitted = await told(cell, run_id, "batch.submitted")
    assert sorted(each["job"] for each in submitted) == sorted(cell.service.jobs), "each job is made, and told, once"


@pytest.mark.requirement("BATCH-01", "BATCH-05", "BATCH-06", "BATCH-19", "RUN-07")
async def test_a_batch_is_parked_woken_by_the_poller_and_finished_by_another_worker() -> None:
    cell = BatchCell(fates=fated(r3="invalid"))
    run_id = await cell.submitted(rows=[*ROWS, {"custom_id": "bad"}], shard_rows=3)
    ann = cell.worker("ann")
    assert isinstance(await cell.lived(ann, run_id), Parked)
    assert len(ann.keeper) == len(ann.reception) == 0
    assert await ann.serve(run_id) == Dropped("parked")
    assert sorted(cell.rows.watched(run_id)) == [1, 2, 3]
    cell.work()
    assert await cell.poller().poll() == 0, "they were looked at a moment ago"
    await cell.pass_time(30)
    assert await cell.poller().poll() == 3
    assert [ring.run_id for ring in cell.bell.rings] == [run_id]
    outcome = await cell.lived(cell.worker("bob"), run_id)
    assert isinstance(outcome, Ended)
    result = BatchResult.model_validate(outcome.result)
    await check(cell, run_id, result)
    assert (result.rows.succeeded, result.rows.failed, result.rows.quarantined) == (6, 1, 1)
    assert result.reasons == {"no_body": 1, "provider_400": 1}
    types = await cell.types(run_id)
    assert types.count("run.parked") == 1
    assert types[-1] == "run.completed"


@pytest.mark.requirement("BATCH-01")
@pytest.mark.parametrize("source", ["file", "dataset"])
async def test_a_batch_of_a_file_or_a_dataset(source: str) -> None:
    cell = BatchCell()
    cell.inputs.files["/rows.jsonl"] = jsonl(ROWS)
    cell.service.put_dataset("mine", {"rows.jsonl": jsonl(ROWS)})
    given = {"file": "/rows.jsonl"} if source == "file" else {"dataset": "mine"}
    run_id = await cell.submitted(**given)
    await check(cell, run_id, result := await cell.ended(run_id))
    assert result.rows.succeeded == 7


@pytest.mark.requirement("BATCH-09")
async def test_rows_that_fail_or_are_missing_are_submitted_again() -> None:
    cell = BatchCell(fates=fated(r1="fickle", r2="length", r3="missing", r4="error"))
    run_id = await cell.submitted(rows=ROWS, attempts=2)
    result = await cell.ended(run_id)
    kept = cell.kept(run_id)
    assert (result.status, result.rows.succeeded, result.rows.failed) == ("completed", 4, 3)
    assert {name: row.attempt for name, row in kept.items() if row.attempt > 1} == {f"row-{n}": 2 for n in (1, 2, 3, 4)}
    assert [kept[f"row-{n}"].code for n in (1, 2, 3, 4)] == ["", "finish_length", "missing_output", "provider_500"]
    assert [kept[f"row-{n}"].response is not None for n in (1, 2, 3, 4)] == [True, True, False, False]


@pytest.mark.requirement("BATCH-10")
async def test_the_row_that_spoils_its_job_is_found_although_the_store_is_away_for_a_while() -> None:
    cell = BatchCell(fates=fated(r5="poison"))
    run_id = await cell.submitted(rows=ROWS)
    result = await cell.ended(run_id, lambda: cell.line.away_while(cell.line.calls["cut"] % 3 == 0, "cut"))
    await check(cell, run_id, result)
    assert (result.rows.succeeded, result.rows.quarantined) == (6, 1)
    assert cell.kept(run_id)["row-5"].code == "refused_by_provider"
    failed = [each for each in await told(cell, run_id, "batch.trouble") if each.get("step") == "cut"]
    assert failed
    assert all(each["failure"]["code"] == "store_unavailable" for each in failed)


CALLS = ("restart", "add", "lines", "watch", "ids", "settle", "give_verdict", "unwatch", "counts", "reasons", "cut")


@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_is_away_for_some_seconds_delays_a_batch_and_nothing_else(call: str) -> None:
    cell = BatchCell(fates=fated(r1="fickle"))
    run_id = await cell.submitted(rows=ROWS, shard_rows=3)
    result = await cell.ended(run_id, lambda: cell.line.away_while(not cell.line.calls[call], call))
    await check(cell, run_id, result)
    assert result.rows.succeeded == 7
    codes = [each["failure"]["code"] for each in await told(cell, run_id, "batch.trouble")]
    assert set(codes) == {"store_unavailable"}


@pytest.mark.parametrize("call", [*CALLS[:2], *CALLS[3:]])
async def test_a_call_whose_reply_is_lost_is_made_again(call: str) -> None:
    cell = BatchCell(fates=fated(r1="fickle", r2="missing"))
    run_id = await cell.submitted(rows=[*ROWS, ask(1), {"body": body()}, {"body": body()}], shard_rows=3)
    cell.line.lost_reply = {call}
    await check(cell, run_id, result := await cell.ended(run_id))
    assert cell.line.lost_reply == set()
    assert (result.rows.succeeded, result.rows.failed, result.rows.quarantined) == (8, 1, 1)


@pytest.mark.parametrize(
    "operation", ["create_dataset", "upload", "dataset_is_ready", "create_job", "files", "download"]
)
@pytest.mark.parametrize("late", [False, True], ids=["refused", "reply lost"])
async def test_a_provider_that_is_busy_delays_a_batch_and_nothing_else(operation: Any, late: bool) -> None:
    cell = BatchCell()
    run_id = await cell.submitted(rows=ROWS, shard_rows=3)
    for _ in range(3):
        cell.service.trouble(operation, BUSY, late=late)
    await check(cell, run_id, result := await cell.ended(run_id))
    assert result.rows.succeeded == 7


async def test_a_provider_that_refuses_fails_the_run() -> None:
    cell = BatchCell()
    run_id = await cell.submitted(rows=ROWS)
    cell.service.trouble("create_dataset", REFUSED)
    result = await cell.ended(run_id)
    assert (result.status, result.failure) == ("failed", REFUSED)
    assert (result.rows.pending, cell.service.jobs) == (7, {})


# -- workers that die, are replaced, or leave --------------------------------------------------------------------------


async def undisturbed(**fields: Any) -> tuple[list[tuple[Any, ...]], BatchResult]:
    cell = BatchCell(fates=fated(r1="fickle", r2="invalid", r6="poison"))
    run_id = await cell.submitted("run-1", **fields)
    result = await cell.ended(run_id)
    return facts(cell, run_id), result


def facts(cell: BatchCell, run_id: str) -> list[tuple[Any, ...]]:
    rows = cell.rows.rows(run_id)
    return [(row.number, row.custom_id, row.state, row.code, row.response) for row in rows]


async def ends_after_a_cut(append: int, when: str, story: tuple[list[Any], BatchResult], rows: Sequence[Any]) -> bool:
    """Cut each worker's line to the journal at its n-th append; return False when none makes so many."""
    cell = BatchCell(fates=fated(r1="fickle", r2="invalid", r6="poison"))
    run_id, was_cut = await cell.submitted("run-1", rows=rows, shard_rows=3), False
    for life in range(80):
        worker = cell.worker(f"worker-{life}")
        if not was_cut:
            worker.line.cut_at = (append, when)
        outcome = await lived_or_died(cell, worker, run_id)
        was_cut = was_cut or worker.line.cut.is_set()
        if isinstance(outcome, Ended):
            result = BatchResult.model_validate(outcome.result)
            await check(cell, run_id, result)
            assert (facts(cell, run_id), result.rows, result.usage) == (story[0], story[1].rows, story[1].usage)
            return was_cut
        await cell.rung(run_id)
    raise AssertionError("the run does not end")


async def lived_or_died(cell: BatchCell, worker: Worker, run_id: str) -> Any:
    serving = await worker.begin(run_id)
    while not serving.done():
        if worker.line.cut.is_set():
            await worker.die()
            await cell.pass_time(TIMING.lease_s)
            return None
        await cell.pass_time(1)
        await worker.keeper.renew()
    outcome = serving.result()
    if isinstance(outcome, Parked):
        await worker.reception.park(outcome)
    return outcome


@pytest.mark.requirement("BATCH-03", "BATCH-19", "RUN-04")
async def test_dead_before_and_after_every_append() -> None:
    """One worker is cut off at its n-th append, for each n: no job is made twice, no row lost or settled twice."""
    rows = [*ROWS, {"custom_id": "bad"}, ask(1), {"body": body()}]
    story = await undisturbed(rows=rows, shard_rows=3)
    for append in itertools.count(1):
        if not await ends_after_a_cut(append, "before", story, rows):
            break
        assert await ends_after_a_cut(append, "after", story, rows)
    assert append > 8


@pytest.mark.requirement("RUN-03")
async def test_a_worker_that_was_replaced_stops_when_the_rows_say_so() -> None:
    cell = BatchCell()
    run_id = await cell.submitted(rows=ROWS)
    hold = cell.line.held["add"] = Hold()
    ann = cell.worker("ann")
    paused = await ann.begin(run_id)
    await hold.reached.wait()
    cell.clock.advance(TIMING.lease_s + 1)
    await cell.worker("bob").sweeper.sweep()
    bob = cell.worker("bob")
    assert isinstance(await cell.lived(bob, run_id), Parked)
    before = cell.rows.rows(run_id)
    hold.go.set()
    await idle()
    assert paused.result() == Dropped("the lease was lost")
    assert cell.rows.rows(run_id) == before
    assert len(ann.reception) == len(ann.keeper) == 0


@pytest.mark.parametrize("held", ["add", "upload", "create_job", "settle", "files"])
async def test_a_worker_that_is_asked_to_leave_hands_over_whatever_it_was_doing(held: Any) -> None:
    cell = BatchCell()
    run_id = await cell.submitted(rows=ROWS, shard_rows=3)
    on_rows = held in ("add", "settle")
    hold = Hold() if on_rows else cell.service.hold(held)
    if on_rows:
        cell.line.held[held] = hold
    for life in itertools.count():
        worker = cell.worker(f"worker-{life}")
        serving = await worker.begin(run_id)
        for _ in range(10):
            await cell.pass_time(1)
        if hold.reached.is_set():
            break
        outcome = await cell.lived(worker, run_id) if not serving.done() else serving.result()
        assert isinstance(outcome, Parked)
        await worker.reception.park(outcome)
        await cell.rung(run_id)
    worker.reception.drain(cell.clock.now() + 5)
    await cell.pass_time(6)
    assert serving.result() == Dropped("handed over")
    await check(cell, run_id, result := await cell.ended(run_id))
    assert result.rows.succeeded == 7


@pytest.mark.requirement("BATCH-11")
async def test_a_cancelled_batch_stops_its_jobs_and_keeps_what_they_finished() -> None:
    cell = BatchCell()
    run_id = await cell.submitted(rows=ROWS, shard_rows=4)
    assert isinstance(await cell.lived(cell.worker(), run_id), Parked)
    cell.end(ids.job_id(run_id, 1))
    assert await cell.store.signal(run_id, "cancel", {"reason": "enough"}, "1") == "woken"
    assert await cell.worker().sweeper.wake(run_id)
    result = await cell.ended(run_id)
    assert (result.status, result.rows.succeeded, result.rows.pending) == ("cancelled", 4, 3)
    assert await cell.rows.counts(run_id) == Counts(4, 0, 0, 3)
    stopped = {call.name for call in cell.service.calls if call.operation == "stop"}
    assert stopped == {ids.job_id(run_id, 1), ids.job_id(run_id, 2)}


async def test_a_cancel_while_rows_are_read_stops_the_reading() -> None:
    cell = BatchCell()
    run_id = await cell.submitted(rows=ROWS)
    hold = cell.line.held["add"] = Hold()
    worker = cell.worker()
    serving = await worker.begin(run_id)
    await hold.reached.wait()
    await cell.store.signal(run_id, "cancel", {}, "1")
    await idle()
    outcome = serving.result()
    assert isinstance(outcome, Ended)
    assert outcome.status == "cancelled"
    assert cell.rows.rows(run_id) == []


async def test_a_run_whose_journal_was_lost_begins_anew_at_once() -> None:
    """Its earlier lives were many; the new submit's first one is later than all of them."""
    cell = BatchCell()
    run_id = await cell.submitted("run-1", rows=ROWS)
    for life in range(3):
        assert isinstance(await cell.lived(cell.worker(f"old-{life}"), run_id), Parked)
        await cell.store.signal(run_id, "nonsense", {}, str(life))
        await cell.worker().sweeper.wake(run_id)
    cell.clock.advance(60)
    cell.store.__init__(cell.clock, TIMING)  # type: ignore[misc]  # Redis was wiped
    assert await cell.submitted("run-1", rows=ROWS) == run_id
    await check(cell, run_id, result := await cell.ended(run_id))
    assert (result.rows.succeeded, len(cell.service.jobs)) == (7, 1)
