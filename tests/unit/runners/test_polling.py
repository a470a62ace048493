"""The poller: due jobs are looked at once, their runs are told, no job's trouble is another's (`runners.polling`)."""

import asyncio
from typing import Any

import pytest

from tests.unit.runners.batch_cell import BUSY, BatchCell, RowLine, ask
from tests.unit.runners.cell import TIMING
from tests.waiting import idle
from workers.adapters.memory.model import Hold
from workers.core.batch import acts, ids, jobs
from workers.core.batch.jobs import Progress
from workers.ports import WatchedJob
from workers.runners.outcome import Dropped, Ended, Parked

ROWS = [ask(n) for n in range(1, 5)]


async def given_parked(cell: BatchCell, shard_rows: int = 2) -> str:
    """Return a run whose jobs are at work."""
    run_id = await cell.submitted(rows=ROWS, shard_rows=shard_rows)
    assert isinstance(await cell.lived(cell.worker(), run_id), Parked)
    return run_id


def looks(cell: BatchCell) -> list[str]:
    return [call.name for call in cell.service.calls if call.operation == "job"]


async def letters(cell: BatchCell, run_id: str) -> list[tuple[str, Any, Any]]:
    return [(each.type, each.data["shard"], each.data["state"]) for each in await cell.store.backlog(run_id, "0")]


@pytest.mark.requirement("BATCH-06")
async def test_two_pollers_look_once_and_the_run_hears_it_once() -> None:
    cell = BatchCell()
    run_id = await given_parked(cell)
    for shard in (1, 2):
        cell.service.move(ids.job_id(run_id, shard), "RUNNING", progress=Progress(processed=1))
    cell.clock.advance(30)
    assert sum(await asyncio.gather(cell.poller().poll(), cell.poller().poll(), cell.poller().poll())) == 2
    assert sorted(looks(cell)) == [ids.job_id(run_id, 1), ids.job_id(run_id, 2)]
    assert sorted(await letters(cell, run_id)) == [("batch_state", 1, "RUNNING"), ("batch_state", 2, "RUNNING")]
    assert len(cell.bell.rings) == 1


async def test_a_job_of_which_nothing_is_new_is_looked_at_less_and_less_and_not_told() -> None:
    cell = BatchCell()
    run_id = await given_parked(cell, shard_rows=10)
    waits = []
    for _ in range(9):
        while not await cell.poller().poll():
            cell.clock.advance(1)
        waits.append(round(cell.rows.watched(run_id)[1] - cell.clock.now()))
    assert waits == [30, 30, 45, 68, 102, 152, 229, 300, 300]
    assert await letters(cell, run_id) == []
    cell.service.move(ids.job_id(run_id, 1), "RUNNING")
    cell.clock.advance(300)
    await cell.poller().poll()
    assert cell.rows.watched(run_id)[1] - cell.clock.now() == 30, "what moves is looked at often"


async def test_the_least_time_between_two_looks_can_be_set() -> None:
    cell = BatchCell()
    run_id = await given_parked(cell, shard_rows=10)
    cell.clock.advance(30)
    await cell.poller(shortest_s=3).poll()
    assert cell.rows.watched(run_id)[1] - cell.clock.now() == pytest.approx(3)


async def test_a_job_of_a_poller_that_died_comes_again_and_its_letter_is_one() -> None:
    cell = BatchCell()
    run_id = await given_parked(cell, shard_rows=10)
    cell.service.move(ids.job_id(run_id, 1), "RUNNING")
    cell.clock.advance(30)
    cell.line.held["noted"] = hold = Hold()
    dying = asyncio.create_task(cell.poller().poll())
    await hold.reached.wait()
    dying.cancel()
    await asyncio.wait([dying])
    assert await cell.poller().poll() == 0
    cell.clock.advance(120)
    assert await cell.poller().poll() == 1
    assert await letters(cell, run_id) == [("batch_state", 1, "RUNNING")]
    assert len(cell.bell.rings) == 1


async def test_a_providers_failure_at_one_job_leaves_the_others_alone() -> None:
    cell = BatchCell()
    run_id = await given_parked(cell)
    cell.work()
    cell.clock.advance(30)
    cell.service.trouble("job", BUSY)
    assert await cell.poller().poll() == 2
    assert len(await letters(cell, run_id)) == 1
    cell.clock.advance(120)
    assert await cell.poller().poll() == 2
    assert len(await letters(cell, run_id)) == 2


async def test_a_defect_at_one_job_leaves_the_others_alone() -> None:
    """A credential that is not there any more, say."""
    cell = BatchCell()
    run_id = await given_parked(cell)
    cell.work()
    cell.clock.advance(30)

    class Keyless:
        async def job(self, job: str, *, credential: str | None) -> Any:
            if job == ids.job_id(run_id, 1):
                raise KeyError(credential)
            return await cell.service.job(job, credential=credential)

    poller = cell.poller()
    poller._service = Keyless()  # type: ignore[assignment]  # the one call that it makes
    assert await poller.poll() == 2
    assert await letters(cell, run_id) == [("batch_state", 2, "COMPLETED")]


@pytest.mark.parametrize("call", ["signal", "noted", "claim", "bell"])
async def test_a_store_or_broker_that_is_away_is_waited_for(call: str) -> None:
    cell = BatchCell()
    run_id = await given_parked(cell, shard_rows=10)
    cell.work()
    cell.clock.advance(30)
    cell.line.away = {call}
    cell.bell.away = call == "bell"
    poller = cell.poller()
    line = cell.worker().line
    line.away = {call}
    poller._store = line  # type: ignore[assignment]  # passes every call on
    assert await poller.poll() == 1
    cell.line.away, line.away, cell.bell.away = set(), set(), False
    cell.clock.advance(120)
    assert await poller.poll() == 1
    assert await letters(cell, run_id) == [("batch_state", 1, "COMPLETED")]
    cell.clock.advance(TIMING.longest_look_s)
    await cell.worker().sweeper.sweep()
    assert cell.bell.rings


async def test_a_job_of_a_finished_run_is_forgotten() -> None:
    """A cancelled run does not wait for ever for a job that does not stop."""
    cell = BatchCell()
    run_id, outcome = await given_parked(cell), None
    await cell.store.signal(run_id, "cancel", {}, "1")
    while not isinstance(outcome, Ended):
        await cell.pass_time(15, step=15)
        await cell.worker().sweeper.sweep()
        outcome = await cell.lived(cell.worker(), run_id)
    assert outcome.status == "cancelled"
    assert sorted(cell.rows.watched(run_id)) == [1, 2]
    cell.work()
    cell.clock.advance(600)
    assert await cell.poller().poll() == 2
    assert cell.rows.watched(run_id) == {}
    assert await cell.poller().poll() == 0


async def test_a_job_of_a_run_that_nobody_knows_is_forgotten_at_its_first_news() -> None:
    cell = BatchCell()
    view, now = await _job(cell, "fw-lost"), cell.clock.now()
    await cell.rows.watch(WatchedJob("lost", 1, "fw-lost", None, now, now, view), now)
    assert await cell.poller().poll() == 1
    assert list(cell.rows.watched("lost")) == [1]
    cell.service.move("fw-lost", "RUNNING")
    cell.clock.advance(30)
    assert await cell.poller().poll() == 1
    assert cell.rows.watched("lost") == {}


async def _job(cell: BatchCell, job: str) -> jobs.JobView:
    cell.service.put_dataset("in", {"a.jsonl": b"{}\n"})
    wanted = acts.CreateJob(1, job, "n", "in", f"{job}-out", "m", {}, None)
    return await cell.service.create_job(wanted, credential=None)


async def test_a_job_that_every_run_would_have_given_up_is_not_asked_for_any_more() -> None:
    cell = BatchCell()
    view, now = await _job(cell, "fw-old"), cell.clock.now()
    old = WatchedJob("run-1", 1, "fw-old", None, now - 75 * 3600 - 1, 1.0, view)
    young = WatchedJob("run-1", 2, "fw-old", None, now - 75 * 3600 + 60, 1.0, view)
    for job in (old, young):
        await cell.rows.watch(job, now)
    assert await cell.poller().poll() == 2
    assert looks(cell) == ["fw-old"]
    assert list(cell.rows.watched("run-1")) == [2]


async def test_many_jobs_are_looked_at_a_few_at_a_time_and_each_once() -> None:
    """Those that are not looked at are not claimed: where the provider hangs, another poller may have them."""
    cell = BatchCell()
    view, now = await _job(cell, "fw-one"), cell.clock.now()
    for shard in range(1, 301):
        await cell.rows.watch(WatchedJob("run-1", shard, "fw-one", None, now, now, view), now)
    holds = [cell.service.hold("job") for _ in range(200)]
    polling = asyncio.create_task(cell.poller(shortest_s=0.0).poll())
    await idle()
    assert sum(hold.reached.is_set() for hold in holds) == 8
    assert sum(look_at > now for look_at in cell.rows.watched("run-1").values()) == 8
    for hold in holds:
        hold.go.set()
    assert await polling == 200
    assert len(looks(cell)) == 200


async def test_a_run_without_a_poller_looks_for_itself() -> None:
    cell = BatchCell()
    run_id = await given_parked(cell)
    cell.work()
    for life in range(20):
        await cell.pass_time(60, step=15)
        await cell.worker().sweeper.sweep()
        outcome = await cell.lived(cell.worker(f"worker-{life}"), run_id)
        if isinstance(outcome, Ended):
            break
        assert outcome == Dropped("parked") or isinstance(outcome, Parked)
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"
    assert isinstance(cell.line, RowLine)
    assert cell.line.calls["claim_jobs"] == 0


@pytest.mark.requirement("RUN-04")
async def test_a_job_of_a_run_whose_journal_is_gone_has_a_worker_say_what_became_of_it() -> None:
    cell = BatchCell()
    run_id = await given_parked(cell, shard_rows=10)
    cell.store._runs.clear()
    cell.service.move(ids.job_id(run_id, 1), "RUNNING")
    cell.clock.advance(30)
    await cell.poller().poll()
    assert [(ring.run_id, ring.signature) for ring in cell.bell.rings] == [(run_id, None)]
    cell.clock.advance(3_600)
    assert await cell.poller().poll() == 0, "nobody looks at the job any more"
