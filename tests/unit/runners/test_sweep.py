"""Ringing for runs that nobody holds (`sweep`)."""

import pytest

from api_contracts.names import CONTROL_QUEUE
from tests.unit.runners.cell import TIMING, Cell
from tests.waiting import idle
from workers.ports import StoreUnavailable


@pytest.mark.requirement("RUN-17")
async def test_a_run_whose_message_was_lost_is_rung_for_once_and_then_less_often() -> None:
    cell = Cell()
    run_id = await cell.submitted(labels={"a": "b"})
    ann, bob = cell.worker("ann"), cell.worker("bob")
    assert await ann.sweeper.sweep() == 0
    cell.clock.advance(TIMING.lost_message_s)
    assert await ann.sweeper.sweep() + await bob.sweeper.sweep() == 1
    (ring,) = cell.bell.rings
    assert (ring.run_id, ring.signature, ring.queued.kind) == (run_id, None, "chat")
    assert ring.queued.request is not None, "without a signature the bell must know what was asked"
    cell.clock.advance(TIMING.lost_message_s)
    assert await ann.sweeper.sweep() == 1
    cell.clock.advance(TIMING.lost_message_s)
    assert await ann.sweeper.sweep() == 0


@pytest.mark.requirement("RUN-17", "RUN-23")
async def test_the_callers_own_signature_is_used_again() -> None:
    cell = Cell()
    run_id = await cell.submitted()
    await cell.store.acquire(run_id, "gone", "the caller's")
    cell.clock.advance(TIMING.lease_s)
    await cell.worker().sweeper.sweep()
    assert [(ring.run_id, ring.signature) for ring in cell.bell.rings] == [(run_id, "the caller's")]


@pytest.mark.requirement("RUN-26")
async def test_a_run_that_was_asked_to_end_is_rung_for_on_the_control_queue_too() -> None:
    """Perhaps no worker of its own queue is alive."""
    cell = Cell()
    run_id = await cell.submitted()
    assert await cell.store.signal(run_id, "cancel", {}, "") == "woken"
    assert await cell.worker().sweeper.wake(run_id)
    assert [(ring.run_id, ring.queue) for ring in cell.bell.rings] == [(run_id, None), (run_id, CONTROL_QUEUE)]


@pytest.mark.requirement("RUN-17")
async def test_a_process_sweeps_by_itself_as_often_as_it_was_told() -> None:
    cell = Cell()
    worker = cell.worker()
    await worker.keep()
    await cell.submitted()
    await cell.pass_time(TIMING.lost_message_s + TIMING.sweep_s)
    assert len(cell.bell.rings) == 1
    await worker.die()


@pytest.mark.requirement("RUN-21")
@pytest.mark.parametrize("away", ["claim_due", "read", "bell"])
async def test_sweeping_goes_on_after_an_outage(away: str) -> None:
    cell = Cell()
    run_id = await cell.submitted()
    worker = cell.worker()
    await worker.keep()
    if away == "bell":
        cell.bell.away = True
    else:
        worker.line.away.add(away)
    await cell.pass_time(TIMING.lost_message_s + TIMING.sweep_s)
    assert cell.bell.rings == []
    cell.bell.away = False
    worker.line.away.clear()
    await cell.pass_time(2 * TIMING.lost_message_s)
    assert run_id in {ring.run_id for ring in cell.bell.rings}
    await worker.die()


@pytest.mark.requirement("RUN-17", "RUN-24")
async def test_a_run_of_a_later_release_does_not_keep_the_others_from_being_rung_for() -> None:
    cell = Cell()
    strange, plain = await cell.submitted("a-strange-run"), await cell.submitted("b-plain-run")
    run = cell.store._runs[strange]
    run.events[0] = run.events[0].model_copy(update={"data": {"kind": "dream", "digest": "d"}})
    cell.clock.advance(TIMING.lost_message_s)
    assert await cell.worker().sweeper.sweep() == 1
    assert [ring.run_id for ring in cell.bell.rings] == [plain]


async def test_a_defect_of_one_sweep_does_not_end_sweeping() -> None:
    cell = Cell()
    await cell.submitted()
    worker = cell.worker()
    await worker.keep()
    ring = cell.bell.ring

    async def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    cell.bell.ring = broken  # type: ignore[method-assign,assignment]
    await cell.pass_time(TIMING.lost_message_s + TIMING.sweep_s)
    cell.bell.ring = ring  # type: ignore[method-assign]
    await cell.pass_time(2 * TIMING.lost_message_s)
    assert len(cell.bell.rings) >= 1
    await worker.die()


async def test_one_who_asks_for_a_sweep_hears_that_the_store_is_away() -> None:
    worker = Cell().worker()
    worker.line.away.add("claim_due")
    with pytest.raises(StoreUnavailable):
        await worker.sweeper.sweep()
    await idle()


@pytest.mark.requirement("RUN-12")
@pytest.mark.parametrize(("deadline_s", "queues"), [(TIMING.lost_message_s - 1, [None, CONTROL_QUEUE]), (3600, [None])])
async def test_a_run_whose_deadline_passed_in_the_queue_is_rung_for_on_the_control_queue_too(
    deadline_s: float, queues: list[str | None]
) -> None:
    """Perhaps no worker of its own queue is alive, and its caller waits for an end."""
    cell = Cell()
    await cell.submitted(deadline_s=deadline_s)
    cell.clock.advance(TIMING.lost_message_s)
    await cell.worker().sweeper.sweep()
    assert [ring.queue for ring in cell.bell.rings] == queues
