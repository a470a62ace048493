"""What waits for workers: counted from the journals, by queue, with the age of the oldest."""

import pytest

from api_contracts import keys
from api_contracts.names import QUEUES
from tests.contract.run_store.worlds import RedisWorld, Said, World, claims, given_held_run, given_run, queued
from workers.ports import Claimed, Granted

CHAT, CHAT_BG = "fireworks.chat", "fireworks.chat.bg"
SOON_S = 5.0
"""More than a test takes: ages on a Redis go on while it runs."""


async def waiting(world: World, queue: str = CHAT) -> int:
    """Return how many runs wait in a queue."""
    return (await world.queues.waiting())[queue].runs


async def oldest(world: World, queue: str = CHAT) -> float:
    """Return how long the first of a queue has waited."""
    return (await world.queues.waiting())[queue].oldest_s


async def lapsed(world: World) -> tuple[str, Granted]:
    """Return a run whose owner died, and its lease."""
    run_id, granted = await given_held_run(world, signature="signed")
    await world.pass_time(40)
    assert await claims(world.store, run_id) == [Claimed(run_id, "signed")]
    return run_id, granted


@pytest.mark.requirement("OPS-09")
async def test_a_submitted_run_waits_in_the_queue_of_its_kind_and_lane_until_its_first_lease(world: World) -> None:
    run_id = world.new_run_id()
    before = await world.queues.waiting()
    assert set(before) == set(QUEUES)
    await world.store.submit(run_id, queued(lane="background"), None)
    assert await waiting(world, CHAT_BG) == before[CHAT_BG].runs + 1
    assert await waiting(world, CHAT) == before[CHAT].runs
    assert isinstance(await world.store.acquire(run_id, "ann", ""), Granted)
    assert await waiting(world, CHAT_BG) == before[CHAT_BG].runs
    assert await oldest(world, CHAT_BG) == before[CHAT_BG].oldest_s == 0.0


@pytest.mark.requirement("OPS-09")
async def test_the_oldest_is_the_run_that_waits_longest(world: World) -> None:
    first = await given_run(world)
    await world.pass_time(100)
    await given_run(world)
    assert await oldest(world) == pytest.approx(100, abs=SOON_S)
    await world.store.acquire(first, "ann", "")
    assert await oldest(world) == pytest.approx(0, abs=SOON_S)


@pytest.mark.requirement("OPS-09")
async def test_a_run_whose_message_was_lost_goes_on_waiting_since_its_submit(world: World) -> None:
    run_id, number = await given_run(world), await waiting(world)
    await world.pass_time(70)
    assert [claimed.run_id for claimed in await claims(world.store, run_id)] == [run_id]
    assert await waiting(world) == number
    assert await oldest(world) == pytest.approx(70, abs=SOON_S)


@pytest.mark.requirement("OPS-09")
async def test_a_run_that_was_handed_over_waits_from_then_on(world: World) -> None:
    before = await waiting(world)
    run_id, granted = await given_held_run(world)
    await world.pass_time(20)
    await world.store.release(granted.lease)
    assert await waiting(world) == before + 1
    assert await oldest(world) == pytest.approx(0, abs=SOON_S)
    await world.store.acquire(run_id, "bob", "")
    assert await waiting(world) == before


@pytest.mark.requirement("OPS-09")
async def test_a_run_whose_worker_died_waits_since_its_lease_ran_out(world: World) -> None:
    before = await waiting(world)
    run_id, _ = await lapsed(world)
    assert await waiting(world) == before + 1
    assert await oldest(world) == pytest.approx(10, abs=SOON_S)
    assert isinstance(await world.store.acquire(run_id, "bob", ""), Granted)
    assert await waiting(world) == before


@pytest.mark.requirement("OPS-09")
async def test_a_parked_run_waits_for_no_worker_until_it_is_woken(world: World) -> None:
    before = await waiting(world)
    run_id, granted = await given_held_run(world)
    await world.store.park(granted.lease, "0", None)
    assert await waiting(world) == before
    await world.store.signal(run_id, "approve", {}, "1")
    await world.store.claim(run_id)
    assert await waiting(world) == before + 1
    assert await oldest(world) == pytest.approx(0, abs=SOON_S)


@pytest.mark.requirement("OPS-09")
async def test_an_owner_that_comes_back_late_ends_the_wait(world: World) -> None:
    before = await waiting(world)
    _, granted = await lapsed(world)
    assert await world.store.renew([granted.lease]) == set()
    assert await waiting(world) == before


@pytest.mark.requirement("OPS-09")
async def test_a_finished_run_that_is_rung_for_to_be_announced_does_not_wait(world: World) -> None:
    before = await waiting(world)
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, [Said(text="end")], terminal="completed")
    await world.pass_time(40)
    assert [claimed.run_id for claimed in await claims(world.store, run_id)] == [run_id]
    assert await waiting(world) == before


EARLIER_ACQUIRE = """
redis.call('HSET', KEYS[1], 'epoch', 1, 'owner', 'old', 'until', '9999999999999')
return 1
"""


@pytest.mark.requirement("OPS-09")
async def test_a_run_that_a_worker_of_an_earlier_release_took_is_struck_off(redis: RedisWorld) -> None:
    """It knows nothing of these sets, nor does it strike anything off."""
    before = await waiting(redis)
    taken = [redis.new_run_id("a"), redis.new_run_id("a")]
    for run_id in taken:
        await redis.store.submit(run_id, queued(), None)
        await redis.redis.eval(EARLIER_ACQUIRE, 1, keys.lease(run_id))
    assert await waiting(redis) == before


@pytest.mark.requirement("OPS-09")
async def test_a_run_whose_keys_are_gone_does_not_wait(redis: RedisWorld) -> None:
    before = await waiting(redis)
    run_id = await given_run(redis)
    await redis.redis.delete(keys.lease(run_id), keys.events(run_id))
    assert await waiting(redis) == before


@pytest.mark.requirement("OPS-09")
async def test_a_run_that_a_client_of_an_earlier_release_submitted_is_served_and_not_counted(redis: RedisWorld) -> None:
    before = await waiting(redis)
    run_id = await given_run(redis)
    await redis.redis.hdel(keys.lease(run_id), "queue")
    await redis.redis.zrem(keys.waiting(run_id[-1], CHAT), run_id)
    granted = await redis.store.acquire(run_id, "ann", "")
    assert isinstance(granted, Granted)
    await redis.store.release(granted.lease)
    await redis.pass_time(40)
    assert [claimed.run_id for claimed in await claims(redis.store, run_id)] == [run_id]
    assert await waiting(redis) == before


@pytest.mark.requirement("RUN-11")
async def test_what_waits_is_forgotten_with_the_last_run_that_waits(redis: RedisWorld) -> None:
    run_id = await given_run(redis)
    lives = await redis.redis.pttl(keys.lease(run_id))
    assert lives - 1000 <= await redis.redis.pttl(keys.waiting(run_id[-1], CHAT))
    _, granted = await lapsed(redis)
    assert granted.lease.epoch == 1
