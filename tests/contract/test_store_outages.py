"""A Redis that is away, full, or back again: callers hear `StoreUnavailable`, and nothing is half done."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from api_contracts import keys
from tests.contract.run_store.worlds import TIMING, RedisWorld, given_held_run, given_run, queued, redis_world, said
from tests.servers import kill
from workers.adapters.redis.store import RedisRuns
from workers.cli.embedded import EmbeddedValkey
from workers.ports import Granted, Lease, StoreUnavailable

Call = Callable[[RedisRuns, str], Awaitable[Any]]

WRITES: dict[str, Call] = {
    "submit": lambda store, run_id: store.submit(run_id + "-2", queued(), None),
    "acquire": lambda store, run_id: store.acquire(run_id, "ann", ""),
    "renew": lambda store, run_id: store.renew([Lease(run_id, 1, "ann")]),
    "release": lambda store, run_id: store.release(Lease(run_id, 1, "ann")),
    "announced": lambda store, run_id: store.announced(run_id),
    "put_blob": lambda store, run_id: store.put_blob(run_id, 1, "value"),
    "signal": lambda store, run_id: store.signal(run_id, "cancel", {}, "1"),
    "claim_due": lambda store, run_id: store.claim_due(10),
}
READS: dict[str, Call] = {
    "read": lambda store, run_id: store.read(run_id),
    "blob": lambda store, run_id: store.blob(run_id, 0),
}


@pytest.fixture
async def world(own_valkey: EmbeddedValkey) -> AsyncIterator[RedisWorld]:
    """A world on a server that the test may harm."""
    world = redis_world("valkey", lambda: own_valkey.url)
    yield world
    if not own_valkey.running:
        own_valkey.restart()
        for client in world.clients:
            await client.connection_pool.disconnect()
    await world.close()


@pytest.mark.requirement("RUN-21")
@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_every_call_to_a_server_that_is_away_says_so(
    world: RedisWorld, own_valkey: EmbeddedValkey, name: str
) -> None:
    run_id = await given_run(world)
    kill(own_valkey)
    with pytest.raises(StoreUnavailable):
        await (WRITES | READS)[name](world.store, run_id)


@pytest.mark.parametrize("name", WRITES)
async def test_every_write_to_a_full_server_is_refused_and_works_once_there_is_room(
    world: RedisWorld, name: str
) -> None:
    run_id = await given_run(world)
    if name in ("renew", "release"):
        await world.store.acquire(run_id, "ann", "")
    if name == "announced":
        assert isinstance(await world.store.acquire(run_id, "ann", ""), Granted)
        await world.store.append(Lease(run_id, 1, "ann"), 1, [queued()], terminal="completed")
    await world.pass_time(TIMING.lost_message_s)
    before = await world.redis.hgetall(keys.lease(run_id))
    await world.redis.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable):
        await WRITES[name](world.store, run_id)
    assert await world.redis.hgetall(keys.lease(run_id)) == before
    await world.redis.config_set("maxmemory", 0)
    await WRITES[name](world.store, run_id)


@pytest.mark.requirement("RUN-21")
async def test_leases_and_journals_are_the_same_after_the_server_was_killed(
    world: RedisWorld, own_valkey: EmbeddedValkey
) -> None:
    await world.redis.config_set("appendfsync", "always")
    run_id, granted = await given_held_run(world, "ann")
    kill(own_valkey)
    own_valkey.restart()
    for client in world.clients:
        await client.connection_pool.disconnect()
    assert await world.store.renew([granted.lease]) == set()
    assert await said(world, run_id) == []
