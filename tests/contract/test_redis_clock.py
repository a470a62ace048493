"""The clock that all processes share: Redis' time, whatever the machine's own says."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from tests.waiting import one_turn
from workers.adapters.redis.clock import RedisClock
from workers.adapters.redis.connection import connect
from workers.ports import StoreUnavailable

HOUR = 3_600.0


class Told:
    """A Redis that tells what time it is, `slow` seconds after it looked; the machine's monotonic clock."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.here = 50.0
        self.slow = 0.0
        self.away = False

    async def time(self) -> tuple[int, int]:
        if self.away:
            raise ConnectionError("away")
        seconds, micros = int(self.at), round(self.at % 1 * 1e6)
        self.pass_time(self.slow)
        return seconds, micros

    def pass_time(self, seconds: float) -> None:
        self.at += seconds
        self.here += seconds

    def clock(self, wall: float) -> RedisClock:
        return RedisClock(self, lambda: self.here, lambda: wall)  # type: ignore[arg-type]


@pytest.mark.requirement("RUN-12")
@pytest.mark.parametrize("skew", [HOUR, -HOUR, 0.0])
async def test_a_machine_whose_clock_is_wrong_tells_the_time_of_redis(redis_url: str, skew: float) -> None:
    redis: Redis = connect(redis_url)
    clock = RedisClock(redis, wall=lambda: time.time() + skew)
    await clock.anchor()
    seconds, _ = await redis.time()
    assert clock.now() == pytest.approx(int(seconds), abs=5.0)
    await redis.aclose()


async def test_between_two_looks_the_machine_counts_and_its_wall_clock_may_be_set() -> None:
    told = Told(1_000_000.0)
    clock = told.clock(wall=77.0)
    assert clock.now() == 77.0, "nobody else has said anything yet"
    await clock.anchor()
    told.pass_time(12.5)
    assert clock.now() == pytest.approx(told.at)


async def test_a_slow_answer_moves_a_good_clock_by_nothing() -> None:
    told = Told(1_000_000.0)
    clock = told.clock(wall=0.0)
    await clock.anchor()
    told.slow = 8.0
    await clock.anchor()
    assert clock.now() == pytest.approx(told.at)


async def test_a_clock_that_strays_is_moved_as_little_as_makes_it_fit() -> None:
    told = Told(1_000_000.0)
    clock = told.clock(wall=0.0)
    await clock.anchor()
    told.here -= 3.0  # the machine's seconds are long
    told.slow = 1.0
    await clock.anchor()
    assert clock.now() - told.at == pytest.approx(-1.0), "Redis may have looked a second later than it did"
    told.slow = 0.0
    await clock.anchor()
    assert clock.now() == pytest.approx(told.at)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_step_of_redis_clock_is_followed(step: float) -> None:
    told = Told(1_000_000.0)
    clock = told.clock(wall=1_000_000.0)
    await clock.anchor()
    told.at += step
    await clock.anchor()
    assert clock.now() == pytest.approx(told.at)


async def test_while_redis_is_away_the_clock_goes_on() -> None:
    told = Told(1_000_000.0)
    clock = told.clock(wall=0.0)
    await clock.anchor()
    told.away = True
    told.pass_time(60.0)
    with pytest.raises(StoreUnavailable):
        await clock.anchor()
    assert clock.now() == pytest.approx(told.at)


async def test_a_sleeper_wakes_by_the_time_of_redis() -> None:
    told = Told(1_000_000.0)
    clock = told.clock(wall=0.0)
    await clock.anchor()
    sleeper = asyncio.create_task(clock.sleep_until(told.at + 0.05))
    await one_turn()
    assert not sleeper.done()
    told.pass_time(0.05)
    await sleeper
    await clock.sleep_until(told.at - 5.0)
