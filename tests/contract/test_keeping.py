"""Finished runs leave SQL when they are old, piece by piece, and nothing that lives goes with them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import Table, func, select

from api_contracts.runs import RunQueued
from tests.contract.batch_rows.worlds import given, row, watched
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.runs import MemoryRuns
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.batches import SqlBatches
from workers.adapters.sql.keeping import SqlKeeping
from workers.adapters.sql.migrate import migrate
from workers.adapters.sql.tables import batch_jobs, batch_rows, batches, runs
from workers.ports import Forgotten, OldRun, RunRecord, Stray
from workers.runners.purging import Purger
from workers.settings import DAY_S, Timing

pytestmark = pytest.mark.requirement("RUN-11")

KEEP_S, LIVE_S = 90 * DAY_S, 30 * DAY_S
TABLES = {"runs": runs, "rows": batch_rows, "jobs": batch_jobs, "batches": batches}


class Attic:
    """SQL, the journals and a clock, as one control worker has them."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.store = MemoryRuns(self.clock, Timing())
        self.archive = SqlArchive(url)
        self.rows = SqlBatches(self.archive.database)
        self.keeping = SqlKeeping(self.archive.database)
        self.counted: Counter[str] = Counter()

    def purger(self, keep_s: float = KEEP_S) -> Purger:
        return Purger(self.keeping, self.store, self.clock, keep_s, LIVE_S, self._count)

    def _count(self, what: str, number: int) -> None:
        self.counted[what] += number

    async def finished(self, run_id: str, age_s: float, *, rows: int = 0) -> None:
        """Keep a run that ended so long ago, a batch if it has rows."""
        ended = self.clock.now() - age_s
        await self.archive.save(RunRecord(run_id, "chat", "completed", 1, "t", {}, {"said": "x"}, ended - 1, ended))
        if rows:
            await self.batch(run_id, rows)

    async def batch(self, run_id: str, rows: int) -> None:
        await given(self.rows, run_id, [row(number) for number in range(1, rows + 1)])
        await self.rows.watch(watched(run_id), 1.0)

    async def lives(self, run_id: str) -> None:
        """Have Redis know the run."""
        await self.store.submit(run_id, RunQueued(kind="batch", digest="d"), None)

    async def left(self, table: str) -> list[str]:
        """Return whose records are in a table."""
        column = TABLES[table].c.run_id
        query = select(column).distinct().order_by(column)
        return list(await self.archive.database.read(lambda connection: connection.execute(query).scalars().all()))

    async def count(self, table: Table) -> int:
        query = select(func.count()).select_from(table)
        return int(await self.archive.database.read(lambda connection: connection.execute(query).scalar_one()))


@pytest.fixture
async def attic(empty_database: str) -> AsyncIterator[Attic]:
    migrate(empty_database)
    made = Attic(empty_database)
    yield made
    await made.archive.close()


async def test_what_is_older_than_it_is_kept_goes_with_its_rows_and_the_rest_stays(attic: Attic) -> None:
    await attic.finished("old-chat", KEEP_S + 1)
    await attic.finished("old-batch", KEEP_S + 1, rows=3)
    await attic.finished("new-chat", KEEP_S - 1)
    await attic.finished("new-batch", KEEP_S - 1, rows=3)
    assert await attic.purger().purge() == 2
    assert await attic.left("runs") == ["new-batch", "new-chat"]
    assert [await attic.left(table) for table in ("rows", "jobs", "batches")] == [["new-batch"]] * 3
    assert attic.counted == {"runs": 2, "batch_rows": 3}
    assert await attic.purger().purge() == 0


async def test_nothing_goes_where_all_is_kept_for_ever(attic: Attic) -> None:
    await attic.finished("old", 100 * KEEP_S, rows=1)
    assert await attic.purger(keep_s=0).purge() == 0
    assert await attic.left("rows") == ["old"]


async def test_a_run_that_lives_again_keeps_its_rows_though_its_record_is_old(attic: Attic) -> None:
    await attic.finished("again", KEEP_S + 1, rows=2)
    await attic.finished("gone", KEEP_S + 1)
    await attic.lives("again")
    assert await attic.purger().purge() == 1
    assert (await attic.left("runs"), await attic.left("rows")) == (["again"], ["again"])


async def test_a_live_batch_without_a_result_is_never_touched(attic: Attic) -> None:
    await attic.batch("live", 2)
    await attic.lives("live")
    for _ in range(3):
        assert await attic.purger().purge() == 0
        attic.clock.advance(2 * KEEP_S)
    assert await attic.keeping.strays("", 10) == [Stray("live", None)]
    assert await attic.count(batch_rows) == 2


async def test_rows_whose_journal_was_lost_go_only_when_it_has_been_missing_for_long(attic: Attic) -> None:
    """Redis may be empty for a while, or for good; the rows were paid for, and can be read until then."""
    await attic.batch("lost", 2)
    assert await attic.purger().purge() == 0
    attic.clock.advance(KEEP_S - 1)
    assert await attic.purger().purge() == 0
    attic.clock.advance(2)
    assert await attic.purger().purge() == 1
    assert [await attic.left(table) for table in TABLES] == [[], [], [], []]
    assert attic.counted == {"runs": 1, "batch_rows": 2}


async def test_a_journal_that_is_back_makes_its_rows_be_kept_from_then_on(attic: Attic) -> None:
    await attic.batch("back", 1)
    await attic.purger().purge()
    await attic.lives("back")
    attic.clock.advance(2 * KEEP_S)
    await attic.purger().purge()
    assert await attic.keeping.strays("", 10) == [Stray("back", None)]


async def test_a_stray_that_got_its_result_meanwhile_is_left_to_the_time_of_results(attic: Attic) -> None:
    await attic.batch("late", 2)
    await attic.keeping.note(["late"], [], 1.0)
    await attic.finished("late", 0.0)
    assert await attic.keeping.forget_strays(["late"], 2.0, 10) == Forgotten(0, 0, more=False)
    assert await attic.count(batch_rows) == 2


async def test_a_piece_takes_no_more_rows_than_it_may_and_the_run_itself_last(attic: Attic) -> None:
    await attic.finished("big", 10, rows=7)
    before = attic.clock.now()
    assert await attic.keeping.forget(["big"], before, 3) == Forgotten(0, 3, more=True)
    assert (await attic.count(batch_rows), await attic.left("runs")) == (4, ["big"])
    assert await attic.keeping.forget(["big"], before, 3) == Forgotten(0, 3, more=True)
    assert await attic.keeping.forget(["big"], before, 3) == Forgotten(1, 1, more=False)
    assert await attic.left("batches") == []


async def test_a_run_that_ended_anew_since_it_was_listed_stays(attic: Attic) -> None:
    await attic.finished("anew", 10, rows=2)
    before = attic.clock.now() - 5
    assert [run.run_id for run in await attic.keeping.old(before, None, 10)] == ["anew"]
    await attic.finished("anew", 0)
    assert await attic.keeping.forget(["anew"], before, 10) == Forgotten(0, 0, more=False)
    assert await attic.count(batch_rows) == 2


async def test_the_old_are_listed_in_order_each_once_also_where_they_ended_together(attic: Attic) -> None:
    for number, age_s in enumerate((30.25, 20.5, 20.5, 20.5, 10.0)):
        await attic.finished(f"run-{number}", age_s)
    found: list[OldRun] = []
    while page := await attic.keeping.old(attic.clock.now(), found[-1] if found else None, 2):
        found += page
    assert [run.run_id for run in found] == [f"run-{number}" for number in range(5)]


async def test_two_that_purge_at_once_count_each_record_once(attic: Attic, empty_database: str) -> None:
    for number in range(450):
        await attic.finished(f"run-{number}", KEEP_S + 1 + number)
    await attic.finished("batch", KEEP_S + 1, rows=5_000)
    other = Attic(empty_database)
    try:
        gone = await asyncio.gather(*(each.purger().purge() for each in (attic, other, attic, other)))
    finally:
        await other.archive.close()
    assert sum(gone) == 451
    assert attic.counted + other.counted == {"runs": 451, "batch_rows": 5_000}
    assert await attic.left("runs") == []


async def test_a_purge_leaves_off_when_its_time_is_over_and_the_next_goes_on(attic: Attic) -> None:
    class Slow(ManualClock):
        """Each look at it takes four seconds."""

        def now(self) -> float:
            self.advance(4.0)
            return super().now()

    await attic.finished("big", KEEP_S + 100, rows=5_000)
    attic.clock = Slow()
    left = [5_000]
    while left[-1]:
        await attic.purger().purge()
        left.append(await attic.count(batch_rows))
    assert len(left) > 2, left


async def test_the_idempotency_key_is_kept_with_the_run(attic: Attic) -> None:
    record = RunRecord("run-1", "chat", "completed", 1, "t", {}, {}, 1.0, 2.0, idempotency_key="order 17\0")
    await attic.archive.save(record)
    kept = await attic.archive.load("run-1")
    assert kept == replace(record, idempotency_key=kept.idempotency_key if kept else None)
    assert kept is not None
    assert str(kept.idempotency_key).startswith("order 17")
