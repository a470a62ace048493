"""The port `Transcriber` over the provider's HTTP: a form goes up in pieces, a transcript comes down (WIRE 2.10).

It knows connections, deadlines and keys; what the answer says is `core.stt.files`' business.
"""

import asyncio
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from api_contracts.failure import Failure
from api_contracts.stt_files import FileModel
from workers.adapters.fireworks.deadlines import timed_out, transport_failure
from workers.adapters.fireworks.errors import failure_of
from workers.ports import FileAsked, ProviderFailed

_MOST_BYTES: Final = 128 * 1024 * 1024
"""Of a transcript: a day of speech has about 150 000 words, each with under 300 bytes of details."""
_ERROR_BYTES: Final = 64 * 1024
_PATHS: Final = {"transcribe": "/audio/transcriptions", "translate": "/audio/translations"}


@dataclass(frozen=True, slots=True)
class FileTimeouts:
    """Deadlines in seconds, each over 0."""

    connect_s: float = 10.0
    """From asking to a usable connection, TLS included (WIRE 1.10)."""
    total_s: float = 1800.0
    """From asking to the end of the answer: the wire sets a file no limit of time, and says nothing while it works."""


_DEFAULTS: Final = FileTimeouts()
_CLOSED: Final = Failure(
    code="provider_unreachable", category="transport", retryable=True, at_fault="us",
    message="this process is shutting down and asks the provider nothing more",
)  # fmt: skip
_TOO_LARGE: Final = Failure(
    code="provider_answer_too_large", category="protocol", at_fault="provider",
    message=f"the provider's transcript has over {_MOST_BYTES} bytes",
)  # fmt: skip


class FireworksFiles:
    """Talks to `<url>/audio/transcriptions` and `<url>/audio/translations`; each model has a host of its own.

    `key_of` is as in `FireworksChat`. The session is made on the loop of the first call; `close` it on the same loop.
    """

    def __init__(
        self,
        urls: Mapping[FileModel, str],
        key_of: Callable[[str | None], str],
        *,
        timeouts: FileTimeouts = _DEFAULTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._urls = {model: url.rstrip("/") for model, url in urls.items()}
        self._key_of = key_of
        self._timeouts = timeouts
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def transcribe(self, asked: FileAsked, *, credential: str | None, request_id: str) -> bytes:
        """See the port."""
        key = self._key(credential)
        got = await self._answer(asked, key, request_id)
        if isinstance(got, Failure):
            raise ProviderFailed(_without(key, got))
        return got

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _key(self, credential: str | None) -> str:
        try:
            key = self._key_of(credential)
        except KeyError:
            why = f"no key is configured for credential {credential!r}"
        else:
            if key.isascii() and key.isprintable():
                return key
            why = f"the key of credential {credential!r} cannot be sent: it has other than printable ASCII characters"
        # Raised here, so that nothing of the resolver's error travels with it.
        raise ProviderFailed(
            Failure(
                code="unknown_credential", category="authentication", message=why[:300],
                at_fault="caller" if credential else "us",
            )
        )  # fmt: skip

    async def _answer(self, asked: FileAsked, key: str, request_id: str) -> bytes | Failure:
        """Send the form and read the answer.

        Failures are returned, not raised from the exception: aiohttp's hold the request's headers, key included.
        """
        url = f"{self._urls[asked.model]}{_PATHS[asked.task]}"
        headers = {"Authorization": key, "x-request-id": request_id}  # bare (WIRE 2.10)
        try:
            async with (
                asyncio.timeout(self._timeouts.total_s),
                self._opened().post(url, data=_form(asked), headers=headers, allow_redirects=False) as response,
            ):
                if response.status == 200:
                    return await _read(response)
                return failure_of(response.status, response.headers, await _words(response), now=self._clock())
        except aiohttp.ConnectionTimeoutError:
            return timed_out("connect", self._timeouts.connect_s)
        except TimeoutError:
            return timed_out("total", self._timeouts.total_s)
        except aiohttp.ClientConnectorError as error:
            return transport_failure("provider_unreachable", error)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            return transport_failure("provider_connection_lost", error)

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ProviderFailed(_CLOSED)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # what bounds the calls is the number of runs
                timeout=aiohttp.ClientTimeout(connect=self._timeouts.connect_s),
                cookie_jar=aiohttp.DummyCookieJar(),  # what one credential was told is not sent with another
                headers={"User-Agent": "fireworks-workers"},
            )
        return self._session


def _form(asked: FileAsked) -> aiohttp.FormData:
    """Return the form, its file last: who reads it in order knows what to do with it by then."""
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in asked.fields:
        form.add_field(name, value)
    if isinstance(asked.file, bytes):
        # A file object goes out in pieces; bytes would be written at once.
        form.add_field("file", io.BytesIO(asked.file), filename=asked.filename, content_type="application/octet-stream")
    else:
        form.add_field("file", asked.file)
    return form


async def _read(response: aiohttp.ClientResponse) -> bytes | Failure:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MOST_BYTES:
            response.close()
            return _TOO_LARGE
    return bytes(body)


async def _words(response: aiohttp.ClientResponse) -> bytes:
    """Return as much of a refusal's body as came: the status alone says enough."""
    body = bytearray()
    try:
        while len(body) < _ERROR_BYTES and (piece := await response.content.read(_ERROR_BYTES)):
            body += piece
    except (aiohttp.ClientError, OSError, RuntimeError):
        pass
    return bytes(body)


def _without(key: str, failure: Failure) -> Failure:
    """Blank the key in what the provider said, whatever keys look like here."""
    if not key or key not in failure.message:
        return failure
    return failure.model_copy(update={"message": failure.message.replace(key, "[key]")})
