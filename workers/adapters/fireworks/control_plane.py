"""Calls of the provider's control plane: JSON in, JSON out, one deadline each, every refusal a `Failure` (WIRE 3.1).

Small calls only; files go through `transfer`, over the same session.
"""

import asyncio
import io
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from aiohttp.http import HttpProcessingError
from yarl import URL

from api_contracts.failure import AtFault, Failure
from workers.adapters.fireworks.deadlines import timed_out, transport_failure
from workers.adapters.fireworks.errors import failure_of
from workers.ports import ProviderFailed


@dataclass(frozen=True, slots=True)
class BatchTimeouts:
    """Deadlines in seconds, each over 0. Whoever gives or takes a file's rows may take its time: that counts nowhere.

    A file has no deadline as a whole: 600 s for one PUT (WIRE 3.3) would be 13 MB/s for the 8 GB that a shard may
    have, and a slower line would send such a file in vain for ever. What must be noticed is a peer that stands still.
    """

    connect_s: float = 30.0
    """From asking to a usable connection, TLS included (WIRE 3.3)."""
    call_s: float = 60.0
    """For one call, from asking to the end of the answer (the official client's default, WIRE 6.1)."""
    gap_s: float = 60.0
    """For one piece of a file to go or to come: 256 KB at most, so at least 4 KB/s."""
    answer_s: float = 600.0
    """From an upload's last piece to the end of the answer: the provider may look through it all (WIRE 3.3)."""
    refusal_s: float = 10.0
    """For the words of a refusal; its status says enough."""
    pause_s: float = 1.0
    """Before the second new try of a download in a row without a byte; each further pause is twice as long."""


DEFAULTS: Final = BatchTimeouts()
READ_BYTES: Final = 256 * 1024
"""What is read at once from a connection, at most; as much again may wait."""
TRANSPORT_ERRORS: Final = (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError, ValueError)
"""All that aiohttp raises: connections that break, or are closed by this side (RuntimeError), odd URLs (ValueError)."""

_FULL_NAME: Final = re.compile(r"accounts/([^/]+)/([^/]+)/(.+)", re.DOTALL)
_NO_SEGMENT: Final = ("", ".", "..")
_MOST_ANSWER: Final = 8 * 1024 * 1024
_MOST_WORDS: Final = 64 * 1024
_CLOSED: Final = Failure(
    code="provider_unreachable", category="transport", retryable=True, at_fault="us",
    message="this process is shutting down and asks the provider nothing more",
)  # fmt: skip
_NO_ACCOUNT: Final = Failure(
    code="account_id_missing", category="account", at_fault="us",
    message="batches need the account's id: set FIREWORKS_ACCOUNT_ID for the workers",
)  # fmt: skip
_UNREADABLE: Final = Failure(
    code="provider_unexpected_answer", category="protocol", at_fault="provider", retryable=True,
    message="the control plane's answer is not a JSON object",
)  # fmt: skip

_MEANINGS: Final[dict[int, dict[str, Any]]] = {
    404: {"code": "provider_not_found"},
    # ABORTED (WIRE 3.7), and what was made by somebody else in this moment.
    409: {"code": "provider_conflict", "retryable": True, "at_fault": "provider"},
    # CANCELLED (WIRE 3.7).
    499: {"code": "provider_unavailable", "category": "overloaded", "retryable": True, "at_fault": "provider"},
}
"""What a status means here, where it is not what it means to a chat."""


class Answer(NamedTuple):
    """What the control plane said, a JSON object."""

    status: int
    body: Mapping[str, Any]


class ControlPlane:
    """Talks to `<api_url>/v1/accounts/<account_id>/...`.

    `key_of` is as in `FireworksChat`. The session is made on the loop of the first call; `close` it on the same loop.
    It follows no redirect, and sends nothing but what its callers give it.
    """

    def __init__(
        self,
        api_url: str,
        account_id: str,
        key_of: Callable[[str | None], str],
        *,
        timeouts: BatchTimeouts = DEFAULTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.timeouts = timeouts
        self.clock = clock
        self.is_secure = api_url.lower().startswith("https:")
        self.closed = False
        self._base = f"{api_url.rstrip('/')}/v1"
        self._account = account_id
        self._key_of = key_of
        self._session: aiohttp.ClientSession | None = None
        self._responses: set[aiohttp.ClientResponse] = set()

    # -- names -----------------------------------------------------------------------------------------------------

    def full(self, kind: str, name: str) -> str:
        """Return the full resource name (WIRE 3)."""
        return name if name.startswith("accounts/") else f"accounts/{self._account}/{kind}/{name}"

    def url(self, kind: str, name: str | None = None, verb: str = "", query: Mapping[str, str] | None = None) -> URL:
        """Return the URL of a resource, by its id or full name, or of all of a kind. Raise `ProviderFailed`.

        Whatever the name holds, it stays one segment of the path.
        """
        account, shown = self._account, name
        if name is not None and name.startswith("accounts/"):
            full = _FULL_NAME.fullmatch(name)
            account, name = (full[1], full[3]) if full is not None and full[2] == kind else ("", "")
        if name is not None and (name in _NO_SEGMENT or account in _NO_SEGMENT[1:] or not name.isprintable()):
            raise ProviderFailed(_no_name(kind, shown))
        path = "/".join(quote(part, safe="") for part in (account, kind, name) if part is not None)
        tail = (f":{verb}" if verb else "") + (f"?{urlencode(query)}" if query else "")
        try:
            return URL(f"{self._base}/accounts/{path}{tail}", encoded=True)
        except ValueError as error:
            failure = _not_sendable(error, "us")
        raise ProviderFailed(failure)

    # -- calls -----------------------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        url: URL,
        *,
        credential: str | None,
        body: Mapping[str, Any] | None = None,
        expected: Collection[int] = (),
        within_s: float | None = None,
    ) -> Answer:
        """Return the answer: 200, or one of the `expected` statuses. Raise `ProviderFailed` for all else.

        Without `body` nothing is sent: the provider refuses a GET that has one (WIRE 3.8). An expected status counts
        only with a JSON object: a gateway's page that says 404 does not mean that a job is gone.
        """
        key = self.key(credential)
        headers, data = authorized(key), None
        if body is not None:
            data, headers["Content-Type"] = io.BytesIO(_encoded(body)), "application/json"
        limit = self.timeouts.call_s if within_s is None else within_s
        try:
            async with asyncio.timeout(limit):
                response = await self.open(method, url, headers, data)
                try:
                    got = await self.heard(response, key, expected)
                finally:
                    self.drop(response)
        except TRANSPORT_ERRORS as error:
            got = self.lost(error, "answer", limit)
        if isinstance(got, Failure):
            raise ProviderFailed(got)  # here, and not from the exception: aiohttp's holds the request, key included
        return got

    def key(self, credential: str | None) -> str:
        """Return the key; raise `ProviderFailed` without key or account."""
        if not self._account:
            raise ProviderFailed(_NO_ACCOUNT)
        try:
            key = self._key_of(credential)
        except KeyError:
            why = f"no key is configured for credential {credential!r}"
        else:
            if key.isascii() and key.isprintable():
                return key
            why = f"the key of credential {credential!r} cannot be sent: it has other than printable ASCII characters"
        # Raised here, so that nothing of the resolver's error travels with it.
        at_fault: AtFault = "caller" if credential else "us"
        raise ProviderFailed(
            Failure(code="unknown_credential", category="authentication", at_fault=at_fault, message=why[:300])
        )

    # -- answers, of files too -------------------------------------------------------------------------------------

    async def open(self, method: str, url: URL, headers: Mapping[str, str], data: Any = None) -> aiohttp.ClientResponse:
        """Return the answer, its body unread; `drop` it. Raises `TRANSPORT_ERRORS`; `ProviderFailed` after `close`."""
        response = await self._opened().request(method, url, data=data, headers=headers, allow_redirects=False)
        self._responses.add(response)
        return response

    def drop(self, response: aiohttp.ClientResponse) -> None:
        """Close the answer's connection, unless it was read to its end."""
        self._responses.discard(response)
        response.close()

    async def heard(
        self, response: aiohttp.ClientResponse, key: str, expected: Collection[int] = ()
    ) -> Answer | Failure:
        """Read an answer and say what it means. Raises `TRANSPORT_ERRORS`."""
        if response.status == 200:
            body = _object_in(await _read(response, _MOST_ANSWER))
            return _UNREADABLE if body is None else Answer(200, body)
        text = await self.words(response)
        if response.status in expected:
            body = _object_in(text)
            if body is not None:
                return Answer(response.status, body)
            return _UNREADABLE.model_copy(update={"provider_status": response.status})
        # Before as well: what is cut to length may end in the middle of the key.
        return _without(key, self._refusal(response, text.replace(key.encode(), b"[key]") if key else text))

    async def words(self, response: aiohttp.ClientResponse) -> bytes:
        """Return as much of a refusal's body as comes in time."""
        try:
            async with asyncio.timeout(self.timeouts.refusal_s):
                return await _read(response, _MOST_WORDS)
        except TRANSPORT_ERRORS:
            return b""

    def lost(self, error: BaseException, what: str, seconds: float) -> Failure:
        """Return what one of `TRANSPORT_ERRORS` means; `what` is the deadline that ran, of so many seconds."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return timed_out("connect", self.timeouts.connect_s)
        if isinstance(error, TimeoutError):
            return timed_out(what, seconds)
        if isinstance(error, aiohttp.ClientConnectorError):
            return transport_failure("provider_unreachable", error)
        if isinstance(error, ValueError | aiohttp.NonHttpUrlClientError):
            return _not_sendable(error, "us")
        return transport_failure("provider_connection_lost", error)

    async def close(self) -> None:
        """Close every connection; what is under way ends with `provider_connection_lost`."""
        self.closed = True
        for response in list(self._responses):
            self.drop(response)  # aiohttp closes the sockets and leaves the readers asleep
        if self._session is not None:
            await self._session.close()

    def _refusal(self, response: aiohttp.ClientResponse, text: bytes) -> Failure:
        failure = failure_of(response.status, response.headers, text, now=self.clock())
        meaning = dict(_MEANINGS.get(response.status, {}))
        if "x-should-retry" in response.headers:
            meaning.pop("retryable", None)
        return failure.model_copy(update=meaning)

    def _opened(self) -> aiohttp.ClientSession:
        if self.closed:
            raise ProviderFailed(_CLOSED)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the number of runs bounds the calls
                timeout=aiohttp.ClientTimeout(connect=self.timeouts.connect_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "fireworks-workers"},
                read_bufsize=READ_BYTES,
            )
        return self._session


def authorized(key: str) -> dict[str, str]:
    """Return the headers of a call."""
    return {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    parts, left = list[bytes](), most
    while part := await response.content.read(left):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:  # an integer of more than 64 bits, half a surrogate pair
        failure = _not_sendable(error, "caller")
    raise ProviderFailed(failure)


def _not_sendable(error: BaseException, at_fault: AtFault) -> Failure:
    return Failure(
        code="request_not_sendable", category="bad_request", at_fault=at_fault,
        message=f"the request cannot be put on the wire: {type(error).__name__}",
    )  # fmt: skip


def _object_in(text: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _without(key: str, failure: Failure) -> Failure:
    """Blank the key in what the provider said, whatever keys look like here."""
    if not key or key not in failure.message:
        return failure
    return failure.model_copy(update={"message": failure.message.replace(key, "[key]")})


def _no_name(kind: str, name: str | None) -> Failure:
    return Failure(
        code="bad_resource_name", category="bad_request", at_fault="caller",
        message=f"{name!r} names none of the account's {kind}"[:500],
    )  # fmt: skip
