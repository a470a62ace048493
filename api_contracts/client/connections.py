"""Connections to Redis that say it when they were hung up on, whatever loop they are on.

uvloop raises a bare RuntimeError for a transport that is closed, and redis-py passes it on: whoever waits for Redis to
come back would take it for a defect, and end. And a connection that was reset while it lay in the pool is not noticed
by redis-py, which looks for an end of the stream only: each of them would fail one command.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.exceptions import ConnectionError as RedisConnectionError


class _Frank(AbstractConnection):
    """What is added to each of redis-py's connections. Every error of the line is a `ConnectionError` of redis-py."""

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        with _hung_up():
            await super().send_packed_command(command, check_health)

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        with _hung_up():
            return await super().read_response(*args, **kwargs)

    async def can_read(self) -> bool:
        """Raise when the line is dead, besides: the pool connects anew then, and nobody's command fails."""
        if self._writer is None or self._writer.is_closing() or (self._reader and self._reader.exception()):
            raise RedisConnectionError("the connection was closed while nobody used it")
        with _hung_up():
            return await super().can_read()


class TcpConnection(_Frank, Connection):
    """`redis://`"""


class TlsConnection(_Frank, SSLConnection):
    """`rediss://`"""


class SocketConnection(_Frank, UnixDomainSocketConnection):
    """`unix://`"""


_OURS: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: TcpConnection,
    SSLConnection: TlsConnection,
    UnixDomainSocketConnection: SocketConnection,
}


def pool_of(url: str, **options: Any) -> BlockingConnectionPool:
    """Return a pool of such connections, which has callers wait when it is used up. What the url says goes before
    `options` (those of redis-py). Raise ValueError for a url that is none.
    """
    said = {**options, **parse_url(url)}
    said["connection_class"] = _OURS[said.get("connection_class", Connection)]
    return BlockingConnectionPool(**said)


@contextmanager
def _hung_up() -> Iterator[None]:
    try:
        yield
    except RuntimeError as exc:
        raise RedisConnectionError(f"the connection was closed: {exc}") from exc
