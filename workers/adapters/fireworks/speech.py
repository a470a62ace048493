"""The port `SpeechService` over the provider's websocket (WIRE 2): one socket per connection, nothing shared but trust.

It knows addresses, keys, deadlines and what an end means; what the messages say is the core's business. The library
has deadlines for opening and for pongs; `_Socket` adds those that it lacks, and a message that need not wait pays
nothing for them.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State

from workers.adapters.fireworks.errors import failure_of, without_secrets
from workers.ports import SpeechLost

_PATH: Final = "/audio/transcriptions/streaming"

_MOST_BYTES: Final = 8 * 2**20
"""Of one message. A provider that repeats the whole list (WIRE 2.7.4) sends about 120 bytes a word, in two places: 55
minutes of fast speech (four words a second, FEAT D3's rollover) are 3.2 MB, above the library's 1 MB."""

_MOST_WAITING: Final = 256
"""Messages that wait for `receive`, about a minute of updates. Beyond it nothing is read, pongs neither."""

_BUFFER_BYTES: Final = 32 * 1024
"""Written and not yet taken by the kernel; beyond it `send` waits. One second of audio."""

_REASON_CHARS: Final = 200

# At DEBUG the library logs every header and message: the key, and what is said. Only what it cannot explain gets out.
_LIBRARY_LOG = logging.getLogger(f"{__name__}.websockets")
_LIBRARY_LOG.setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class SpeechTimeouts:
    """Deadlines of one connection in seconds, each over 0.

    A peer that vanishes is noticed within `ping_every_s + pong_within_s + close_s`, or `send_s` once the buffers are
    full.
    """

    connect_s: float = 10.0
    """From asking to an open websocket: name, TCP, TLS, upgrade. FEAT A2.2; `core.stt.link` waits as long."""
    send_s: float = 10.0
    """How long the provider may take nothing of a full buffer (FEAT A2.6)."""
    ping_every_s: float | None = 10.0
    """Also keeps proxies from dropping an idle connection, which some do after 30 s. None is the switch for a provider
    that does not answer pings: it must (RFC 6455, 5.5.2), but WIRE 2.8 does not know."""
    pong_within_s: float = 15.0
    """As long as a chat's answer may pause (FEAT D3)."""
    close_s: float = 0.1
    """For the peer's half of the closing handshake, a round trip; then the socket is cut. A run ends, or is handed
    over, after its connections. Whether a provider closes after its last echo is unknown (WIRE 2.5), all that it had to
    say was said before it, and the session may end 200 ms after it (STT-08)."""


_DEFAULTS = SpeechTimeouts()


class FireworksSpeech:
    """Connects to `<streaming_url>/audio/transcriptions/streaming` (WIRE 2.1).

    `key_of` turns the name of a credential, or None for the process's own, into the key, and raises KeyError for a
    name that it does not know. `tls` says whom to trust instead of the system's authorities. Proxies that the
    environment names are not used, as for chat: what may see the key is in the settings or nowhere.
    """

    def __init__(
        self,
        streaming_url: str,
        key_of: Callable[[str | None], str],
        *,
        timeouts: SpeechTimeouts = _DEFAULTS,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = f"{streaming_url.rstrip('/')}{_PATH}"
        self._key_of = key_of
        self._timeouts = timeouts
        self._clock = clock
        # One for all connections: reading the authorities took 67 ms and 0.8 MB each.
        is_secure = self._url.lower().startswith("wss:")
        self._tls = (tls or ssl.create_default_context()) if is_secure else None

    async def connect(self, query: Sequence[tuple[str, str]], *, credential: str | None) -> "FireworksLine":
        """See the port. A cancelled call leaves no socket behind.

        `retryable` is False where the next try would end the same way: a refusal, a redirect, a certificate that is
        not trusted, an address or a key that cannot be used.
        """
        key = self._key(credential)
        quote = _Quote(key, silent=any(name == "prompt" for name, _ in query))
        got = await self._dial(query, key, quote)
        if isinstance(got, SpeechLost):
            raise got
        return FireworksLine(got, quote, self._timeouts.close_s)

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
        raise SpeechLost(why[:_REASON_CHARS], retryable=False)

    async def _dial(self, query: Sequence[tuple[str, str]], key: str, quote: "_Quote") -> "_Socket | SpeechLost":
        """Open a websocket. Failures are returned, not raised from the exception: the library's hold the address."""
        limit = self._timeouts.connect_s
        try:
            dial = self._dialled(query, key)
            if dial.ws_uri.user_info is not None:
                return SpeechLost("the address holds a user's name and password", retryable=False)
            socket = cast("_Socket", await dial)
        except InvalidStatus as error:
            return _refusal(error.response, quote, self._clock())
        except InvalidHandshake as error:
            return SpeechLost(f"the answer is no websocket's: {type(error).__name__}")
        except TimeoutError:
            return SpeechLost(f"no connection within {limit:g} s")
        except ssl.SSLCertVerificationError as error:
            why = f"the certificate is not trusted: {error.verify_message}"
            return SpeechLost(why[:_REASON_CHARS], retryable=False)
        except OSError as error:
            return SpeechLost(f"no connection: {_named(error)}")
        except (InvalidURI, ValueError, OverflowError) as error:
            return SpeechLost(f"the address cannot be used: {type(error).__name__}", retryable=False)
        socket.send_s = self._timeouts.send_s
        return socket

    def _dialled(self, query: Sequence[tuple[str, str]], key: str) -> "_Dial":
        times = self._timeouts
        url = f"{self._url}?{urlencode(query)}" if query else self._url
        if len(url.split()) != 1:
            raise ValueError("a space in the address")
        return _Dial(
            url,
            additional_headers={"Authorization": key},  # bare (WIRE 2.2)
            user_agent_header="fireworks-workers",
            compression=None,  # sound does not shrink, and each connection would pay for two windows
            proxy=None,
            open_timeout=times.connect_s,
            ping_interval=times.ping_every_s,
            ping_timeout=times.pong_within_s,
            close_timeout=times.close_s,
            max_size=_MOST_BYTES,
            max_queue=_MOST_WAITING,
            write_limit=_BUFFER_BYTES,
            logger=_LIBRARY_LOG,
            create_connection=_Socket,
            ssl=self._tls,
        )


class FireworksLine:
    """The port `SpeechLine`.

    `send` and `receive` may be cancelled: the line stays as it was, and whoever has it closes it. A message whose
    `send` was cancelled may have been sent.
    """

    __slots__ = ("_close_s", "_closed", "_quote", "_socket")

    def __init__(self, socket: "_Socket", quote: "_Quote", close_s: float) -> None:
        self._socket = socket
        self._quote = quote
        self._close_s = close_s
        self._closed = False

    def offer(self, message: bytes | str) -> bool:
        """See the port."""
        return self._socket.offer(message)

    def hand_to(self, take: Callable[[str | bytes], None]) -> None:
        """See the port."""
        self._socket.take = take

    async def send(self, message: bytes | str) -> None:
        """See the port. Waits only while the buffer is full, `send_s` at most."""
        try:
            return await self._socket.send(message)
        except ConnectionClosed as error:
            lost = self._lost(error)
        try:
            raise lost
        finally:
            del lost  # or this frame, the line in it, and the exception hold each other

    async def receive(self) -> str | bytes:
        """See the port. Messages that came before the end are returned first.

        Call it again soon: beyond a bound of waiting messages nothing is read, so that the connection ends as one
        whose peer vanished.
        """
        if self._closed:
            raise _closed_here()
        try:
            return await self._socket.recv()
        except ConnectionClosed as error:
            lost = self._lost(error)
        try:
            raise lost
        finally:
            del lost  # or this frame, the line in it, and the exception hold each other

    async def close(self) -> None:
        """See the port. Takes `close_s` at most, whatever the peer does; cancelled, it cuts at once."""
        self._closed, self._socket.take = True, None
        try:
            async with asyncio.timeout(self._close_s):
                await self._socket.close()
        except TimeoutError:
            pass  # the peer did not say goodbye
        finally:
            self._socket.transport.abort()

    def _lost(self, error: ConnectionClosed) -> SpeechLost:
        """Return why the connection ended. The code is the one that the provider chose, if it did."""
        if self._closed:
            return _closed_here()
        if error.rcvd is not None:
            return SpeechLost(self._quote("closed by the provider", error.rcvd.reason), code=error.rcvd.code)
        if isinstance(error.__cause__, _GivenUp):
            return SpeechLost(str(error.__cause__))
        if error.sent is not None:
            return SpeechLost(f"given up by this side: {error.sent.reason}"[:_REASON_CHARS])
        return SpeechLost(f"the connection broke: {_named(error.__cause__)}")


class _Dial(connect):
    """The library's opening handshake. It follows no redirect: the key is for one address."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class _GivenUp(Exception):
    """This side cut the connection, and why."""


class _Socket(ClientConnection):
    """The library's connection with the deadlines that it lacks, and a short way for a message that need not wait.

    It lets a full buffer hold whoever writes for ever, its own pings and goodbyes among them, and it waits for a peer
    that has said goodbye to hang up. Both are noticed here by the protocol's callbacks, not by those who wait.
    """

    send_s: float = _DEFAULTS.send_s
    take: Callable[[str | bytes], None] | None = None
    _full: asyncio.TimerHandle | None = None
    _ending: asyncio.TimerHandle | None = None
    _given_up: _GivenUp | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full = self.loop.call_later(self.send_s, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._full is not None:
            self._full.cancel()

    def offer(self, message: bytes | str) -> bool:
        """Write a message as the library does, or return False where that would have to wait, or to raise."""
        if self.paused or self.send_in_progress is not None or self.state is not State.OPEN:
            return False
        if isinstance(message, str):
            self.protocol.send_text(message.encode())
        else:
            self.protocol.send_binary(message)
        try:
            self.send_data()
        except Exception as exc:  # noqa: BLE001 - an OSError, or uvloop's RuntimeError: the line is gone, `receive` says so
            self.set_connection_exc(exc)
            self.transport.abort()
        return True

    def process_event(self, event: Event) -> None:
        """Hand over a whole text, unless others wait to be received before it."""
        if (
            self.take is not None
            and isinstance(event, Frame)
            and event.opcode is Opcode.TEXT
            and event.fin
            and not self.recv_messages.frames
        ):
            try:
                text = str(event.data, "utf-8")
            except UnicodeDecodeError:
                pass  # the library ends the connection, as it must
            else:
                self.take(text)
                return
        super().process_event(event)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._ending is None and self.state is State.CLOSING:
            self._ending = self.loop.call_later(self.close_timeout or 0.0, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._full, self._ending):
            if timer is not None:
                timer.cancel()
        # Without an exception the library wakes a waiting writer as if its message were out.
        super().connection_lost(exc or self._given_up)

    def _give_up(self) -> None:
        self._given_up = _GivenUp(f"the provider took nothing for {self.send_s:g} s")
        self.transport.abort()


class _Quote:
    """Adds the provider's own words to a reason: never the key, and none where they may repeat the caller's prompt."""

    __slots__ = ("_key", "_silent")

    def __init__(self, key: str, *, silent: bool) -> None:
        self._key = key
        self._silent = silent

    def __call__(self, reason: str, said: str) -> str:
        if self._silent or not said:
            return reason
        words = without_secrets(said.replace(self._key, "[key]") if self._key else said)
        return f"{reason}: {words}"[:_REASON_CHARS]


def _closed_here() -> SpeechLost:
    return SpeechLost("closed by this side")


def _refusal(response: Response, quote: _Quote, now: float) -> SpeechLost:
    """Return what an answer other than 101 means; the status decides as it does for chat (WIRE 1.7, 2.2)."""
    status = response.status_code
    failure = failure_of(status, dict(response.headers.raw_items()), bytes(response.body or b""), now=now)
    opening, _, said = failure.message.partition(": ")
    return SpeechLost(
        quote(opening, said), code=status, retryable=failure.retryable, retry_after_s=failure.retry_after_s
    )


def _named(error: BaseException | None) -> str:
    """Return what kind of error it is. Its text is not quoted."""
    return f"{type(error).__name__} {getattr(error, 'strerror', None) or ''}".strip()[:_REASON_CHARS]
