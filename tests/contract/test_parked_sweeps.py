"""What many parked runs cost those that look for due ones: counted in calls, not timed (issue 6, point 7)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.runs import RunParked, RunQueued, RunStarted
from workers.adapters.clock import SystemClock
from workers.adapters.memory.bell import MemoryBell
from workers.adapters.redis.connection import connect
from workers.adapters.redis.store import RedisRuns
from workers.cli.embedded import EmbeddedValkey
from workers.ports import Granted
from workers.runners.sweep import AT_ONCE, MOST_RINGS, Sweeper
from workers.settings import Timing

DAY_S = 86_400.0
MANY = 1_300


@dataclass
class Site:
    """A server of the test's own, and the sweepers of two processes on it."""

    redis: Redis
    store: RedisRuns
    bell: MemoryBell
    sweepers: tuple[Sweeper, Sweeper]

    async def parked(self, count: int) -> list[str]:
        """Park so many runs for a day."""
        runs = [keys.new_run_id() for _ in range(count)]
        rest = iter(runs)
        await asyncio.gather(*(self._park(rest) for _ in range(20)))
        return runs

    async def _park(self, runs: Iterator[str]) -> None:
        until = SystemClock().now() + DAY_S
        said = [RunStarted(owner="ann"), RunParked(why="x", until=until)]
        for run_id in runs:
            assert await self.store.submit(run_id, RunQueued(kind="chat", digest="d", request={}), None) == "created"
            granted = await self.store.acquire(run_id, "ann", "signed")
            assert isinstance(granted, Granted)
            await self.store.append(granted.lease, granted.seq, said)
            assert await self.store.park(granted.lease, "0", until) == "parked"

    async def due(self, runs: list[str]) -> None:
        """Let the time of these come, all at one instant."""
        for run_id in runs:
            await self.redis.zadd(keys.due(run_id[-1]), {run_id: 1})

    async def calls(self) -> int:
        """Return how many commands the server has carried out so far, those of scripts included."""
        stats = await self.redis.info("commandstats")
        return sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info")


@pytest.fixture
async def site(own_valkey: EmbeddedValkey) -> AsyncIterator[Site]:
    clock, bell = SystemClock(), MemoryBell()
    async with connect(own_valkey.url, max_connections=50) as redis:
        store = RedisRuns(redis, clock, Timing())
        store.start()
        sweepers = [Sweeper(store, bell, clock, 5.0, lambda: 0.5) for _ in range(2)]
        yield Site(redis, store, bell, (sweepers[0], sweepers[1]))
        await store.close()


@pytest.mark.requirement("RUN-07", "RUN-17")
async def test_a_sweep_asks_no_more_for_a_thousand_parked_runs_than_for_none(site: Site) -> None:
    async def cost() -> int:
        before = await site.calls()
        assert await site.sweepers[0].sweep() == 0
        return await site.calls() - before

    none = await cost()
    await site.parked(MANY)
    assert await cost() == none <= 2 * len(keys.SLOTS)


@pytest.mark.requirement("RUN-07", "RUN-17")
async def test_a_thousand_that_are_due_together_are_rung_for_in_bites_and_each_once(site: Site) -> None:
    runs = await site.parked(MANY)
    await site.due(runs)
    rung = [await site.sweepers[0].sweep() for _ in range(4)]
    assert max(rung) < MOST_RINGS + AT_ONCE
    assert (sum(rung), rung[-1]) == (MANY, 0)
    assert sorted(ring.run_id for ring in site.bell.rings) == sorted(runs)


@pytest.mark.requirement("RUN-17")
async def test_two_processes_that_sweep_together_ring_for_each_once(site: Site) -> None:
    runs = await site.parked(MANY)
    await site.due(runs)
    ann, bob = site.sweepers
    while sum(await asyncio.gather(ann.sweep(), bob.sweep())):
        pass
    assert sorted(ring.run_id for ring in site.bell.rings) == sorted(runs)
