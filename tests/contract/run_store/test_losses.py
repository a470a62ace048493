"""A store that loses what it had acknowledged, as after a failover: whoever wrote what was lost writes no more."""

import pytest

from tests.contract.run_store.worlds import TIMING, Said, World, given_held_run, given_run, queued, said
from workers.ports import Granted, Held, Lease, LeaseLost, Missing


async def given_an_epoch_twice(world: World, first: str = "ann", second: str = "bob") -> tuple[Lease, Lease]:
    """Return the lease that the store forgot, and that which it gave then, of one run under one epoch."""
    run_id = await given_run(world)
    forget = await world.remember(run_id)
    lost = await world.store.acquire(run_id, first, "")
    await forget()
    current = await world.store.acquire(run_id, second, "")
    assert isinstance(lost, Granted)
    assert isinstance(current, Granted)
    assert lost.lease.epoch == current.lease.epoch
    return lost.lease, current.lease


@pytest.mark.requirement("RUN-03")
async def test_an_owner_whose_epoch_was_granted_again_writes_nothing(world: World) -> None:
    lost, current = await given_an_epoch_twice(world)
    with pytest.raises(LeaseLost):
        await world.store.append(lost, 1, [Said(text="forgotten")])
    with pytest.raises(LeaseLost):
        await world.store.append(lost, 1, [Said(text="forgotten")], terminal="completed")
    assert await world.store.append(current, 1, [Said(text="mine")]) == 2
    with pytest.raises(LeaseLost):
        await world.store.append(lost, 1, [Said(text="forgotten")])  # not taken for a repeat of what landed
    assert await said(world, current.run_id) == ["mine"]


@pytest.mark.requirement("RUN-03")
async def test_an_owner_whose_epoch_was_granted_again_hears_so_at_its_next_renewal(world: World) -> None:
    lost, current = await given_an_epoch_twice(world)
    await world.pass_time(TIMING.lease_s)
    assert await world.store.renew([lost, current]) == {lost}
    assert await world.store.acquire(current.run_id, "cat", "") == Held(current.owner)


@pytest.mark.requirement("RUN-03")
async def test_an_owner_whose_epoch_was_granted_again_takes_the_run_from_nobody_by_letting_go(world: World) -> None:
    lost, current = await given_an_epoch_twice(world)
    await world.store.release(lost)
    with pytest.raises(LeaseLost):
        await world.store.park(lost, "0", None)
    assert await world.store.acquire(current.run_id, "cat", "") == Held(current.owner)
    await world.store.release(current)
    assert isinstance(await world.store.acquire(current.run_id, "cat", ""), Granted)


@pytest.mark.requirement("RUN-03")
async def test_a_writer_that_knows_more_than_the_journal_loses_the_run_and_the_next_goes_on_from_what_is_left(
    world: World,
) -> None:
    run_id, granted = await given_held_run(world, "ann")
    await world.store.append(granted.lease, 1, [Said(text="kept")])
    forget = await world.remember(run_id)
    assert await world.store.append(granted.lease, 2, [Said(text="lost")]) == 3
    await forget()
    for base in (3, 4):
        with pytest.raises(LeaseLost):
            await world.store.append(granted.lease, base, [Said(text="after a hole")])
    assert await said(world, run_id) == ["kept"]
    await world.pass_time(TIMING.lease_s)
    assert await world.store.acquire(run_id, "bob", "") == Granted(Lease(run_id, 2, "bob"), seq=2, deaths=1)


@pytest.mark.requirement("RUN-03")
async def test_a_writer_whose_last_append_was_lost_before_its_reply_repeats_it(world: World) -> None:
    run_id, granted = await given_held_run(world, "ann")
    forget = await world.remember(run_id)
    await world.store.append(granted.lease, 1, [Said(text="once")])
    await forget()
    assert await world.store.append(granted.lease, 1, [Said(text="once")]) == 2
    assert await said(world, run_id) == ["once"]


@pytest.mark.requirement("RUN-04")
async def test_a_run_whose_release_or_park_was_lost_is_taken_when_its_lease_ends(world: World) -> None:
    for parks in (False, True):
        run_id, granted = await given_held_run(world, "ann")
        forget = await world.remember(run_id)
        await (world.store.park(granted.lease, "0", None) if parks else world.store.release(granted.lease))
        await forget()
        assert await world.store.acquire(run_id, "bob", "") == Held("ann")
        await world.pass_time(TIMING.lease_s)
        assert isinstance(await world.store.acquire(run_id, "bob", ""), Granted)


async def test_a_run_whose_submission_was_lost_is_missing_and_can_be_submitted_again(world: World) -> None:
    run_id = world.new_run_id()
    forget = await world.remember(run_id)
    assert await world.store.submit(run_id, queued(), None) == "created"
    await forget()
    assert await world.store.acquire(run_id, "ann", "") == Missing()
    assert await world.store.submit(run_id, queued(), None) == "created"
    assert isinstance(await world.store.acquire(run_id, "ann", ""), Granted)
