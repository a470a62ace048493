"""Renewing all leases of a process together (`leases`)."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.unit.runners.cell import TIMING, Cell, Line
from tests.waiting import idle
from workers.ports import Granted, Lease, RunStore
from workers.runners.leases import LeaseKeeper


class Kept:
    """A keeper that renews by itself, and what it said was lost."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.line = Line(cell.store, [])
        self.keeper = LeaseKeeper(cast("RunStore", self.line), cell.clock, TIMING)
        self.lost: list[str] = []
        self.task = asyncio.create_task(self.keeper.keep())

    async def hold(self, owner: str = "ann") -> tuple[str, Lease]:
        run_id = await self.cell.submitted()
        granted = await self.cell.store.acquire(run_id, owner, "")
        assert isinstance(granted, Granted)
        self.keeper.hold(granted.lease, lambda: self.lost.append(run_id))
        return run_id, granted.lease


@pytest.fixture
async def kept() -> Any:
    made = Kept(Cell())
    await idle()
    yield made
    made.task.cancel()
    with suppress(asyncio.CancelledError):
        await made.task


async def is_free(cell: Cell, run_id: str) -> bool:
    return isinstance(await cell.store.acquire(run_id, "bob", ""), Granted)


@pytest.mark.requirement("RUN-03")
async def test_what_is_held_stays_held_and_what_was_dropped_does_not(kept: Kept) -> None:
    held, _ = await kept.hold()
    dropped, lease = await kept.hold()
    assert len(kept.keeper) == 2
    kept.keeper.drop(lease)
    await kept.cell.pass_time(5 * TIMING.lease_s)
    assert not await is_free(kept.cell, held)
    assert await is_free(kept.cell, dropped)
    assert kept.lost == []


@pytest.mark.requirement("RUN-03")
async def test_a_lost_lease_is_told_within_one_renewal_interval(kept: Kept) -> None:
    lost, _ = await kept.hold()
    held, _ = await kept.hold()
    kept.cell.clock.advance(TIMING.lease_s)  # the process was paused
    assert await is_free(kept.cell, lost)
    await kept.cell.pass_time(TIMING.renew_s)
    assert kept.lost == [lost]
    assert not await is_free(kept.cell, held)


@pytest.mark.requirement("RUN-21")
async def test_while_the_store_is_away_nothing_is_given_up(kept: Kept) -> None:
    run_id, lease = await kept.hold()
    kept.line.away.add("renew")
    await kept.cell.pass_time(30)
    assert kept.lost == []
    kept.line.away.clear()
    await kept.cell.pass_time(TIMING.renew_s)
    assert kept.lost == []
    assert await kept.cell.store.renew([lease]) == set(), "the late renewal counts"
    assert not await is_free(kept.cell, run_id)


async def test_a_defect_of_one_renewal_does_not_end_renewing(kept: Kept) -> None:
    run_id, _ = await kept.hold()

    def broken() -> None:
        raise RuntimeError("a defect")

    _, other = await kept.hold()
    kept.keeper.drop(other)
    kept.keeper.hold(replace(other, epoch=other.epoch + 1), broken)
    await kept.cell.pass_time(2 * TIMING.lease_s)
    assert not kept.task.done()
    assert not await is_free(kept.cell, run_id)


async def test_a_run_that_is_taken_again_by_the_same_process_stops_its_first_life(kept: Kept) -> None:
    run_id, lease = await kept.hold()
    again: list[str] = []
    second = replace(lease, owner="ann again")
    kept.keeper.hold(second, lambda: again.append(run_id))
    assert (kept.lost, again) == ([run_id], [])
    kept.keeper.drop(lease)
    assert len(kept.keeper) == 1, "the end of the first life does not drop the second"
    kept.keeper.drop(second)
    assert len(kept.keeper) == 0


async def test_a_run_that_is_dropped_while_it_is_renewed_hears_nothing() -> None:
    class Slow:
        """A store in which a lease is lost, and let go, while it is renewed."""

        def __init__(self) -> None:
            self.asked: list[Sequence[Lease]] = []

        async def renew(self, leases: Sequence[Lease]) -> set[Lease]:
            self.asked.append(leases)
            keeper.drop(lease)
            return {lease}

    lease, store = Lease("run-1", 1, "ann"), Slow()
    lost: list[str] = []
    keeper = LeaseKeeper(cast("RunStore", store), Cell().clock, TIMING)
    await keeper.renew()
    assert store.asked == [], "nothing is held, nothing is asked"
    keeper.hold(lease, lambda: lost.append("run-1"))
    await keeper.renew()
    assert (store.asked, lost) == ([[lease]], [])
