"""Who was replaced changes no row any more, however late, and whatever of it was on its way."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from tests.contract.batch_rows.worlds import SqlWorld, World, bad, given, row
from tests.waiting import one_turn
from workers.core.batch.acts import Counts, CutRows, Verdict
from workers.core.batch.cutter import Cutter
from workers.core.batch.outputs import RowOutcome
from workers.ports import LeaseLost, RowStore, StoreUnavailable

Write = Callable[[RowStore, str, int], Awaitable[object]]

WRITES: dict[str, Write] = {
    "restart": lambda store, run, life: store.restart(run, life),
    "add": lambda store, run, life: store.add(run, life, [row(99)]),
    "settle": lambda store, run, life: store.settle(run, life, [RowOutcome(1, "failed", "late")]),
    "verdict": lambda store, run, life: store.give_verdict(run, life, 1, Verdict("failed", "late", "")),
    "cut": lambda store, run, life: store.cut(run, life, CutRows(life, "again", 0, 2, 2, 5), Cutter(1, 1000, 5)),
}
EACH_WRITE = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


class SlowCutter(Cutter):
    """Stops in the middle of the transaction, before it places its second row, until `go` is set."""

    def __init__(self) -> None:
        super().__init__(1, 1000, 5)
        self.reached = threading.Event()
        self.go = threading.Event()
        self.placed = 0

    def place(self, size: int) -> int:
        self.placed += 1
        if self.placed == 2:
            self.reached.set()
            assert self.go.wait(30)
        return super().place(size)


@EACH_WRITE
async def test_who_was_replaced_changes_nothing(world: World, run_id: str, write: Write) -> None:
    await given(world.store, run_id, [row(1), row(2), bad(3)], life=2)
    before = await world.kept(run_id)
    with pytest.raises(LeaseLost):
        await write(world.another(), run_id, 1)
    assert await world.kept(run_id) == before


@EACH_WRITE
async def test_each_write_is_a_life_of_its_own_right(world: World, run_id: str, write: Write) -> None:
    """The first that a later worker writes, whatever it is, refuses the earlier one."""
    await given(world.store, run_id, [row(1), row(2)], life=1)
    await write(world.another(), run_id, 3)
    for late in (1, 2):
        with pytest.raises(LeaseLost):
            await world.store.add(run_id, late, [row(50)])
    await world.store.add(run_id, 3, [row(51)])


async def test_a_run_is_not_fenced_by_another(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1)], life=7)
    await given(world.store, run_id + "b", [row(1)], life=1)
    assert await world.store.counts(run_id + "b") == Counts(pending=1)


async def test_lives_may_be_as_large_as_a_time_in_milliseconds_and_a_million(world: World, run_id: str) -> None:
    life = 1_800_000_000_000 << 20
    await given(world.store, run_id, [row(1)], life=life + 5)
    with pytest.raises(LeaseLost):
        await world.store.restart(run_id, life + 4)


async def test_of_two_workers_at_once_only_the_later_ones_rows_stay(world: World, run_id: str) -> None:
    late, now = world.store, world.another()
    await late.restart(run_id, 1)
    writes = [late.add(run_id, 1, [row(number, f"old-{number}")]) for number in range(1, 21)]

    async def take_over() -> None:
        await now.restart(run_id, 2)
        assert await now.add(run_id, 2, [row(number, f"new-{number}") for number in range(1, 21)]) == set()

    *said, _ = await asyncio.gather(*writes, take_over(), return_exceptions=True)
    assert all(each == set() or isinstance(each, LeaseLost) for each in said)
    assert [kept.custom_id for kept in await world.kept(run_id)] == [f"new-{number}" for number in range(1, 21)]


async def test_a_write_whose_task_was_cancelled_is_done_before_the_next_life_or_never(
    sql: SqlWorld, run_id: str
) -> None:
    """The thread goes on when its task is gone; the next worker waits for it, and finds all of it or nothing."""
    await given(sql.store, run_id, [row(1), row(2), row(3)])
    cutter = SlowCutter()
    cutting = asyncio.create_task(sql.store.cut(run_id, 1, CutRows(1, "again", 0, 3, 2, 5), cutter))
    await asyncio.to_thread(cutter.reached.wait)
    cutting.cancel()
    await asyncio.wait([cutting])
    late = asyncio.create_task(sql.store.add(run_id, 1, [row(50)]))
    next_life = asyncio.create_task(sql.another().settle(run_id, 2, [RowOutcome(1, "succeeded")]))
    await one_turn()
    assert not next_life.done()
    assert [kept.shard for kept in await sql.kept(run_id)] == [1, 1, 1]
    cutter.go.set()
    await next_life
    await asyncio.wait([late])
    first, second, third, *_ = await sql.kept(run_id)
    assert (first.state, first.shard, second.shard, third.shard) == ("succeeded", 5, 6, 7)
    with pytest.raises(LeaseLost):
        await sql.store.add(run_id, 1, [row(51)])


async def test_a_worker_that_is_paused_in_the_middle_of_a_write_keeps_no_other_waiting(
    postgres: SqlWorld, run_id: str
) -> None:
    """A server ends the transaction of who does nothing; on SQLite the file's lock goes with the process only."""
    await given(postgres.store, run_id, [row(1), row(2), row(3)])
    cutter = SlowCutter()
    paused = asyncio.create_task(postgres.store.cut(run_id, 1, CutRows(1, "again", 0, 3, 2, 5), cutter))
    await asyncio.to_thread(cutter.reached.wait)
    await postgres.another().give_verdict(run_id, 2, 1, Verdict("failed", "over", ""))
    cutter.go.set()
    with pytest.raises(StoreUnavailable):
        await paused
    assert [(kept.state, kept.shard) for kept in await postgres.kept(run_id)] == [("failed", 1)] * 3
