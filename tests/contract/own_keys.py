"""For suites over adapters that keep hashes of their own in Redis: a client of each server, and the keys cleared."""

import os
from collections.abc import Collection

import fakeredis
import pytest
from redis.asyncio import Redis

from tests.contract.run_store.worlds import REDIS_SERVERS
from tests.servers import given_redis
from workers.adapters.redis.connection import connect

__all__ = ["REDIS_SERVERS", "clear", "client"]


def client(request: pytest.FixtureRequest) -> Redis:
    """Return a client of the server of `REDIS_SERVERS` that the fixture's parameter names."""
    if request.param == "fakeredis":
        return fakeredis.FakeAsyncRedis()
    given = request.param == "given"
    return connect(str(given_redis(os.environ) if given else request.getfixturevalue("shared_valkey").url))


async def clear(redis: Redis, keys: Collection[str]) -> None:
    """Delete the keys and close the client; fail where one of them would have lived for ever (RUN-11)."""
    lasting = [key for key in keys if await redis.pttl(key) == -1]
    await redis.delete(*keys)
    await redis.aclose()
    assert not lasting, "a key would live for ever"
