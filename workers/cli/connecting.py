"""The client of the running service, for commands."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from api_contracts.client import Client
from api_contracts.failure import RunNotFound
from api_contracts.keys import BadRunId
from workers.cli.stack import running_database, running_redis
from workers.errors import Misconfigured


@contextmanager
def client() -> Iterator[Client]:
    """Yield a client; what a person can do something about becomes one line."""
    with Client(redis_url=running_redis(), database_url=running_database()) as connected:
        try:
            yield connected
        except (RunNotFound, BadRunId) as exc:
            raise Misconfigured(str(exc)) from None
        except RedisError as exc:
            raise Misconfigured(
                f"Redis does not answer ({type(exc).__name__}): is the service up? try `doctor`"
            ) from exc
