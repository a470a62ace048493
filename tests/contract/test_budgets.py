"""The fleet's budgets (OPS-12): one suite over every keeper of the books, and each against the rules of the core."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from api_contracts import keys
from tests.contract.own_keys import REDIS_SERVERS, clear, client
from workers.adapters.memory.budgets import MemoryBudgets
from workers.adapters.memory.clock import ManualClock
from workers.adapters.redis.budgets import RedisBudgets
from workers.adapters.redis.connection import connect
from workers.core.limits.budgets import AGAIN_S, Purse, Told
from workers.ports import Budgets, StoreUnavailable

pytestmark = pytest.mark.requirement("OPS-12")

DAYS_S = 30 * 86_400
LIMIT = 10**15
"""The largest that an operator may set, to the last unit."""
GRANTED = Told(granted=True)
SLOW_S = 5.0
"""A server's clock goes on while a test talks to it."""


class World:
    """A keeper, two budgets that nobody else uses, and time."""

    def __init__(self) -> None:
        self.tenant, self.label = (Purse(f"{uuid.uuid4().hex} {{x}}", (each,), LIMIT, DAYS_S) for each in ("a:b", "é"))
        self.other = self.tenant._replace(values=("a", "b"))
        self._clock = ManualClock()
        self.budgets: Budgets = MemoryBudgets(self._clock)

    async def left_s(self) -> float:
        """Return how long the window still lasts."""
        return DAYS_S - self._clock.now() % DAYS_S

    async def rest(self, seconds: float) -> None:
        """Let time pass within the window."""
        self._clock.advance(seconds)

    async def turn(self) -> None:
        """Let the next window begin."""
        self._clock.advance(await self.left_s())

    async def spent(self, purse: Purse) -> tuple[int, int]:
        """Return what is settled and what is reserved."""
        book = self.budgets.books[purse.name, purse.values]
        return book.settled, sum(book.open.values())

    async def reserve(self, reservation: str, amount: int, *purses: Purse) -> Told:
        return await self.budgets.reserve(purses or (self.tenant,), reservation, amount)

    async def settle(self, reservation: str, amount: int, *purses: Purse) -> None:
        await self.budgets.settle(purses or (self.tenant,), reservation, amount)

    async def close(self) -> None:
        """End what was started."""


class RedisWorld(World):
    """Time passes by making what is written older."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self.redis: Any = redis
        self.budgets = RedisBudgets(redis)
        self.keys = [keys.budget(each.name, each.values) for each in (self.tenant, self.label, self.other)]

    async def left_s(self) -> float:
        seconds, micros = await self.redis.time()
        return DAYS_S - (seconds + micros / 1e6) % DAYS_S

    async def rest(self, seconds: float) -> None:
        await self._age("moved", seconds)

    async def turn(self) -> None:
        await self._age("begins", DAYS_S)

    async def _age(self, name: str, seconds: float) -> None:
        for key in self.keys:
            if value := await self.redis.hget(key, name):
                await self.redis.hset(key, name, int(value) - round(seconds * 1000))

    async def spent(self, purse: Purse) -> tuple[int, int]:
        found = await self.redis.hmget(keys.budget(purse.name, purse.values), "settled", "open")
        return int(found[0] or 0), int(found[1] or 0)

    async def close(self) -> None:
        await clear(self.redis, self.keys)


@pytest.fixture(params=("memory", *REDIS_SERVERS))
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Each keeper in turn."""
    world = World() if request.param == "memory" else RedisWorld(client(request))
    yield world
    await world.close()


@pytest.fixture(params=REDIS_SERVERS)
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisWorld]:
    """Each Redis in turn."""
    world = RedisWorld(client(request))
    yield world
    await world.close()


async def test_the_limit_is_given_out_to_the_last_unit_and_no_further(world: World) -> None:
    assert await world.reserve("r.1", LIMIT - 1) == GRANTED
    assert await world.reserve("r.2", 1) == GRANTED
    assert not (await world.reserve("r.3", 1)).granted
    assert await world.reserve("r.4", 0) == GRANTED
    assert await world.spent(world.tenant) == (0, LIMIT)


async def test_workers_that_reserve_at_once_do_not_overshoot(world: World) -> None:
    amount = LIMIT // 7
    told = await asyncio.gather(*(world.reserve(f"run-{n}.1", amount) for n in range(40)))
    assert sum(each.granted for each in told) == 7
    assert sum(await world.spent(world.tenant)) == 7 * amount


async def test_what_is_settled_takes_the_place_of_what_was_reserved_and_the_rest_is_free_again(world: World) -> None:
    await world.reserve("r.1", LIMIT)
    await world.settle("r.1", LIMIT - 100)
    assert await world.spent(world.tenant) == (LIMIT - 100, 0)
    assert await world.reserve("r.2", 100) == GRANTED
    await world.settle("r.2", 0)
    assert await world.reserve("r.3", 100) == GRANTED, "what was never asked is refunded whole"
    await world.settle("r.3", 105)
    assert await world.spent(world.tenant) == (LIMIT + 5, 0), "what cost more counts as more"


async def test_a_run_under_two_budgets_reserves_in_both_or_in_none(world: World) -> None:
    both = world.tenant, world.label
    assert await world.reserve("r.1", LIMIT - 10, world.label) == GRANTED
    told = await world.reserve("r.2", 11, *both)
    assert (told.granted, told.by) == (False, 1)
    assert await world.reserve("r.3", LIMIT) == GRANTED, "nothing was taken"
    assert (await world.reserve("r.2", 5, *both)).by == 0
    await world.settle("r.3", 0)
    assert await world.reserve("r.2", 5, *both) == GRANTED
    await world.settle("r.2", 3, *both)
    assert await world.spent(world.tenant) == (3, 0)
    assert await world.spent(world.label) == (3, LIMIT - 10)


async def test_other_values_have_a_limit_of_their_own(world: World) -> None:
    assert await world.reserve("r.1", LIMIT) == GRANTED
    assert await world.reserve("r.1", LIMIT, world.other) == GRANTED
    assert await world.reserve("r.1", LIMIT, world.label) == GRANTED


async def test_a_reservation_is_made_and_settled_once_however_often_it_is_asked_for(world: World) -> None:
    for _ in range(3):
        assert await world.reserve("r.1", LIMIT) == GRANTED
    assert await world.spent(world.tenant) == (0, LIMIT)
    for _ in range(3):
        await world.settle("r.1", 7)
    await world.settle("never made", 7)
    assert await world.spent(world.tenant) == (7, 0)


async def test_what_is_spent_is_waited_for_until_the_window_ends(world: World) -> None:
    await world.reserve("r.1", LIMIT)
    await world.settle("r.1", LIMIT)
    told = await world.reserve("r.2", 1)
    assert not told.granted
    assert told.wait_s == pytest.approx(await world.left_s(), abs=SLOW_S)
    await world.turn()
    assert await world.reserve("r.2", LIMIT) == GRANTED


async def test_what_is_only_reserved_may_come_back_sooner(world: World) -> None:
    await world.reserve("r.1", LIMIT)
    told = await world.reserve("r.2", 1)
    assert (told.granted, told.wait_s) == (False, pytest.approx(AGAIN_S, abs=0.5))
    await world.rest(100)
    told = await world.reserve("r.2", 1)
    assert told.wait_s == pytest.approx(100, abs=SLOW_S), "seldom, where nothing moves"
    await world.settle("r.1", LIMIT - 1)
    assert await world.reserve("r.2", 1) == GRANTED


async def test_what_the_dead_reserved_stays_spent_until_the_window_ends_and_no_longer(world: World) -> None:
    await world.reserve("dead.1", LIMIT)
    await world.rest(86_400)
    assert not (await world.reserve("r.1", 1)).granted
    await world.turn()
    assert await world.reserve("r.1", LIMIT - 1) == GRANTED
    await world.settle("dead.1", 5)
    assert await world.spent(world.tenant) == (0, LIMIT - 1), "it was no part of this window"


@pytest.mark.parametrize("seed", range(3))
async def test_a_keeper_and_the_core_say_the_same_and_stay_within_the_limit(redis: RedisWorld, seed: int) -> None:
    chance, core = random.Random(seed), World()
    core.tenant, core.label = redis.tenant, redis.label
    open_ones: list[tuple[str, int]] = []
    for step in range(60):
        amount = chance.randrange(LIMIT // 3)
        purses = chance.choice([(redis.tenant,), (redis.label,), (redis.tenant, redis.label)])
        if open_ones and chance.random() < 0.4:
            name, reserved = open_ones.pop(chance.randrange(len(open_ones)))
            for each in (redis, core):
                await each.settle(name, reserved // 3, redis.tenant, redis.label)
        elif chance.random() < 0.1:
            await redis.turn()
            await core.turn()
            open_ones.clear()
        else:
            ours, theirs = [await each.reserve(f"r.{step}", amount, *purses) for each in (redis, core)]
            assert (ours.granted, ours.granted or ours.by) == (theirs.granted, theirs.granted or theirs.by), step
            open_ones += [(f"r.{step}", amount)] if ours.granted else []
            for purse in purses:
                assert await redis.spent(purse) == await core.spent(purse)
                assert sum(await redis.spent(purse)) <= LIMIT


async def test_a_stranger_in_the_keys_is_thrown_out(redis: RedisWorld) -> None:
    await redis.redis.set(redis.keys[0], "not a hash")
    await redis.settle("r.1", 3)
    assert await redis.reserve("r.1", 3) == GRANTED
    await redis.redis.hset(redis.keys[0], mapping={"settled": "lots", "open": "x", "moved": "?"})
    assert await redis.reserve("r.2", 3) == GRANTED


async def test_redis_away_is_said() -> None:
    client = connect("redis://127.0.0.1:1/0")
    purse = Purse("b", (), 1, 60)
    with pytest.raises(StoreUnavailable):
        await RedisBudgets(client).reserve([purse], "r.1", 1)
    with pytest.raises(StoreUnavailable):
        await RedisBudgets(client).settle([purse], "r.1", 1)
    await client.aclose()
