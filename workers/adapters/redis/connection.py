"""How we connect to Redis, and what its errors mean to us."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from api_contracts.client.connections import Command, Pool, pool_of
from api_contracts.client.damage import is_damage
from workers.ports import KeysDamaged, StoreUnavailable

TRANSIENT = (
    exceptions.ConnectionError,  # includes BusyLoadingError
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,  # a replica after a failover
    exceptions.OutOfMemoryError,
    exceptions.NoScriptError,  # forgotten again between loading and running
    OSError,
)

COMMAND_TIMEOUT_S = 5.0
"""A command that takes longer means an outage: every script here takes microseconds."""


def connect(url: str, *, max_connections: int = 32, timeout_s: float = COMMAND_TIMEOUT_S) -> Redis:
    """Return a client that fails at once when Redis is away: whoever calls knows whether and when to try again.

    A command waits for one of the connections when all are busy: many runs starting at once are no outage.
    """
    pool = pool_of(
        url,
        max_connections=max_connections,
        timeout=COMMAND_TIMEOUT_S,
        socket_timeout=timeout_s,
        socket_connect_timeout=COMMAND_TIMEOUT_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


async def converse(redis: Redis, commands: Sequence[Command]) -> list[Any]:
    """Send commands together; see `Pool.converse`."""
    if isinstance(pool := redis.connection_pool, Pool):
        return await pool.converse(commands)
    pipe = redis.pipeline(transaction=False)  # not of `connect`: fakeredis has no lines
    for command in commands:
        pipe.execute_command(*command)
    replies: list[Any] = await pipe.execute(raise_on_error=False)
    return replies


async def answers(redis: Redis) -> str:
    """Return what may be said of a server that takes our commands; raise `StoreUnavailable`."""
    with mapped():
        found = await redis.info("replication")
    if found.get("role") != "master":
        raise StoreUnavailable(f"Redis answers, but as a {found.get('role')}: it takes no writes")
    return "answers"


@contextmanager
def mapped() -> Iterator[None]:
    """Turn Redis being away into `StoreUnavailable`, a key of a wrong type into `KeysDamaged`; foreign exceptions stop
    here."""
    try:
        yield
    except TRANSIENT as exc:
        raise StoreUnavailable(f"Redis: {type(exc).__name__}") from exc
    except exceptions.ResponseError as exc:
        if is_damage(exc):
            raise KeysDamaged from exc
        raise
