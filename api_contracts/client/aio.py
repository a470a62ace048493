"""The client for asyncio: the same verbs as `Client`, awaited. Publishing blocks, so it happens in a thread."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api_contracts import keys
from api_contracts.client.connections import pool_of
from api_contracts.client.damage import named
from api_contracts.client.facets import AsyncBatch, AsyncChat, AsyncCite
from api_contracts.client.publisher import Publisher
from api_contracts.client.results import SqlResults, rows_of
from api_contracts.client.retrying import TELLING, Retried, is_over, retried, retry_of
from api_contracts.client.scripts import ScriptCall, signal_call
from api_contracts.client.settings import ClientSettings
from api_contracts.client.speaking import AsyncStt
from api_contracts.client.submission import Cursor, ours_in, result_in, submission
from api_contracts.client.talking import AsyncConversations
from api_contracts.failure import RunConflict, RunDamaged, RunNotFound
from api_contracts.names import Kind
from api_contracts.runs import Event, Request, Result, SignalType
from api_contracts.signals import checked_signal, verdict
from api_contracts.vocabulary import typed_result

_BLOCK_S = 1.0
_PAUSE_S = 0.5
_PAGE = 500
_LAST = 16
_TOLD_SOON_S = 0.1


class AsyncClient:
    """A producer's view of the service, on one event loop."""

    def __init__(self, settings: ClientSettings | None = None, **given: Any) -> None:
        self.settings = settings or ClientSettings(**given)
        # A pool that is used up makes callers wait, instead of failing them.
        pool = pool_of(self.settings.redis_url, timeout=None, socket_timeout=_BLOCK_S + 5, socket_connect_timeout=5)
        self._redis = Redis.from_pool(pool)
        self._lines = pool
        self._publisher = Publisher(self.settings.broker, self.settings.signing)
        self._sql = SqlResults(self.settings.database_url) if self.settings.database_url else None
        self.chat = AsyncChat(self)
        self.stt = AsyncStt(self)
        self.batch = AsyncBatch(self)
        self.conversations = AsyncConversations(self)
        self.cite = AsyncCite(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._publisher.close)
        await self._redis.aclose()
        if self._sql:
            self._sql.close()

    async def follow(
        self, run_id: str, after: int = 0, *, timeout_s: float | None = None, wait_s: float = 5.0
    ) -> AsyncIterator[Event]:
        """See `Client.follow`."""
        cursor = Cursor(run_id, after)
        loop = asyncio.get_running_loop()
        end = float("inf") if timeout_s is None else loop.time() + timeout_s
        appears = loop.time() + wait_s
        while not cursor.ended:
            events = cursor.take(await self._read(cursor))
            for event in events:
                yield event
            if cursor.ended and not await self._is_over(run_id, cursor.seq):
                cursor.ended = False
            if cursor.stuck:
                await asyncio.sleep(_PAUSE_S)
            if not events and loop.time() > appears and not await self._redis.exists(cursor.key):
                raise RunNotFound(run_id)
            if not cursor.ended and loop.time() > end:
                raise TimeoutError(f"run {run_id} has not ended after {timeout_s} s")

    async def result(self, run_id: str, *, timeout_s: float | None = None) -> Result:
        """See `Client.result`."""
        with named():
            last = await self._redis.xrevrange(keys.events(keys.check_run_id(run_id)), count=_LAST)
        if not last:
            return await self._stored(run_id)
        event = next(iter(ours_in(last)), None)
        if event is None or not event.terminal or not await self._is_over(run_id, event.seq):
            async for later in self.follow(run_id, event.seq if event else 0, timeout_s=timeout_s):
                event = later
        if self._sql and (row := await self._sql.aget(run_id)):
            return typed_result(row)
        if event is None:
            raise RunNotFound(run_id)
        result, number = result_in(event)
        if result is None:
            text = await self._redis.get(keys.blob(run_id, number or 0))
            if text is None:
                raise RunNotFound(run_id)
            result = typed_result(json.loads(text))
        return result

    async def signal(
        self, run_id: str, kind: SignalType, data: Mapping[str, Any] | None = None, signal_id: str = ""
    ) -> bool:
        """See `Client.signal`."""
        keys.check_run_id(run_id)
        checked_signal(kind, data := {} if data is None else data, signal_id)
        reply = await self._script(signal_call(run_id, kind, data, signal_id, ttl_s=self.settings.live_ttl_s))
        if reply == "missing":
            raise RunNotFound(run_id)
        if reply == "woken":
            await asyncio.to_thread(self._publisher.wake, run_id)
        return reply != "finished"

    async def cancel(self, run_id: str, reason: str = "", *, by: str = "") -> bool:
        """See `Client.cancel`."""
        return await self.signal(run_id, "cancel", {"reason": reason} | ({"by": by} if by else {}))

    async def interrupt(self, run_id: str, reason: str = "", *, by: str = "") -> bool:
        """See `Client.interrupt`."""
        return await self.signal(run_id, "interrupt", {"reason": reason} | ({"by": by} if by else {}))

    async def approve(self, run_id: str, call_id: str, reason: str = "", *, by: str = "") -> bool:
        """See `Client.approve`."""
        return await self.signal(run_id, "approve", verdict(call_id, reason, by))

    async def reject(self, run_id: str, call_id: str, reason: str = "", *, by: str = "") -> bool:
        """See `Client.reject`."""
        return await self.signal(run_id, "reject", verdict(call_id, reason, by))

    async def retry(self, run_id: str, reason: str = "", *, by: str = "", wait_s: float = 5.0) -> Retried:
        """See `Client.retry`."""
        call = retry_of(run_id, by, reason, ttl_s=self.settings.live_ttl_s)
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_s
        while (reply := await self._script(call)) == TELLING and loop.time() < end:  # noqa: ASYNC110 - it is in Redis
            await asyncio.sleep(_TOLD_SOON_S)
        remembered = reply == "missing" and self._sql is not None and await self._sql.aget(run_id) is not None
        said = retried(run_id, reply, remembered=remembered)
        if said != "running":
            await asyncio.to_thread(self._publisher.wake, run_id)
        return said

    async def _is_over(self, run_id: str, seq: int) -> bool:
        return is_over(await self._redis.hmget(keys.lease(run_id), ["seq", "status"]), seq)

    async def _submit(self, kind: Kind, request: Request, run_id: str | None, options: dict[str, Any]) -> str:
        made = submission(kind, request, run_id, self.settings)
        said = await self._script(made.script)
        if said == "conflict":
            raise RunConflict(made.run_id)
        if said == "damaged":
            raise RunDamaged
        await asyncio.to_thread(self._publisher.publish, made, options)
        return made.run_id

    def _rows(self) -> SqlResults:
        return rows_of(self._sql)

    async def _stored(self, run_id: str) -> Result:
        row = await self._sql.aget(run_id) if self._sql else None
        if row is None:
            raise RunNotFound(run_id)
        return typed_result(row)

    async def _read(self, cursor: Cursor) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.outage_s
        while True:
            try:
                with named():
                    return await self._redis.xread(cursor.position, count=_PAGE, block=int(_BLOCK_S * 1000))
            except (RedisConnectionError, RedisTimeoutError):
                if loop.time() > end:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def _script(self, call: ScriptCall) -> str:
        with named():
            (reply,) = await self._lines.converse([call.spelled()])
            if isinstance(reply, NoScriptError):
                (reply,) = await self._lines.converse([call.spelled(whole=True)])
            if isinstance(reply, Exception):
                raise reply
        return str(reply.decode())
