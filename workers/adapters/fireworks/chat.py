"""The port `ChatModel` over the provider's HTTP: one session per process, every answer streamed.

It knows connections, deadlines and keys; what the chunks say is the assembler's business.
"""

import asyncio
import io
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import aiohttp
import orjson

from api_contracts.failure import Failure
from workers.adapters.fireworks.codec import Chunk, decoder_for
from workers.adapters.fireworks.deadlines import TimedReader, Timeouts, timed_out, transport_failure
from workers.adapters.fireworks.errors import failure_of
from workers.adapters.fireworks.limits import word_of
from workers.adapters.fireworks.timing import connecting
from workers.core.chat.account import server_times
from workers.core.limits.meters import Word
from workers.ports import AnswerTimes, Lull, ProviderFailed

_ERROR_BODY_BYTES = 64 * 1024
_MOST_BYTES = 128 * 1024 * 1024
"""Of one answer on the wire. A token's chunk has about 300 bytes, so this is 128 answers of 3 000 tokens (WIRE 1.2)."""

_USAGE = {"include_usage": True}
_DEFAULTS = Timeouts()
_CLOSED = Failure(
    code="provider_unreachable", category="transport", retryable=True, at_fault="us",
    message="this process is shutting down and asks the provider nothing more",
)  # fmt: skip


class FireworksChat:
    """Talks to `<base_url>/chat/completions` (WIRE 1).

    `key_of` turns the name of a credential, or None for the process's own, into the key, and raises KeyError for a
    name that it does not know. `connections` bounds the open connections; 0 means no bound, because what bounds the
    calls is the number of runs. `heard` is told what the head of an answer says of the limits. The session is made on
    the loop of the first call; `close` it on the same loop.
    """

    def __init__(
        self,
        base_url: str,
        key_of: Callable[[str | None], str],
        *,
        timeouts: Timeouts = _DEFAULTS,
        connections: int = 0,
        most_bytes: int = _MOST_BYTES,
        clock: Callable[[], float] = time.time,
        heard: Callable[[str | None, str, Word], None] = lambda *_: None,
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._key_of = key_of
        self._timeouts = timeouts
        self._connections = connections
        self._clock = clock
        self._heard = heard
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._most_bytes = most_bytes

    async def stream(
        self, body: Mapping[str, Any], *, credential: str | None, request_id: str, times: AnswerTimes | None = None,
        lull: Lull | None = None,
    ) -> AsyncGenerator[list[Chunk], None]:  # fmt: skip
        """Yield the chunks of each network read. Closing the generator closes the connection at once.

        Raises `ProviderFailed` after the chunks that came before the failure. A stream that just ends is no failure
        here: whether it said all it had to say is for the assembler to judge.
        """
        asked_at = asyncio.get_running_loop().time()
        key = self._key(credential)
        reader = None
        try:
            response = await self._ask(body, key, request_id, asked_at, times or AnswerTimes(), credential)
            reader = TimedReader(response, self._timeouts, asked_at, lull)
            decoder = decoder_for(response.content_type)
            speaking, left = False, self._most_bytes
            while not decoder.done:
                data = await reader.read()
                if (left := left - len(data)) < 0:
                    raise ProviderFailed(_TOO_LARGE)
                chunks = decoder.feed(data) if data else decoder.finish()
                if chunks:
                    speaking = speaking or any(map(_says_something, chunks))
                    reader.complete = reader.complete or _finishes(chunks)
                    reader.heard(speaking=speaking)
                    yield chunks
                if decoder.failure is not None:
                    raise ProviderFailed(_without(key, decoder.failure))
                if not data:
                    return
            await reader.drain()
        finally:
            if reader is not None:
                reader.close()

    async def close(self) -> None:
        """Close every connection; streams under way end with `provider_connection_lost`."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _key(self, credential: str | None) -> str:
        try:
            return self._key_of(credential)
        except KeyError:
            pass  # raised below, so that nothing of the resolver's error travels with it
        raise ProviderFailed(
            Failure(
                code="unknown_credential",
                category="authentication",
                message=f"no key is configured for credential {credential!r}"[:300],
                at_fault="caller" if credential else "us",
            )
        )

    async def _ask(
        self, body: Mapping[str, Any], key: str, request_id: str, asked_at: float, times: AnswerTimes,
        credential: str | None,
    ) -> aiohttp.ClientResponse:  # fmt: skip
        """Return the 200 answer, its body unread."""
        payload = _encoded(body)
        headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "x-request-id": request_id,
        }
        posted_at = time.monotonic()
        got = await self._post(payload, headers, asked_at, times)
        if isinstance(got, Failure):
            raise ProviderFailed(got)
        times.first_byte_s = time.monotonic() - posted_at
        times.server = server_times({name.lower(): value for name, value in got.headers.items()}, "fireworks-")
        if (word := word_of(got.status, got.headers)) is not None:
            self._heard(credential, str(body["model"]), word)
        if got.status == 200:
            return got
        try:
            text = await self._error_body(got, asked_at)
        finally:
            got.close()
        raise ProviderFailed(
            _without(key, failure_of(got.status, got.headers, text, now=self._clock(), dedicated=_is_dedicated(body)))
        )

    async def _post(
        self, payload: bytes, headers: Mapping[str, str], asked_at: float, times: AnswerTimes
    ) -> aiohttp.ClientResponse | Failure:
        """Send the request and wait for the answer's headers.

        Failures are returned, not raised from the exception: aiohttp's hold the request's headers, key included.
        """
        limit, what = min((self._timeouts.first_token_s, "first_token"), (self._timeouts.total_s, "total"))
        try:
            async with asyncio.timeout_at(asked_at + limit):
                return await self._opened().post(
                    self._url,
                    data=io.BytesIO(payload),
                    headers=headers,
                    allow_redirects=False,
                    trace_request_ctx=times,
                )
        except aiohttp.ConnectionTimeoutError:
            return timed_out("connect", self._timeouts.connect_s)
        except TimeoutError:
            return timed_out(what, limit)
        except aiohttp.ClientConnectorError as error:
            return transport_failure("provider_unreachable", error)
        except (aiohttp.ClientError, OSError) as error:
            return transport_failure("provider_connection_lost", error)
        except (ValueError, RuntimeError) as error:
            return _not_sendable(error)

    async def _error_body(self, response: aiohttp.ClientResponse, asked_at: float) -> bytes:
        """Return as much of the body as came in time: the status alone says enough."""
        parts: list[bytes] = []
        left = _ERROR_BODY_BYTES
        try:
            async with asyncio.timeout_at(asked_at + self._timeouts.first_token_s):
                while left > 0 and (part := await response.content.read(left)):
                    parts.append(part)
                    left -= len(part)
        except (aiohttp.ClientError, OSError, RuntimeError):
            pass
        return b"".join(parts)

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ProviderFailed(_CLOSED)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=aiohttp.ClientTimeout(connect=self._timeouts.connect_s),
                cookie_jar=aiohttp.DummyCookieJar(),  # what one credential was told is not sent with another
                headers={"User-Agent": "fireworks-workers"},
                trace_configs=[connecting()],
            )
        return self._session


_TOO_LARGE = Failure(
    code="provider_answer_too_large", category="protocol", at_fault="provider",
    message=f"the provider's answer has over {_MOST_BYTES} bytes and no end",
)  # fmt: skip


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps({**body, "stream": True, "stream_options": _USAGE})
    except TypeError as error:
        failure = _not_sendable(error)
    raise ProviderFailed(failure)


def _not_sendable(error: BaseException) -> Failure:
    return Failure(
        code="request_not_sendable",
        category="bad_request",
        message=f"the request cannot be put on the wire: {type(error).__name__}",
        at_fault="caller" if isinstance(error, TypeError) else "us",
    )


def _without(key: str, failure: Failure) -> Failure:
    """Blank the key in what the provider said, whatever keys look like here."""
    if not key or key not in failure.message:
        return failure
    return failure.model_copy(update={"message": failure.message.replace(key, "[key]")})


def _is_dedicated(body: Mapping[str, Any]) -> bool:
    model = str(body.get("model", ""))
    return "/deployments/" in model or "#" in model


def _choices(chunk: Chunk) -> list[Any]:
    choices = chunk.get("choices")
    return choices if isinstance(choices, list) else []


def _finishes(chunks: list[Chunk]) -> bool:
    for chunk in chunks:
        for choice in chunk.get("choices") or ():
            if type(choice) is dict and choice.get("finish_reason"):
                return True
    return False


def _says_something(chunk: Chunk) -> bool:
    """Whether the chunk has output: the role, or an empty text, does not count."""
    for choice in _choices(chunk):
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict) and any(delta[name] for name in delta if name != "role"):
            return True
    return _finishes([chunk])
