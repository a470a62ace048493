"""One world per implementation of the store: how to get one, how to let time pass in it, what it has written down."""

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import fakeredis
from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.keys import new_run_id
from api_contracts.names import QUEUES
from api_contracts.runs import EventData, RunQueued
from tests.forgetting import remembered
from tests.servers import given_redis
from workers.adapters.clock import SystemClock
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.runs import MemoryRuns
from workers.adapters.redis.connection import connect
from workers.adapters.redis.queues import RedisQueues
from workers.adapters.redis.reader import StreamReader
from workers.adapters.redis.register import RedisRegister
from workers.adapters.redis.store import RedisRuns
from workers.adapters.redis.streams import RedisAudio, RedisInbox
from workers.ports import Claimed, Granted, Inbox, Queues, RunStore
from workers.ports.register import LiveRuns
from workers.settings import Timing

# Leases so long that none ends by itself within a test: time passes when the test says so.
TIMING = Timing(lease_s=30, renew_s=9, lost_message_s=60, longest_look_s=300, live_ttl_s=900, retention_s=120)

REDIS_SERVERS = ("fakeredis", "valkey", *(("given",) if given_redis(os.environ) else ()))
"""`valkey` is the embedded server, `given` the one of FW_TEST_REDIS_URL."""

# Short, because fakeredis' reads cannot be cancelled while they block.
BLOCK_MS = 50

# More than any test leaves behind on a shared server.
MANY = 10_000


class Said(EventData):
    """An event of no particular kind."""

    TYPE = "test.said"
    text: str


class World(Protocol):
    """A store, its inbox and its time."""

    @property
    def store(self) -> RunStore:
        """The store of the process that the test plays."""
        ...

    @property
    def inbox(self) -> Inbox:
        """The inbox of the same process."""
        ...

    @property
    def queues(self) -> Queues:
        """What waits for workers."""
        ...

    @property
    def register(self) -> LiveRuns:
        """What an operator sees."""
        ...

    def new_run_id(self, ending: str = "") -> str:
        """Return an id that nobody has used; the world forgets its run at the end."""
        ...

    async def another_process(self) -> RunStore:
        """Return a second store over the same runs."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for the runs of this world."""
        ...

    async def next_look(self, run_id: str) -> float | None:
        """Return in how many seconds somebody is to look at the run; None if nobody will."""
        ...

    async def look_now(self, run_id: str) -> None:
        """Have the index say that the run is due, whatever its lease says."""
        ...

    async def remember(self, run_id: str) -> Callable[[], Awaitable[None]]:
        """Return what has the store forget all that it is told about the run from now on."""
        ...

    async def close(self) -> None:
        """End what was started; fail if a key would live for ever."""
        ...


class WalkingClock(ManualClock):
    """One that goes on by itself too, as a server's does: beside it a slow machine makes no difference."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def now(self) -> float:
        return super().now() + time.monotonic() - self._began


class MemoryWorld:
    """Runs in memory, under a clock that the test moves."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.store = self.inbox = self.queues = self.register = MemoryRuns(self.clock, TIMING)

    def new_run_id(self, ending: str = "") -> str:
        return new_run_id() + ending

    async def another_process(self) -> RunStore:
        return self.store

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def next_look(self, run_id: str) -> float | None:
        when = self.store._due.get(run_id)
        return None if when is None else when - self.clock.now()

    async def look_now(self, run_id: str) -> None:
        self.store._due[run_id] = self.clock.now()

    async def remember(self, run_id: str) -> Callable[[], Awaitable[None]]:
        before = remembered(self.store)

        async def forget() -> None:
            before()

        return forget

    async def close(self) -> None:
        return None


class RedisWorld:
    """Runs on a Redis whose clock nobody can move: time passes by moving what the runs have noted into the past."""

    def __init__(self, client: Callable[[], Redis]) -> None:
        self._client = client
        self.clients: list[Redis] = []
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._run_ids: list[str] = []
        self.redis: Any = self.new_client()  # a plain client, as anyone might use it
        self.store = self.store_with(TIMING)
        reader = StreamReader(self.new_client(), self.redis, SystemClock(), block_ms=BLOCK_MS)
        reader.start()
        self._closing.append(reader.close)
        self.inbox = RedisInbox(reader, self.redis)
        self.audio = RedisAudio(reader, self.redis, lambda _: None)
        self.queues = RedisQueues(self.redis)
        self.register = RedisRegister(self.redis)

    def new_client(self) -> Redis:
        """Return another connection to the same server; the world closes it."""
        self.clients.append(self._client())
        return self.clients[-1]

    def store_with(self, timing: Timing) -> RedisRuns:
        """Return a started store of another timing over the same runs."""
        store = RedisRuns(self.new_client(), SystemClock(), timing)
        store.start()
        self._closing.append(store.close)
        return store

    def new_run_id(self, ending: str = "") -> str:
        self._run_ids.append(new_run_id() + ending)
        return self._run_ids[-1]

    async def another_process(self) -> RunStore:
        return self.store_with(TIMING)

    async def pass_time(self, seconds: float) -> None:
        by = -int(seconds * 1000)
        for run_id in self._run_ids:
            if await self.redis.exists(keys.lease(run_id)):
                await self.redis.hincrby(keys.lease(run_id), "until", by)
            if await self.redis.hexists(keys.lease(run_id), "late_at"):
                await self.redis.hincrby(keys.lease(run_id), "late_at", by)
            await self.redis.zadd(keys.due(run_id[-1]), {run_id: by}, xx=True, incr=True)
            for queue in QUEUES:
                await self.redis.zadd(keys.waiting(run_id[-1], queue), {run_id: by}, xx=True, incr=True)

    async def next_look(self, run_id: str) -> float | None:
        score = await self.redis.zscore(keys.due(run_id[-1]), run_id)
        seconds, micros = await self.redis.time()
        return None if score is None else score / 1000 - seconds - micros / 1e6

    async def look_now(self, run_id: str) -> None:
        await self.redis.zadd(keys.due(run_id[-1]), {run_id: 0})

    async def remember(self, run_id: str) -> Callable[[], Awaitable[None]]:
        kept = {key: await self.redis.dump(key) for key in await self.keys_of(run_id)}
        ttls = {key: await self.redis.pttl(key) for key in kept}
        sets = [keys.due(run_id[-1]), *(keys.waiting(run_id[-1], queue) for queue in QUEUES)]
        scores = {key: await self.redis.zscore(key, run_id) for key in sets}

        async def forget() -> None:
            for key in set(await self.keys_of(run_id)) - set(kept):
                await self.redis.delete(key)
            for key, value in kept.items():
                await self.redis.restore(key, ttls[key], value, replace=True)
            for key, score in scores.items():
                await (self.redis.zrem(key, run_id) if score is None else self.redis.zadd(key, {run_id: score}))

        return forget

    async def close(self) -> None:
        for end in self._closing:
            await end()
        endless = [key for run_id in self._run_ids for key in await self._forget(run_id)]
        for client in self.clients:
            await client.aclose()
        assert endless == [], f"keys without time-to-live: {endless}"

    async def keys_of(self, run_id: str) -> list[bytes]:
        """Return every key of the run, whoever wrote it."""
        return sorted([key async for key in self.redis.scan_iter(match=f"fw:*:{run_id}:*", count=1000)])

    async def _forget(self, run_id: str) -> list[bytes]:
        """Delete the run; return which of its keys would have stayed for ever."""
        found = await self.keys_of(run_id)
        endless = [key for key in found if await self.redis.pttl(key) == -1]
        if found:
            await self.redis.delete(*found)
        await self.redis.zrem(keys.due(run_id[-1]), run_id)
        for queue in QUEUES:
            waiting = keys.waiting(run_id[-1], queue)
            await self.redis.zrem(waiting, run_id)
            endless += [waiting] if await self.redis.pttl(waiting) == -1 else []
        return endless


def redis_world(server: str, url: Callable[[], str | None]) -> RedisWorld:
    """Return a world on one of REDIS_SERVERS; `url` is asked for when it has one."""
    if server == "fakeredis":
        memory = fakeredis.FakeServer()
        return RedisWorld(lambda: fakeredis.FakeAsyncRedis(server=memory))
    where = str(url())
    return RedisWorld(lambda: connect(where))


def queued(digest: str = "d1", **more: Any) -> RunQueued:
    """Return the first event of a run whose request has this digest."""
    return RunQueued.model_validate({"kind": "chat", "digest": digest, "request": {"messages": []}, **more})


async def given_run(world: World) -> str:
    """Return the id of a run that was just submitted."""
    run_id = world.new_run_id()
    assert await world.store.submit(run_id, queued(), None) == "created"
    return run_id


async def given_held_run(world: World, owner: str = "ann", signature: str = "") -> tuple[str, Granted]:
    """Return a fresh run and the lease that `owner` has on it."""
    run_id = await given_run(world)
    granted = await world.store.acquire(run_id, owner, signature)
    assert isinstance(granted, Granted)
    return run_id, granted


async def claims(store: RunStore, *mine: str) -> list[Claimed]:
    """Return what a sweep claims of these runs; on a shared server there may be others."""
    return [claimed for claimed in await store.claim_due(MANY) if claimed.run_id in mine]


async def said(world: World, run_id: str) -> list[str]:
    """Return the texts in the journal, and check that it is dense."""
    journal = await world.store.read(run_id)
    assert [event.seq for event in journal] == list(range(1, len(journal) + 1))
    return [event.data["text"] for event in journal if event.type == Said.TYPE]
