"""The worlds that the suite runs in."""

import os
from collections.abc import AsyncIterator

import pytest

from tests.contract.run_store.worlds import REDIS_SERVERS, MemoryWorld, RedisWorld, World, redis_world
from tests.servers import given_redis


@pytest.fixture(params=("memory", *REDIS_SERVERS))
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Each implementation in turn."""
    world: World = MemoryWorld() if request.param == "memory" else _redis_world(request)
    yield world
    await world.close()


@pytest.fixture(params=REDIS_SERVERS)
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisWorld]:
    """Each Redis in turn, for what only a Redis promises."""
    world = _redis_world(request)
    yield world
    await world.close()


def _redis_world(request: pytest.FixtureRequest) -> RedisWorld:
    def url() -> str | None:
        given = request.param == "given"
        return given_redis(os.environ) if given else request.getfixturevalue("shared_valkey").url

    return redis_world(request.param, url)
