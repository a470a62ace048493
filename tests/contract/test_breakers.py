"""Circuit breakers that all workers share (OPS-11): one suite over every keeper of them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from api_contracts import keys
from tests.contract.own_keys import REDIS_SERVERS, clear, client
from workers.adapters.memory.breakers import MemoryBreakers
from workers.adapters.memory.clock import ManualClock
from workers.adapters.redis.breakers import RedisBreakers
from workers.core.circuit import MEMORY_S, POLICIES, PROBE_S
from workers.ports import Breakers, Pass, StoreUnavailable

pytestmark = pytest.mark.requirement("OPS-11")

M, N = "accounts/a/models/m", "accounts/a/models/{n}"
ENOUGH = POLICIES["model"].failures
FREE = Pass()


class World:
    """Breakers, an account that nobody else uses, and time."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.account = f"team {{{uuid.uuid4().hex}}}"
        self._clock = clock or ManualClock()
        self.breakers: Breakers = MemoryBreakers(self._clock)

    async def pass_time(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def enter(self, model: str = M) -> Pass:
        return await self.breakers.enter(self.account, model)

    async def fail(self, times: int = 1, model: str = M) -> None:
        for _ in range(times):
            await self.breakers.failed(self.account, model, "model")

    async def close(self) -> None:
        """End what was started."""


class RedisWorld(World):
    """Time passes by making what is written older."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self._redis: Any = redis
        self.breakers = RedisBreakers(redis)
        self._keys = [keys.breaker(self.account), keys.breaker(self.account, M), keys.breaker(self.account, N)]

    async def pass_time(self, seconds: float) -> None:
        for key in self._keys:
            ms, left = round(seconds * 1000), await self._redis.pttl(key)
            for name, value in (await self._redis.hgetall(key)).items():
                if name in (b"until", b"probe", b"last"):
                    await self._redis.hset(key, name, int(value) - ms)
            if left > 0:
                await self._redis.pexpire(key, max(1, left - ms))
            if 0 < left <= ms:
                await self._redis.delete(key)

    async def close(self) -> None:
        await clear(self._redis, self._keys)


@pytest.fixture(params=("memory", *REDIS_SERVERS))
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Each keeper in turn."""
    world = World() if request.param == "memory" else RedisWorld(client(request))
    yield world
    await world.close()


async def test_nobody_has_failed_so_everybody_may_ask(world: World) -> None:
    assert [await world.enter() for _ in range(3)] == [FREE] * 3


async def test_failures_in_a_row_open_the_models_circuit_and_no_other(world: World) -> None:
    await world.fail(ENOUGH - 1)
    assert await world.enter() == Pass(clean=False)
    await world.fail()
    shut = await world.enter()
    assert (shut.refused, shut.probe) == ("model", False)
    assert await world.enter(N) == FREE, "another model"
    assert await world.breakers.enter(world.account + "x", M) == FREE, "another account"
    assert await world.breakers.enter(None, M) == FREE, "the process's own account"


async def test_it_is_open_for_as_long_as_is_said(world: World) -> None:
    await world.fail(ENOUGH)
    first = await world.enter()
    await world.pass_time(POLICIES["model"].first_s - 1)
    assert (await world.enter()).refused == "model"
    await world.pass_time(1)
    assert (await world.enter()).refused is None
    assert first.until > 1_600_000_000, "seconds since 1970"


async def test_a_success_between_failures_starts_the_count_anew(world: World) -> None:
    await world.fail(ENOUGH - 1)
    await world.breakers.worked(world.account, M)
    await world.fail(ENOUGH - 1)
    assert await world.enter() == Pass(clean=False)


async def test_failures_long_apart_are_not_in_a_row(world: World) -> None:
    await world.fail(ENOUGH - 1)
    await world.pass_time(MEMORY_S + 1)
    assert await world.enter() == FREE
    await world.fail()
    assert (await world.enter()).refused is None


async def test_of_all_who_ask_a_half_open_circuit_one_is_the_probe(world: World) -> None:
    await world.fail(ENOUGH)
    await world.pass_time(POLICIES["model"].first_s)
    asked = await asyncio.gather(*(world.enter() for _ in range(20)))
    assert [each.probe for each in asked].count(True) == 1
    assert [each.refused for each in asked].count("model") == 19
    assert await world.enter(N) == FREE


async def test_a_probe_that_works_closes_the_circuit(world: World) -> None:
    await world.fail(ENOUGH)
    await world.pass_time(POLICIES["model"].first_s)
    assert (await world.enter()).probe
    await world.breakers.worked(world.account, M)
    assert [await world.enter() for _ in range(3)] == [FREE] * 3


async def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_a_bound(world: World) -> None:
    await world.fail(ENOUGH)
    open_s, bound = POLICIES["model"].first_s, POLICIES["model"].longest_s
    for _ in range(7):
        await world.pass_time(open_s - 1)
        assert (await world.enter()).refused == "model"
        await world.pass_time(1)
        assert (await world.enter()).probe
        await world.fail()
        open_s = min(2 * open_s, bound)
    assert open_s == bound


async def test_a_probe_that_says_nothing_is_given_up(world: World) -> None:
    await world.fail(ENOUGH)
    await world.pass_time(POLICIES["model"].first_s)
    assert (await world.enter()).probe
    await world.pass_time(PROBE_S - 1)
    assert (await world.enter()).refused == "model"
    await world.pass_time(1)
    assert (await world.enter()).probe


async def test_what_fails_while_the_circuit_is_open_changes_nothing(world: World) -> None:
    await world.fail(ENOUGH)
    before = await world.enter()
    await world.fail(10)
    assert await world.enter() == before


@pytest.mark.requirement("CHAT-09")
async def test_one_failure_of_the_account_stops_all_its_models(world: World) -> None:
    await world.breakers.failed(world.account, M, "account")
    assert [(await world.enter(model)).refused for model in (M, N)] == ["account", "account"]
    assert await world.breakers.enter(None, M) == FREE
    await world.pass_time(POLICIES["account"].first_s)
    assert [(await world.enter(M)).probe, (await world.enter(N)).refused] == [True, "account"]
    await world.breakers.worked(world.account, M)
    assert await world.enter(N) == FREE


async def test_an_account_and_a_model_that_are_both_half_open_have_one_probe(world: World) -> None:
    await world.fail(ENOUGH)
    await world.breakers.failed(world.account, M, "account")
    await world.pass_time(POLICIES["account"].first_s)
    assert (await world.enter()).probe
    assert (await world.enter()).refused == "account"
    await world.breakers.worked(world.account, M)
    assert await world.enter() == FREE


async def test_a_redis_that_is_away_is_told() -> None:
    breakers = RedisBreakers(Redis.from_url("redis://127.0.0.1:1/0"))
    with pytest.raises(StoreUnavailable):
        await breakers.enter(None, M)
