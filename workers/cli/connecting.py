"""The running service, for commands: its client, and its register of runs. What goes wrong becomes one line."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from redis.exceptions import RedisError

from api_contracts.client import Client
from api_contracts.client.results import BadDatabaseUrl, MissingExtra, ResultsUnavailable
from api_contracts.failure import RetryRefused, RunNotFound, SignalRefused
from api_contracts.keys import BadRunId
from workers.adapters.redis.connection import connect
from workers.adapters.redis.register import RedisRegister
from workers.cli.exits import Exit, Stop
from workers.cli.stack import running_database, running_redis
from workers.ports import StoreUnavailable

AWAY = "is the service up? `fireworks-workers doctor` looks at each part"


@contextmanager
def client() -> Iterator[Client]:
    """Yield a client; what a person can do something about becomes one line (`Stop`)."""
    with mapped(), Client(redis_url=running_redis(), database_url=running_database()) as connected:
        yield connected


@asynccontextmanager
async def register() -> AsyncIterator[RedisRegister]:
    """Yield what says how runs stand. Raises `Stop` when Redis is away."""
    redis = connect(running_redis(), max_connections=4)
    try:
        yield RedisRegister(redis)
    except StoreUnavailable as exc:
        raise Stop(Exit.FAILED, f"{exc} does not answer: {AWAY}") from None
    finally:
        await redis.aclose()


@contextmanager
def mapped() -> Iterator[None]:
    """Turn what the client raises into `Stop`."""
    try:
        yield
    except RunNotFound as exc:
        raise Stop(Exit.UNKNOWN, str(exc)) from None
    except (BadRunId, SignalRefused) as exc:
        raise Stop(Exit.USAGE, str(exc)) from None
    except RetryRefused as exc:
        raise Stop(Exit.REFUSED, str(exc)) from None
    except ResultsUnavailable as exc:
        raise Stop(Exit.FAILED, f"SQL does not answer ({exc}): is FW_DATABASE_URL right? {AWAY}") from None
    except (BadDatabaseUrl, MissingExtra) as exc:
        raise Stop(Exit.FAILED, str(exc)) from None
    except RedisError as exc:
        raise Stop(Exit.FAILED, f"Redis does not answer ({type(exc).__name__}): {AWAY}") from None
