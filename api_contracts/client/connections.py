"""Connections to Redis that say it when they were hung up on, whatever loop they are on.

uvloop raises a bare RuntimeError for a transport that is closed, and redis-py passes it on: whoever waits for Redis to
come back would take it for a defect, and end. And a connection that was reset while it lay in the pool is not noticed
by redis-py, which looks for an end of the stream only: each of them would fail one command.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

try:
    import hiredis
except ImportError:  # it comes with the worker (docs/decisions/0006); whoever only enqueues has little to pack
    hiredis = None  # type: ignore[assignment]

Command = tuple[str | int | bytes, ...]

_READ_BYTES = 65536
_NOT_WHOLE = object()


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

    async def converse(self, commands: Sequence[Command]) -> list[Any]:
        """See `Pool.converse`."""
        packed = b"".join(map(_packed, commands))
        try:
            async with asyncio.timeout(self.socket_timeout):
                return await self._exchanged(packed, len(commands))
        except TimeoutError as exc:
            raise RedisTimeoutError("Redis did not answer in time") from exc

    async def _exchanged(self, packed: bytes, count: int) -> list[Any]:
        try:
            if self._writer is None:
                raise RedisConnectionError("the connection was closed")
            self._writer.write(packed)
            await self._writer.drain()
            return await (self._replies(count) if hiredis else self._replies_one_by_one(count))
        except BaseException as exc:
            await self.disconnect(nowait=True)  # a reply that nobody took would be the next one's
            if isinstance(exc, OSError | RuntimeError) and not isinstance(exc, TimeoutError):
                raise RedisConnectionError(f"the connection broke: {type(exc).__name__}") from exc
            raise

    async def _replies(self, count: int) -> list[Any]:
        """Read all of them as they come: redis-py asks for each by itself, through five coroutines."""
        if self._reader is None:
            raise RedisConnectionError("the connection was closed")
        parser = hiredis.Reader(InvalidResponse, self._parser.parse_error, notEnoughData=_NOT_WHOLE)
        replies: list[Any] = []
        while len(replies) < count:
            if not (data := await self._reader.read(_READ_BYTES)):
                raise RedisConnectionError("the connection was closed by the server")
            parser.feed(data)
            while (reply := parser.gets()) is not _NOT_WHOLE:
                if isinstance(reply, RedisConnectionError):  # it is loading, or shutting down
                    raise reply
                if not isinstance(reply, hiredis.PushNotification):
                    replies.append(reply)
        if len(replies) > count:
            raise InvalidResponse("Redis answered what nobody asked")
        return replies

    async def _replies_one_by_one(self, count: int) -> list[Any]:
        return [await self._reply() for _ in range(count)]

    async def _reply(self) -> Any:
        try:
            return await super().read_response(timeout=math.inf)  # the conversation has its own limit
        except ResponseError as exc:
            return exc


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


class Pool(BlockingConnectionPool):
    """Has callers wait when it is used up."""

    async def converse(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together; return their replies as Redis gave them, an exception where it refused one.

        Raise `ConnectionError` or `TimeoutError` of redis-py when the line breaks, or `socket_timeout` is over. With
        redis-py's own pipeline each sending is a task and each reply a timer: twice the CPU of all the rest.
        """
        connection = await self._taken()
        try:
            return await connection.converse(commands)
        finally:
            await self.release(connection)

    async def _taken(self) -> _Frank:
        """Return a connection that works. A free one needs none of redis-py's waiting, which costs half a trip."""
        connection: _Frank
        if not self.can_get_connection():
            connection = await self.get_connection()  # type: ignore[no-untyped-call]
            return connection
        connection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection


def pool_of(url: str, **options: Any) -> Pool:
    """Return a pool of such connections. What the url says goes before `options` (those of redis-py).

    Raise ValueError for a url that is none.
    """
    said = {**options, **parse_url(url)}
    said["connection_class"] = _OURS[said.get("connection_class", Connection)]
    return Pool(**said)


def _spelled(command: tuple[Any, ...]) -> bytes:
    """Return a command as it goes over the line (RESP: an array of bulk strings)."""
    parts = [b"*%d\r\n" % len(command)]
    for each in command:
        value = each if isinstance(each, bytes) else str(each).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


_packed: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command if hiredis else _spelled


@contextmanager
def _hung_up() -> Iterator[None]:
    try:
        yield
    except RuntimeError as exc:
        raise RedisConnectionError(f"the connection was closed: {exc}") from exc
