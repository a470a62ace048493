"""The fleet's meters (OPS-10): one suite over every keeper of them, and each against the arithmetic of the core."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from api_contracts import keys
from tests.contract.own_keys import REDIS_SERVERS, clear, client
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.limits import MemoryLimiter
from workers.adapters.redis.connection import connect
from workers.adapters.redis.limits import RedisLimiter
from workers.core.limits.meters import (
    AGED_S,
    BURST,
    FILL,
    HOLD_S,
    LEARNED,
    LEAST,
    NOT_STATED,
    RAMP_S,
    Amounts,
    Fixed,
    Lane,
    Stated,
    Told,
    Word,
)
from workers.ports import Limiter, StoreUnavailable

pytestmark = pytest.mark.requirement("OPS-10")

M, N = "accounts/a/models/m", "accounts/a/models/{n}"
LIMIT = 36_000.0
FIXED: Fixed = (None, None, None, LIMIT)
QUIET = Word()
REFUSED = Word(refused=True)
# A server's clock goes on while a test talks to it: so much of a bucket may flow meanwhile.
SLOW_S = 5.0


class World:
    """A limiter, an account that nobody else uses, and time."""

    def __init__(self) -> None:
        self.account = f"team {{{uuid.uuid4().hex}}}"
        self._clock = ManualClock()
        self.limiter: Limiter = MemoryLimiter(self._clock)

    async def pass_time(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def ask(
        self, generated: float = 1_000.0, lane: Lane = "interactive", word: Word = QUIET, fixed: Fixed = FIXED,
        model: str = M,
    ) -> Told:  # fmt: skip
        return await self.limiter.ask(self.account, model, lane, Amounts(1.0, 10.0, 5.0, generated), word, fixed)

    async def drain(self, generated: float = 1_000.0) -> int:
        """Ask until one is refused; return how many were let in."""
        count = 0
        while (await self.ask(generated)).granted:
            count += 1
            assert count < 1_000, "there is no end to it"
        return count

    async def close(self) -> None:
        """End what was started."""


class RedisWorld(World):
    """Time passes by making what is written older."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self.redis: Any = redis
        self.limiter = RedisLimiter(redis)
        self.keys = [keys.limits(self.account), *(keys.limits(self.account, model) for model in (M, N))]

    async def pass_time(self, seconds: float) -> None:
        for key in self.keys:
            for name, value in (await self.redis.hgetall(key)).items():
                if name.startswith((b"at", b"bound", b"cut_at", b"share_at", b"waits_since")):
                    await self.redis.hset(key, name, int(value) - round(seconds * 1000))

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


def stated(left: float | None, limit: float = LIMIT) -> Word:
    return Word(stated=(*NOT_STATED[:3], Stated(limit, left)))


async def test_who_knows_no_limit_holds_nobody_back(world: World) -> None:
    told = [await world.ask(1e9, lane, fixed=LEARNED) for lane in ("interactive", "background") for _ in range(20)]
    assert told == [Told(granted=True)] * 40


async def test_a_bucket_is_taken_then_waited_for_then_refused(world: World) -> None:
    told = [await world.ask() for _ in range(20)]
    let_in = [each for each in told if each.granted]
    most = LIMIT * (BURST + FILL * (HOLD_S + SLOW_S) / 60) / 1_000 + 1
    assert LIMIT * BURST / 1_000 <= len(let_in) <= most
    assert let_in[0].wait_s == 0.0
    assert 0.0 < let_in[-1].wait_s <= HOLD_S < told[-1].wait_s
    assert (await world.ask(model=N)).granted, "another model"
    other = await world.limiter.ask(world.account + "x", M, "interactive", Amounts(), QUIET, FIXED)
    assert other == Told(granted=True), "another account"


async def test_workers_that_ask_at_once_take_one_bucket(world: World) -> None:
    told = await asyncio.gather(*(world.ask() for _ in range(30)))
    assert sum(each.granted for each in told) <= LIMIT * (BURST + FILL * (HOLD_S + SLOW_S) / 60) / 1_000 + 1


async def test_a_refusal_says_when_to_come_back(world: World) -> None:
    await world.drain()
    told = await world.ask()
    assert not told.granted
    await world.pass_time(told.wait_s)
    assert (await world.ask()).granted


async def test_time_gives_everything_back(world: World) -> None:
    await world.drain()
    await world.pass_time(120)
    assert await world.ask() == Told(granted=True)


async def test_what_was_not_used_goes_back(world: World) -> None:
    assert (await world.ask(10 * LIMIT)).granted
    assert not (await world.ask()).granted
    assert await world.ask(word=Word(back=Amounts(generated=10 * LIMIT))) == Told(granted=True)


async def test_background_leaves_half_of_the_bucket(world: World) -> None:
    assert (await world.ask(LIMIT * BURST - 100, "background")).granted
    behind = await world.ask(1.0, "background")
    assert not behind.granted
    assert behind.wait_s == pytest.approx((LIMIT * BURST / 2 - 100) / (LIMIT * FILL / 60), abs=SLOW_S)
    assert await world.ask(1.0) == Told(granted=True)


async def test_aged_background_goes_whatever_the_level_and_once(world: World) -> None:
    await world.drain()
    assert not (await world.ask(1.0, "background")).granted
    await world.pass_time(AGED_S - 5)
    await world.drain()
    assert not (await world.ask(1.0, "background")).granted, "its age counts from its first refusal"
    await world.pass_time(5)
    await world.drain()
    assert await world.ask(1.0, "background") == Told(granted=True)
    assert not (await world.ask(1.0, "background")).granted


async def test_requests_are_counted_for_the_account(world: World) -> None:
    fixed: Fixed = (60.0, None, None, None)
    told = [await world.ask(fixed=fixed, model=M if n % 2 else N) for n in range(30)]
    let_in = sum(each.granted for each in told)
    assert 60 * BURST <= let_in <= 60 * BURST + 60 * FILL * (HOLD_S + SLOW_S) / 60 + 1


async def test_a_learned_meter_binds_while_it_runs_short(world: World) -> None:
    assert (await world.ask(10 * LIMIT, word=stated(0.9), fixed=LEARNED)).granted
    assert (await world.ask(10 * LIMIT, word=stated(0.6), fixed=LEARNED)).granted
    assert (await world.ask(10 * LIMIT, word=stated(0.3), fixed=LEARNED)).granted
    assert not (await world.ask(fixed=LEARNED)).granted
    assert not (await world.ask(word=stated(0.6), fixed=LEARNED)).granted, "neither short nor ample: as before"
    await world.limiter.hear(world.account, M, stated(0.8), LEARNED)
    assert await world.ask(fixed=LEARNED) == Told(granted=True)


async def test_a_learned_meter_binds_for_a_minute_without_a_word(world: World) -> None:
    await world.ask(10 * LIMIT, word=stated(0.0), fixed=LEARNED)
    await world.pass_time(50)
    assert not (await world.ask(fixed=LEARNED)).granted
    await world.pass_time(11)
    assert await world.ask(fixed=LEARNED) == Told(granted=True)


async def test_after_a_refusal_the_share_ramps_up(world: World) -> None:
    await world.limiter.hear(world.account, M, stated(1.0), LEARNED)
    whole = await world.drain()
    await world.pass_time(120)
    for _ in range(5):
        await world.limiter.hear(world.account, M, REFUSED, FIXED)
    cut = await world.drain()
    assert cut < whole / 2 + 3, "empty, and half as fast"
    await world.pass_time(RAMP_S)
    assert await world.drain() == pytest.approx(whole, abs=SLOW_S)


async def test_refusals_without_end_leave_a_trickle(world: World) -> None:
    for _ in range(8):
        await world.limiter.hear(world.account, M, REFUSED, FIXED)
        await world.pass_time(3)
    least = LIMIT * FILL * LEAST / 60
    await world.ask(least * 100)
    held = await world.ask()
    assert not held.granted
    assert held.wait_s <= 100, "a share of its limits is left to it"


@pytest.mark.parametrize("seed", range(3))
async def test_a_keeper_and_the_core_say_the_same(redis: RedisWorld, seed: int) -> None:
    chance, core = random.Random(seed), World()
    fixed: Fixed = (chance.choice([None, 600.0]), None, None, chance.choice([None, 6_000.0]))
    for step in range(30):
        lane: Lane = chance.choice(["interactive", "background"])
        back = Word(back=Amounts(generated=90.0))
        word = chance.choice([QUIET, QUIET, stated(chance.random(), 6_000.0), REFUSED, back])
        cost, pause = chance.choice([0.5, 40.0, 600.0]), chance.choice([0.0, 2.0, 30.0])
        ours = await redis.ask(cost, lane, word, fixed)
        theirs = await core.ask(cost, lane, word, fixed)
        # What flows on the server between two steps may let one in that the core holds back by a moment.
        assert ours.wait_s == pytest.approx(theirs.wait_s, abs=SLOW_S), step
        if ours.granted != theirs.granted:
            assert min(ours.wait_s, theirs.wait_s, abs(HOLD_S - max(ours.wait_s, theirs.wait_s))) < SLOW_S, step
            return
        await redis.pass_time(pause)
        await core.pass_time(pause)


async def test_a_stranger_in_the_keys_is_thrown_out(redis: RedisWorld) -> None:
    await redis.redis.set(redis.keys[0], "not a hash")
    await redis.redis.hset(
        redis.keys[1], mapping={"limit4": "many", "level4": "lots", "share": "x", "waits_since": "?"}
    )
    assert await redis.ask() == Told(granted=True)
    assert await redis.redis.type(redis.keys[0]) in (b"none", b"hash")


async def test_redis_away_is_said() -> None:
    client = connect("redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable):
        await RedisLimiter(client).ask(None, M, "interactive", Amounts(), QUIET, FIXED)
    await client.aclose()
