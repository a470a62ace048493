"""The client for asyncio: the same verbs as `Client`, awaited. Publishing blocks, so it happens in a thread."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api_contracts import keys
from api_contracts.chat import ChatRequest, ChatResult
from api_contracts.client.publisher import Publisher
from api_contracts.client.results import SqlResults
from api_contracts.client.scripts import ScriptCall, signal_call
from api_contracts.client.settings import ClientSettings
from api_contracts.client.submission import Cursor, chat_request, result_in, submission
from api_contracts.failure import RunConflict, RunNotFound
from api_contracts.runs import Event, SignalType

_BLOCK_S = 1.0
_PAUSE_S = 0.5
_PAGE = 500


class AsyncClient:
    """A producer's view of the service, on one event loop."""

    def __init__(self, settings: ClientSettings | None = None, **given: Any) -> None:
        self.settings = settings or ClientSettings(**given)
        self._redis = Redis.from_url(self.settings.redis_url, socket_timeout=_BLOCK_S + 5, socket_connect_timeout=5)
        self._publisher = Publisher(self.settings.broker)
        self._sql = SqlResults(self.settings.database_url) if self.settings.database_url else None
        self.chat = AsyncChat(self)

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
            if not events and loop.time() > appears and not await self._redis.exists(cursor.key):
                raise RunNotFound(run_id)
            if not cursor.ended and loop.time() > end:
                raise TimeoutError(f"run {run_id} has not ended after {timeout_s} s")

    async def result(self, run_id: str, *, timeout_s: float | None = None) -> ChatResult:
        """See `Client.result`."""
        last = await self._redis.xrevrange(keys.events(keys.check_run_id(run_id)), count=1)
        if not last:
            return await self._stored(run_id)
        event = Event.from_fields(last[0][1] or {})
        if not event.terminal:
            async for later in self.follow(run_id, event.seq, timeout_s=timeout_s):
                event = later
        if self._sql and (row := await self._sql.aget(run_id)):
            return ChatResult.model_validate(row)
        result, number = result_in(event)
        if result is None:
            text = await self._redis.get(keys.blob(run_id, number or 0))
            if text is None:
                raise RunNotFound(run_id)
            result = ChatResult.model_validate_json(text)
        return result

    async def signal(
        self, run_id: str, kind: SignalType, data: Mapping[str, Any] | None = None, signal_id: str = ""
    ) -> bool:
        """See `Client.signal`."""
        keys.check_run_id(run_id)
        reply = await self._script(signal_call(run_id, kind, data or {}, signal_id, ttl_s=self.settings.live_ttl_s))
        if reply == "missing":
            raise RunNotFound(run_id)
        return reply == "sent"

    async def cancel(self, run_id: str, reason: str = "") -> bool:
        """See `Client.cancel`."""
        return await self.signal(run_id, "cancel", {"reason": reason})

    async def _submit(self, request: ChatRequest, run_id: str | None, options: dict[str, Any]) -> str:
        made = submission("chat", request, run_id, self.settings)
        if await self._script(made.script) == "conflict":
            raise RunConflict(made.run_id)
        await asyncio.to_thread(self._publisher.publish, made, options)
        return made.run_id

    async def _stored(self, run_id: str) -> ChatResult:
        row = await self._sql.aget(run_id) if self._sql else None
        if row is None:
            raise RunNotFound(run_id)
        return ChatResult.model_validate(row)

    async def _read(self, cursor: Cursor) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.outage_s
        while True:
            try:
                return await self._redis.xread(cursor.position, count=_PAGE, block=int(_BLOCK_S * 1000))
            except (RedisConnectionError, RedisTimeoutError):
                if loop.time() > end:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def _script(self, call: ScriptCall) -> str:
        reply: Any
        try:
            script = self._redis.register_script(call.script)
            reply = await self._redis.evalsha(script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            reply = await self._redis.eval(call.script, len(call.keys), *call.keys, *call.args)
        return str(reply.decode())


class AsyncChat:
    """`client.chat`, awaited."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def submit(
        self,
        request: ChatRequest | Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        link: Any = None,
        link_error: Any = None,
        **fields: Any,
    ) -> str:
        """See `Chat.submit`."""
        options = {name: value for name, value in (("link", link), ("link_error", link_error)) if value is not None}
        return await self._client._submit(chat_request(request, fields), run_id, options)  # noqa: SLF001

    async def complete(
        self, request: ChatRequest | Mapping[str, Any] | None = None, *, timeout_s: float | None = None, **fields: Any
    ) -> ChatResult:
        """See `Chat.complete`."""
        return await self._client.result(await self.submit(request, **fields), timeout_s=timeout_s)
