"""A run ends once; its callbacks go out; then nobody looks at it again."""

import pytest

from api_contracts.runs import Status
from tests.contract.run_store.worlds import TIMING, Said, World, claims, given_held_run, queued, said
from workers.ports import Finished, Lease, LeaseLost


async def given_finished_run(world: World, status: Status = "completed") -> tuple[str, Lease]:
    """Return a run that ended with seq 2, and its last lease."""
    run_id, granted = await given_held_run(world, signature="from the caller")
    assert await world.store.append(granted.lease, 1, [Said(text="end")], terminal=status) == 2
    return run_id, granted.lease


@pytest.mark.requirement("RUN-10")
@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_who_asks_for_a_finished_run_hears_how_it_ended(world: World, status: Status) -> None:
    run_id, _ = await given_finished_run(world, status)
    assert await world.store.acquire(run_id, "bob", "") == Finished(status, announced=False)
    await world.store.announced(run_id)
    assert await world.store.acquire(run_id, "bob", "") == Finished(status, announced=True)


@pytest.mark.requirement("RUN-02")
async def test_nothing_is_appended_after_the_end(world: World) -> None:
    run_id, lease = await given_finished_run(world)
    with pytest.raises(LeaseLost):
        await world.store.append(lease, 2, [Said(text="afterthought")])
    with pytest.raises(LeaseLost):
        await world.store.append(lease, 2, [Said(text="another end")], terminal="failed")
    assert await said(world, run_id) == ["end"]
    assert await world.store.acquire(run_id, "bob", "") == Finished("completed", announced=False)


@pytest.mark.requirement("RUN-21")
async def test_the_last_append_may_be_repeated_like_any_other(world: World) -> None:
    run_id, lease = await given_finished_run(world)
    assert await world.store.append(lease, 1, [Said(text="end")], terminal="completed") == 2
    assert await said(world, run_id) == ["end"]


@pytest.mark.requirement("RUN-03")
async def test_a_run_is_not_ended_under_a_stale_epoch(world: World) -> None:
    run_id, stale = await given_held_run(world, "ann")
    await world.pass_time(TIMING.lease_s)
    await world.store.acquire(run_id, "bob", "")
    with pytest.raises(LeaseLost):
        await world.store.append(stale.lease, 1, [Said(text="end")], terminal="completed")
    assert not isinstance(await world.store.acquire(run_id, "cat", ""), Finished)


async def test_the_lease_of_a_finished_run_is_not_renewed(world: World) -> None:
    _, lease = await given_finished_run(world)
    assert await world.store.renew([lease]) == {lease}


@pytest.mark.requirement("RUN-10")
async def test_a_finished_run_is_looked_at_until_its_callbacks_are_out(world: World) -> None:
    run_id, _ = await given_finished_run(world)
    assert await claims(world.store, run_id) == []
    await world.pass_time(TIMING.lease_s)
    (claimed,) = await claims(world.store, run_id)
    assert claimed.signature == "from the caller"
    await world.pass_time(TIMING.lost_message_s)
    assert len(await claims(world.store, run_id)) == 1


@pytest.mark.requirement("RUN-10")
async def test_who_ended_a_run_has_a_lease_s_time_to_announce_it(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.pass_time(TIMING.lease_s / 2)
    await world.store.append(granted.lease, 1, [Said(text="end")], terminal="completed")
    assert await world.next_look(run_id) == pytest.approx(TIMING.lease_s, abs=TIMING.lease_s / 6)


async def test_nobody_holds_a_finished_run(world: World) -> None:
    run_id, _ = await given_finished_run(world)
    await world.look_now(run_id)
    assert len(await claims(world.store, run_id)) == 1


@pytest.mark.requirement("RUN-10")
async def test_once_the_callbacks_are_out_nobody_looks_again(world: World) -> None:
    run_id, _ = await given_finished_run(world)
    await world.store.announced(run_id)
    assert await world.next_look(run_id) is None
    await world.pass_time(10 * TIMING.longest_look_s)
    assert await claims(world.store, run_id) == []


async def test_announcing_twice_is_announcing_once(world: World) -> None:
    run_id, _ = await given_finished_run(world)
    await world.store.announced(run_id)
    await world.store.announced(run_id)
    assert await world.store.acquire(run_id, "bob", "") == Finished("completed", announced=True)


async def test_a_run_that_goes_on_cannot_be_announced(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.announced(run_id)
    assert await world.next_look(run_id) is not None
    assert await world.store.append(granted.lease, 1, [Said(text="on")]) == 2
    await world.store.append(granted.lease, 2, [Said(text="end")], terminal="failed")
    assert await world.store.acquire(run_id, "bob", "") == Finished("failed", announced=False)


@pytest.mark.requirement("RUN-01")
async def test_a_finished_run_keeps_its_id(world: World) -> None:
    run_id, _ = await given_finished_run(world)
    assert await world.store.submit(run_id, queued(), None) == "exists"
    assert await world.store.submit(run_id, queued("d2"), None) == "conflict"
    assert await said(world, run_id) == ["end"]
