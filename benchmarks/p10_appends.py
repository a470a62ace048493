"""Events per second appended per core, against a bare pipelined XADD of the same entries. Goal: >= 0.5.

In one process `RUNS` runs append one event each, again and again, by the service's own appender: fenced, numbered,
timed by Redis, repeatable. The floor sends the same fields, ready made, by XADD in pipelines of as many. Counted is CPU
of this process, of Redis, and of both: what one core of it gets through.
Run: .venv/bin/python -m benchmarks.p10_appends [--quick]
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.chat import ChatDelta
from api_contracts.runs import RunQueued
from benchmarks.cpu import exact_cpu_s, spread
from workers.adapters.clock import SystemClock
from workers.adapters.redis.connection import connect
from workers.adapters.redis.store import RedisRuns
from workers.cli.embedded import EmbeddedValkey
from workers.ports import Granted, Lease
from workers.settings import Timing

RUNS = 64
EVENT = ChatDelta(attempt=1, text="A few words of an answer, as they come in thirty milliseconds.")


class Appending:
    """Runs that are leased, and one journal each."""

    def __init__(self, redis: Redis, store: RedisRuns, leases: list[Lease], seq: int) -> None:
        self._redis = redis
        self._store = store
        self._leases = leases
        self._seq = seq

    @classmethod
    async def on(cls, redis: Redis, store: RedisRuns) -> "Appending":
        """Submit the runs and lease them."""
        leases, seq = [], 0
        for _ in range(RUNS):
            run_id = keys.new_run_id()
            await store.submit(run_id, RunQueued(kind="chat", digest="d", request={}), None)
            granted = await store.acquire(run_id, "bench#1", "{}")
            if not isinstance(granted, Granted):
                raise RuntimeError(f"no lease: {granted}")
            leases.append(granted.lease)
            seq = granted.seq
        return cls(redis, store, leases, seq)

    async def ours(self, count: int) -> None:
        """Append so many events to each run, one after the other."""

        async def one(lease: Lease) -> None:
            seq = self._seq
            for _ in range(count):
                seq = await self._store.append(lease, seq, [EVENT])

        await asyncio.gather(*(one(lease) for lease in self._leases))
        self._seq += count

    async def bare(self, count: int) -> None:
        """Do the same without any promise."""
        data, names = EVENT.to_json(), [f"bench:{lease.run_id}" for lease in self._leases]
        for seq in range(count):
            pipe = self._redis.pipeline(transaction=False)
            for name in names:
                pipe.xadd(name, {"seq": seq, "type": EVENT.TYPE, "at": 1_700_000_000_000, "epoch": 1, "data": data})
            await pipe.execute()
        await self._redis.delete(*names)


async def spent(server: int, work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Return the CPU seconds of this process and of Redis."""
    before = time.process_time(), exact_cpu_s(server)
    await work()
    return time.process_time() - before[0], exact_cpu_s(server) - before[1]


async def measure(server: EmbeddedValkey, rounds: int, count: int) -> None:
    """Print the rates and their ratios."""
    redis = connect(server.url)
    store = RedisRuns(redis, SystemClock(), Timing())
    store.start()
    appending = await Appending.on(redis, store)
    events, figures = RUNS * count, []
    for turn in range(rounds + 1):
        ours = await spent(server.pid, lambda: appending.ours(count))
        bare = await spent(server.pid, lambda: appending.bare(count))
        if turn:  # the first warms up
            figures.append((ours, bare))
            rates = " and ".join(f"{events / sum(each):,.0f}" for each in (ours, bare))
            print(f"  round {turn}: {rates} events per CPU second", flush=True)
    await store.close()
    await redis.aclose()
    print(f"appended {spread([events / sum(ours) / 1e3 for ours, _ in figures], 'k')} events per CPU second")
    for what, pick in (("this process", 0), ("Redis", 1)):
        print(f"  of {what} alone: {spread([bare[pick] / ours[pick] for ours, bare in figures])} of a bare XADD")
    print(f"events per core / bare XADD = {spread([sum(bare) / sum(ours) for ours, bare in figures])} (goal >= 0.5)")


def main() -> None:
    """Print it."""
    rounds, count = (1, 50) if "--quick" in sys.argv else (9, 300)
    with tempfile.TemporaryDirectory() as name, EmbeddedValkey.start(Path(name)) as server:
        asyncio.run(measure(server, rounds, count))


if __name__ == "__main__":
    main()
