"""Sweeping while many runs wait: a long queue is not filled with repeats, what is lost is found, in bites."""

import pytest

from api_contracts.names import CONTROL_QUEUE, queue_of
from tests.unit.runners.cell import TIMING, Cell, ChatKinds, Worker
from workers.ports import Granted, Lease, StoreUnavailable
from workers.runners.lacking import Lacking
from workers.runners.sweep import AT_ONCE, MOST_RINGS

pytestmark = pytest.mark.requirement("RUN-17")

QUEUE = queue_of("chat")


def sweeping(cell: Cell, owner: str = "ann") -> Worker:
    """Return a process that can count the broker's messages."""
    return Worker(cell, owner, ChatKinds(cell), Lacking(cell.store, cell.bell))


async def waiting(cell: Cell, count: int) -> list[str]:
    """Return runs whose messages lie in the queue for so long that each is due for a look."""
    runs = [await cell.submitted(f"run-{number}") for number in range(count)]
    cell.bell.lies[QUEUE] = count
    cell.clock.advance(TIMING.lost_message_s)
    return runs


def rung(cell: Cell) -> list[str]:
    return [ring.run_id for ring in cell.bell.rings]


async def test_a_backlog_is_not_sent_again_however_long_it_waits() -> None:
    cell = Cell()
    await waiting(cell, 3 * AT_ONCE)
    worker = sweeping(cell)
    for _ in range(20):
        assert await worker.sweeper.sweep() == 0
        cell.clock.advance(TIMING.longest_look_s)
    assert cell.bell.rings == []


async def test_as_many_as_the_queue_lacks_are_sent_the_oldest_first() -> None:
    cell = Cell()
    runs = await waiting(cell, 50)
    cell.bell.lies[QUEUE] -= 3
    assert await sweeping(cell).sweeper.sweep() == 3
    assert rung(cell) == runs[:3]


async def test_a_message_that_duplicates_hide_is_found_when_they_are_taken() -> None:
    cell = Cell()
    runs = await waiting(cell, 5)
    cell.bell.lies[QUEUE] = 6  # two of them duplicates: one message is lost
    worker = sweeping(cell)
    assert await worker.sweeper.sweep() == 0
    for run_id in runs[1:]:
        assert isinstance(await cell.store.acquire(run_id, "bob", ""), Granted)
    assert await cell.store.renew([Lease(run_id, 1, "bob") for run_id in runs[1:]]) == set()
    cell.bell.lies[QUEUE] = 0
    cell.clock.advance(TIMING.longest_look_s)
    await cell.store.renew([Lease(run_id, 1, "bob") for run_id in runs[1:]])
    assert await worker.sweeper.sweep() == 1
    assert rung(cell) == [runs[0]]


async def test_a_run_whose_worker_died_is_rung_for_behind_any_backlog() -> None:
    cell = Cell()
    await waiting(cell, 4 * AT_ONCE)
    lost = await cell.submitted("z-lost")
    await cell.store.acquire(lost, "gone", "")
    cell.clock.advance(TIMING.lease_s)
    assert await sweeping(cell).sweeper.sweep() == 1
    assert rung(cell) == [lost]


async def test_a_parked_run_is_rung_for_at_its_time_behind_any_backlog() -> None:
    cell = Cell()
    await waiting(cell, 2 * AT_ONCE)
    parked = await cell.submitted("z-parked")
    await cell.store.acquire(parked, "gone", "")
    assert await cell.store.park(Lease(parked, 1, "gone"), "0", cell.clock.now() + 60) == "parked"
    cell.clock.advance(60)
    assert await sweeping(cell).sweeper.sweep() == 1
    assert rung(cell) == [parked]


async def test_a_run_that_is_to_end_is_rung_for_behind_any_backlog() -> None:
    cell = Cell()
    runs = await waiting(cell, 2 * AT_ONCE)
    await cell.store.signal(runs[150], "cancel", {}, "")
    await sweeping(cell).sweeper.sweep()
    assert set(rung(cell)) == {runs[150]}


@pytest.mark.requirement("RUN-07")
async def test_a_thousand_that_are_due_at_once_are_rung_for_in_bites_each_once() -> None:
    cell = Cell()
    runs = [await cell.submitted(f"run-{number}") for number in range(1000)]
    for run_id in runs:
        await cell.store.acquire(run_id, "gone", "")
        await cell.store.park(Lease(run_id, 1, "gone"), "0", cell.clock.now() + 60)
    cell.clock.advance(60)
    workers = [sweeping(cell, "ann"), sweeping(cell, "bob")]
    counts = []
    while (sent := await workers[len(counts) % 2].sweeper.sweep()) or len(counts) < 4:
        counts.append(sent)
    assert max(counts) <= MOST_RINGS + AT_ONCE - 1
    assert sorted(rung(cell)) == sorted(runs)


@pytest.mark.requirement("RUN-21")
async def test_what_was_claimed_while_the_broker_was_away_is_sent_as_soon_as_it_is_back() -> None:
    cell = Cell()
    runs = [await cell.submitted(f"run-{number}") for number in range(5)]
    cell.clock.advance(TIMING.lost_message_s)
    cell.bell.away = True
    worker = sweeping(cell)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await worker.sweeper.sweep()
    cell.bell.away = False
    assert await worker.sweeper.sweep() == 5
    assert sorted(rung(cell)) == runs


async def test_where_nobody_can_count_each_look_rings() -> None:
    cell = Cell()
    await waiting(cell, 3)
    assert await cell.worker().sweeper.sweep() == 3


@pytest.mark.requirement("RUN-12")
async def test_a_run_whose_time_has_passed_is_rung_for_though_its_message_lies_in_a_queue_that_nobody_serves() -> None:
    cell = Cell()
    late = await cell.submitted("late", deadline_s=TIMING.lost_message_s / 2)
    await waiting(cell, 3)
    cell.bell.lies[QUEUE] += 1
    assert await sweeping(cell).sweeper.sweep() == 1
    assert [(ring.run_id, ring.queue) for ring in cell.bell.rings] == [(late, None), (late, CONTROL_QUEUE)]
