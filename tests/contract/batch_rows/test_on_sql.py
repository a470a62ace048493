"""Where SQL shows: large batches in bounded memory and linear time, other processes, outages."""

import asyncio
import gc
import shutil
import sqlite3
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.contract.batch_rows.worlds import SqlWorld, given, lines_of_shard, row, sqlite_url, watched
from workers.adapters.sql.batches import SqlBatches
from workers.adapters.sql.database import SqlDatabase
from workers.core.batch.acts import Counts, CutRows, Verdict
from workers.core.batch.cutter import Cutter, Halver
from workers.core.batch.outputs import RowOutcome
from workers.ports import NewRow, StoreUnavailable

SHARD, TOGETHER = 5_000, 1_000
MB = 1_000_000
ANSWER = b'{"choices":[{"message":{"content":"%b"}}]}' % (b"y" * 300)

HOLD_THE_FILE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("INSERT INTO fw_batches (run_id, life) VALUES ('other', 1)")
connection.commit()
"""


def many(count: int, size: int = 300) -> Iterator[list[NewRow]]:
    """Yield rows a transaction at a time, as a reading does."""
    body = b'{"messages":"%b"}' % (b"x" * size)
    for start in range(1, count + 1, TOGETHER):
        numbers = range(start, min(start + TOGETHER, count + 1))
        yield [row(n, shard=1 + (n - 1) // SHARD, body=body) for n in numbers]


def outcomes(count: int) -> Iterator[list[RowOutcome]]:
    for start in range(1, count + 1, TOGETHER):
        numbers = range(start, min(start + TOGETHER, count + 1))
        yield [RowOutcome(n, "succeeded" if n % 10 else "pending", "", "", ANSWER) for n in numbers]


@contextmanager
def statements_of(database: SqlDatabase) -> Iterator[list[str]]:
    """Collect the statements that are run."""
    seen: list[str] = []

    def note(*given: object) -> None:
        seen.append(str(given[2]))

    event.listen(database._engine, "before_cursor_execute", note)
    yield seen
    event.remove(database._engine, "before_cursor_execute", note)


# -- a large batch -----------------------------------------------------------------------------------------------------


async def read_in(store: SqlBatches, run_id: str, count: int) -> None:
    await store.restart(run_id, 1)
    for rows in many(count):
        assert await store.add(run_id, 1, rows) == set()


async def sent(store: SqlBatches, run_id: str, shards: int) -> int:
    size = 0
    for shard in range(1, shards + 1):
        async for data in store.lines(run_id, shard):
            size += data.count(b"\n")
    return size


async def read_back(store: SqlBatches, run_id: str, count: int) -> None:
    for shard in range(1, count // SHARD + 1):
        assert len(await store.ids(run_id, shard)) == SHARD
    for found in outcomes(count):
        await store.settle(run_id, 1, found)


async def test_fifty_thousand_rows_pass_through_little_memory_in_few_statements(sql: SqlWorld, run_id: str) -> None:
    """All bodies together are 15 MB, all answers 17 MB."""
    count, store = 50_000, sql.store
    await read_in(store, "warm-" + run_id, TOGETHER)
    gc.collect()
    tracemalloc.start()
    try:
        with statements_of(sql.database) as statements:
            await read_in(store, run_id, count)
            assert await sent(store, run_id, count // SHARD) == count
            await read_back(store, run_id, count)
            cutter = Cutter(SHARD, 1 << 40, 11)
            await store.cut(run_id, 1, CutRows(1, "again", 0, count // 10, 2, 11), cutter)
            assert await store.counts(run_id) == Counts(count * 9 // 10, 0, 0, count // 10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MB, peak
    assert len(statements) < 15 * count / TOGETHER


class Steps:
    """Counts what SQLite's own machine does, in thousands of instructions: the same on every computer."""

    def __init__(self, database: SqlDatabase) -> None:
        self.count = 0
        event.listen(database._engine, "connect", self._watch)

    def _watch(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.set_progress_handler(self._step, 1000)

    def _step(self) -> int:
        self.count += 1
        return 0

    async def of(self, work: Awaitable[object]) -> int:
        before = self.count
        await work
        return self.count - before


@pytest.fixture
async def measured(tmp_path: Path, migrated_file: Path) -> AsyncIterator[tuple[SqlBatches, Steps]]:
    """A store on SQLite whose steps are counted."""
    database = SqlDatabase(sqlite_url(Path(shutil.copy(migrated_file, tmp_path / "rows.db"))))
    yield SqlBatches(database), Steps(database)
    await database.close()


@pytest.mark.parametrize("shard_rows", [500, 1 << 40], ids=["many shards", "one shard"])
async def test_the_work_for_a_row_does_not_grow_with_the_batch(
    measured: tuple[SqlBatches, Steps], shard_rows: int
) -> None:
    store, steps = measured
    await all_that_is_done(store, steps, "other", 6_000, shard_rows)
    small = await all_that_is_done(store, steps, "small", 3_000, shard_rows)
    large = await all_that_is_done(store, steps, "large", 12_000, shard_rows)
    assert sum(small) > 500, "it is measured"
    for few, lots in zip(small, large, strict=True):
        assert lots <= 5 * few + 3


async def all_that_is_done(store: SqlBatches, steps: Steps, run_id: str, count: int, shard_rows: int) -> list[int]:
    """Return the steps of each thing that is done to a batch."""
    last = 1 + (count - 1) // shard_rows

    async def add() -> None:
        await store.restart(run_id, 1)
        for rows in many(count, size=10):
            placed = [NewRow(r.number, r.custom_id, 1 + (r.number - 1) // shard_rows, r.size, r.body) for r in rows]
            await store.add(run_id, 1, placed)

    async def settle() -> None:
        for found in outcomes(count):
            await store.settle(run_id, 1, found)

    async def each_shard(act: Callable[[int], Awaitable[object]]) -> None:
        for shard in range(1, last + 1):
            await act(shard)

    halved = store.cut(run_id, 1, CutRows(1, "split", last, count, 1, last + 1), Halver(count, last + 1))
    again = store.cut(run_id, 1, CutRows(1, "again", 0, count // 10, 2, last + 3), Cutter(100, 1 << 40, last + 3))
    verdict = Verdict("failed", "missing", "")
    every: list[Awaitable[object]] = [
        add(), each_shard(lambda shard: lines_of_shard(store, run_id, shard)),
        each_shard(lambda shard: store.ids(run_id, shard)), halved, settle(), again,
        store.give_verdict(run_id, 1, last + 3, verdict), store.counts(run_id),
        each_shard(lambda shard: store.counts(run_id, shard)), each_shard(lambda shard: store.reasons(run_id, shard)),
        store.restart(run_id, 1),
    ]  # fmt: skip
    return [await steps.of(each) for each in every]


async def test_rows_come_in_by_copy_and_only_where_an_id_is_taken_by_inserts(postgres: SqlWorld, run_id: str) -> None:
    await postgres.store.restart(run_id, 1)
    with statements_of(postgres.database) as statements:
        assert await postgres.store.add(run_id, 1, [row(1), row(2)]) == set()
        assert not any("fw_batch_rows" in statement for statement in statements)
        assert await postgres.store.add(run_id, 1, [row(3), row(4, "row-1"), row(5)]) == {4}
        assert any("INSERT INTO fw_batch_rows" in statement for statement in statements)
    assert [kept.number for kept in await postgres.kept(run_id)] == [1, 2, 3, 5]


async def test_a_read_of_large_rows_is_bounded_by_their_bytes(sql: SqlWorld, run_id: str) -> None:
    sizes = [1_500_000, 400_000, 400_000, 5_000_000, 10, 10]
    rows = [row(n, body=b'"%b"' % (b"z" * size)) for n, size in enumerate(sizes, 1)]
    await given(sql.store, run_id, rows)
    pieces = [data.count(b"\n") async for data in sql.store.lines(run_id, 1)]
    assert pieces == [2, 1, 1, 2]


# -- other processes, and outages --------------------------------------------------------------------------------------


async def test_a_write_waits_for_another_process_that_holds_the_file(tmp_path: Path, migrated_file: Path) -> None:
    """Also one that reads first: it begins by locking, and so does not find the file changed under it."""
    file = Path(shutil.copy(migrated_file, tmp_path / "rows.db"))
    database = SqlDatabase(sqlite_url(file), lock_wait_s=30)
    store = SqlBatches(database)
    await given(store, "run-1", [row(1), row(2)])
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD_THE_FILE, str(file), stdin=pipe, stdout=pipe
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert await other.stdout.readline() == b"held\n"
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: store.cut("run-1", 1, CutRows(1, "again", 0, 2, 2, 2), Cutter(1, 100, 2)),
        lambda: store.add("run-1", 1, [row(3)]),
        lambda: store.watch(watched("run-1"), 1.0),
        lambda: store.claim_jobs(1.0, 2.0, 5),
    ]
    writing = [asyncio.ensure_future(write()) for write in writes]
    assert await store.counts("run-1") == Counts(pending=2)
    assert not any(task.done() for task in writing)
    other.stdin.write(b"go\n")
    assert await other.wait() == 0
    await asyncio.gather(*writing)
    assert await store.counts("run-1") == Counts(pending=3)
    await database.close()


async def test_a_file_that_is_locked_for_too_long_is_an_outage(tmp_path: Path, migrated_file: Path) -> None:
    file = Path(shutil.copy(migrated_file, tmp_path / "rows.db"))
    database = SqlDatabase(sqlite_url(file), lock_wait_s=0.05)
    holder = sqlite3.connect(file)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await SqlBatches(database).restart("run-1", 1)
    holder.close()
    await SqlBatches(database).restart("run-1", 1)
    await database.close()


async def test_a_database_without_the_tables_is_an_outage_that_names_the_cure(tmp_path: Path) -> None:
    database = SqlDatabase(sqlite_url(tmp_path / "empty.db"))
    store = SqlBatches(database)
    for call in (store.restart("run-1", 1), store.counts("run-1"), store.claim_jobs(1.0, 2.0, 3)):
        with pytest.raises(StoreUnavailable, match="run the migrations"):
            await call
    await database.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await anext(store.lines("run-1", 1))
