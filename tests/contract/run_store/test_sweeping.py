"""Sweeping: what nobody holds is claimed, by one caller, less and less often."""

import asyncio
from itertools import pairwise

import pytest

from api_contracts import keys
from tests.contract.run_store.worlds import (
    MANY,
    TIMING,
    RedisWorld,
    Said,
    World,
    claims,
    given_held_run,
    given_run,
    queued,
)
from tests.waiting import eventually_async
from workers.ports import Granted

# Redis' clock goes on while we look at it.
ABOUT_S = 5.0


@pytest.mark.requirement("RUN-17")
async def test_a_run_whose_message_was_lost_is_claimed_once_it_is_due(world: World) -> None:
    run_id = await given_run(world)
    assert await claims(world.store, run_id) == []
    await world.pass_time(TIMING.lost_message_s)
    assert [claimed.run_id for claimed in await claims(world.store, run_id)] == [run_id]
    assert await claims(world.store, run_id) == []


@pytest.mark.requirement("RUN-17")
async def test_a_run_is_never_claimed_while_somebody_holds_it(world: World) -> None:
    run_id, granted = await given_held_run(world)
    for _ in range(4):
        await world.pass_time(TIMING.lease_s * 0.8)
        assert await claims(world.store, run_id) == []
        assert await world.store.renew([granted.lease]) == set()
    assert await world.store.append(granted.lease, 1, [Said(text="mine")]) == 2


@pytest.mark.requirement("RUN-17")
async def test_an_early_look_at_a_held_run_is_put_off_until_its_lease_ends(world: World) -> None:
    run_id, _ = await given_held_run(world)
    await world.pass_time(TIMING.lease_s / 2)
    await world.look_now(run_id)
    assert await claims(world.store, run_id) == []
    assert await world.next_look(run_id) == pytest.approx(TIMING.lease_s / 2, abs=ABOUT_S)


@pytest.mark.requirement("RUN-04", "RUN-17")
async def test_the_run_of_an_owner_that_died_is_claimed_when_its_lease_ends(world: World) -> None:
    run_id, _ = await given_held_run(world, signature="from the caller")
    await world.pass_time(TIMING.lease_s)
    (claimed,) = await claims(world.store, run_id)
    assert (claimed.run_id, claimed.signature) == (run_id, "from the caller")


@pytest.mark.requirement("RUN-05", "RUN-17")
async def test_a_released_run_whose_message_is_lost_is_claimed_within_a_lease(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.release(granted.lease)
    await world.pass_time(TIMING.lease_s)
    assert len(await claims(world.store, run_id)) == 1


@pytest.mark.requirement("RUN-17")
async def test_of_many_who_sweep_at_once_each_run_is_claimed_by_one(world: World) -> None:
    mine = [await given_run(world) for _ in range(40)]
    await world.pass_time(TIMING.lost_message_s)
    stores = [world.store, await world.another_process()]
    rounds = await asyncio.gather(*(claims(store, *mine) for store in stores * 3))
    assert sorted(claimed.run_id for found in rounds for claimed in found) == sorted(mine)


@pytest.mark.requirement("RUN-17")
async def test_the_looks_at_a_run_that_nobody_takes_are_twice_as_far_apart_each_time(world: World) -> None:
    run_id = await given_run(world)
    await world.pass_time(TIMING.lost_message_s)
    waits: list[float] = []
    for _ in range(5):
        assert len(await claims(world.store, run_id)) == 1
        look = await world.next_look(run_id)
        assert look is not None
        waits.append(look)
        await world.pass_time(look + 1)
    assert waits[0] == pytest.approx(TIMING.lost_message_s, abs=ABOUT_S)
    for before, after in pairwise(waits):
        assert after == pytest.approx(min(2 * before, TIMING.longest_look_s), abs=2 * ABOUT_S)


@pytest.mark.requirement("RUN-17")
async def test_a_run_that_was_taken_is_looked_at_early_again(world: World) -> None:
    run_id = await given_run(world)
    for _ in range(3):
        await world.pass_time(TIMING.longest_look_s)
        assert len(await claims(world.store, run_id)) == 1
    await world.store.acquire(run_id, "ann", "")
    await world.pass_time(TIMING.lease_s)
    assert len(await claims(world.store, run_id)) == 1
    assert await world.next_look(run_id) == pytest.approx(TIMING.lost_message_s, abs=ABOUT_S)


async def test_no_more_is_claimed_than_was_asked_for_and_the_rest_comes_next(world: World) -> None:
    mine = {await given_run(world) for _ in range(12)}
    await world.pass_time(TIMING.lost_message_s)
    found: list[str] = []

    async def all_are_claimed() -> bool:
        claimed = await world.store.claim_due(5)
        assert len(claimed) <= 5
        found.extend(one.run_id for one in claimed)
        return mine <= set(found)

    await eventually_async(all_are_claimed)
    assert len(found) == len(set(found))


@pytest.mark.requirement("RUN-17")
async def test_every_last_character_that_a_run_id_can_have_is_swept(world: World) -> None:
    mine = [world.new_run_id(ending=last) for last in keys.SLOTS]
    for run_id in mine:
        await world.store.submit(run_id, queued(), None)
    await world.pass_time(TIMING.lost_message_s)
    assert {claimed.run_id for claimed in await claims(world.store, *mine)} == set(mine)


@pytest.mark.requirement("RUN-17")
async def test_a_claim_says_in_which_queue_the_run_waited_already(world: World) -> None:
    """Its message may lie there still; nobody has been rung for a run whose owner died, or which was parked."""
    submitted, (lost, _), (released, its), (parked, other) = (
        await given_run(world), *[await given_held_run(world) for _ in range(3)]
    )  # fmt: skip
    await world.store.release(its.lease)
    assert await world.store.park(other.lease, "0", (await world.store.read(parked))[0].at / 1000) == "parked"
    await world.pass_time(TIMING.lost_message_s)
    mine = (submitted, lost, released, parked)
    found = {claimed.run_id: claimed.waits_in for claimed in await claims(world.store, *mine)}
    assert found == {submitted: "fireworks.chat", lost: "", released: "fireworks.chat", parked: ""}
    await world.pass_time(TIMING.longest_look_s)
    again = {claimed.run_id: claimed.waits_in for claimed in await claims(world.store, *mine)}
    assert again == dict.fromkeys(mine, "fireworks.chat")


@pytest.mark.requirement("RUN-17")
async def test_many_due_runs_in_one_slot_hide_none_of_another(redis: RedisWorld) -> None:
    first, last = keys.SLOTS[0], keys.SLOTS[-1]
    mine = [redis.new_run_id(ending=first) for _ in range(60)] + [redis.new_run_id(ending=last)]
    for run_id in mine:
        await redis.store.submit(run_id, queued(), None)
    await redis.pass_time(TIMING.lost_message_s)
    due = await redis.store._due(20)
    assert len(due) == 20
    assert len([run_id for run_id in due if run_id[-1] == last]) >= 1
    assert len(await redis.store._due(MANY)) >= 61


@pytest.mark.requirement("RUN-17")
async def test_the_oldest_of_a_slot_comes_first(redis: RedisWorld) -> None:
    mine = [redis.new_run_id(ending="Q") for _ in range(5)]
    for age, run_id in enumerate(mine):
        await redis.store.submit(run_id, queued(), None)
        await redis.redis.zadd(keys.due("Q"), {run_id: 5 - age})
    assert [run_id for run_id in await redis.store._due(MANY) if run_id in mine] == mine[::-1]


# -- deadlines ---------------------------------------------------------------------------------------------------------


async def given_run_with_a_deadline(world: World, deadline_s: float) -> str:
    run_id = world.new_run_id()
    assert await world.store.submit(run_id, queued(deadline_s=deadline_s), None) == "created"
    return run_id


@pytest.mark.requirement("RUN-12")
async def test_a_run_that_nobody_begins_in_its_time_is_due_then_and_said_to_be_late(world: World) -> None:
    run_id = await given_run_with_a_deadline(world, TIMING.lost_message_s / 2)
    assert await world.next_look(run_id) == pytest.approx(TIMING.lost_message_s / 2, abs=ABOUT_S)
    await world.pass_time(TIMING.lost_message_s / 2)
    (claimed,) = await claims(world.store, run_id)
    assert claimed.late
    assert await world.next_look(run_id) == pytest.approx(TIMING.lost_message_s, abs=ABOUT_S), "and then less often"


@pytest.mark.requirement("RUN-12")
async def test_a_look_is_never_put_off_beyond_the_deadline(world: World) -> None:
    deadline_s = 1.5 * TIMING.lost_message_s
    run_id = await given_run_with_a_deadline(world, deadline_s)
    assert await world.next_look(run_id) == pytest.approx(TIMING.lost_message_s, abs=ABOUT_S)
    await world.pass_time(TIMING.lost_message_s)
    (claimed,) = await claims(world.store, run_id)
    assert not claimed.late
    assert await world.next_look(run_id) == pytest.approx(deadline_s - TIMING.lost_message_s, abs=ABOUT_S)


@pytest.mark.requirement("RUN-12")
async def test_a_run_whose_worker_died_with_its_time_is_late_and_one_that_is_held_is_left_to_its_owner(
    world: World,
) -> None:
    run_id = await given_run_with_a_deadline(world, TIMING.lease_s / 2)
    granted = await world.store.acquire(run_id, "ann", "signed")
    assert isinstance(granted, Granted)
    await world.pass_time(TIMING.lease_s / 2)
    assert await claims(world.store, run_id) == []
    await world.pass_time(TIMING.lease_s / 2)
    (claimed,) = await claims(world.store, run_id)
    assert (claimed.signature, claimed.late) == ("signed", True)


@pytest.mark.requirement("RUN-12")
async def test_a_run_that_is_over_is_late_no_more_nor_is_one_that_was_reopened(world: World) -> None:
    run_id = await given_run_with_a_deadline(world, TIMING.lease_s / 2)
    granted = await world.store.acquire(run_id, "ann", "signed")
    assert isinstance(granted, Granted)
    await world.store.append(granted.lease, 1, [Said(text="late")], terminal="failed")
    await world.pass_time(TIMING.lease_s)
    (unannounced,) = await claims(world.store, run_id)
    assert not unannounced.late
    await world.store.announced(run_id)
    assert await world.store.retry(run_id, "op", "again") == "reopened"
    (reopened,) = await claims(world.store, run_id)
    assert not reopened.late, "its time counts from when it begins again"
