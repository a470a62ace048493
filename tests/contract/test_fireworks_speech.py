"""What only the real speech adapter can show: the wire on the emulator, and every way to go wrong on real sockets."""

import asyncio
import base64
import gc
import hashlib
import json
import logging
import ssl
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websocket_server

from api_contracts.stt import SttOptions, Vad
from tests.contract.scripted_provider import KEY, SOON, Line, Provider, Script, listening
from tests.unit.emulator.speech.speaking import View, frames, some_words
from tests.waiting import eventually_async
from workers.adapters.fireworks.speech import FireworksLine, FireworksSpeech, SpeechTimeouts
from workers.core.stt.query import query_of
from workers.emulator import EmulatorConfig, Running, serve
from workers.emulator.speech import SpeechConfig, encode
from workers.ports import SpeechLost

PROMPT = "the patient's name is Rosebud"
FRAME = bytes(3200)
LATER = 30.0

# Of a key that is used here only, for 127.0.0.1, until 2126.
CERTIFICATE = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgTe3IlAYFGyGHnwjn
QpdcvL1zG7EPspPFqcHszKuO1FChRANCAAQzLk7CUN/YNMU1ZXwi3iTCgUbQxEXS
ohSLE2yYsbs/wR26Ee4sHDmWdGPb8BfbZ02ka74orKNFMvih/KJ7M3i2
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBkDCCATagAwIBAgIUD8A4eBoXp7ims2n3mdlJwF50KH0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTA2MjcwNFoYDzIxMjYxMDI4
MDYyNzA0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQzLk7CUN/YNMU1ZXwi3iTCgUbQxEXSohSLE2yYsbs/wR26Ee4sHDmW
dGPb8BfbZ02ka74orKNFMvih/KJ7M3i2o2QwYjAdBgNVHQ4EFgQUa1U5XZuIS2+v
UT5B2rO2BkqUXoEwHwYDVR0jBBgwFoAUa1U5XZuIS2+vUT5B2rO2BkqUXoEwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0gAMEUC
IQCtvexaqi/Ktr6RP0Zffxl1ufmp7lpRdhRvpTSLAPWz/gIgYN37sJnEf0BeBedn
Ilmb7ELAd5RolZ0FRUHe9z6JMBQ=
-----END CERTIFICATE-----
"""


def timeouts(**given: Any) -> SpeechTimeouts:
    """Deadlines that do not pass within a test, but for those given."""
    given = {"connect_s": LATER, "send_s": LATER, "ping_every_s": LATER, "pong_within_s": LATER, **given}
    return SpeechTimeouts(**{"close_s": SOON, **given})


async def lost(doing: Awaitable[Any]) -> SpeechLost:
    """Return what it fails with."""
    with pytest.raises(SpeechLost) as caught:
        await asyncio.wait_for(doing, LATER)
    return caught.value


# -- on the emulator ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    """A provider that takes the bare key only, as documented (WIRE 2.2)."""
    speech = SpeechConfig(engine="tones", bearer=False, close_after_final_s=None)
    running = await serve(EmulatorConfig(speech=speech, accepted_keys=frozenset({KEY})))
    yield running
    await running.close()


async def dialled(running: Running, fault: str = "", **times: Any) -> FireworksLine:
    speech = FireworksSpeech(running.speech_url, lambda _: KEY, timeouts=timeouts(**times))
    return await speech.connect([("x-emulator-fault", fault)] if fault else [], credential=None)


async def test_words_that_are_spoken_come_back(emulator: Running) -> None:
    spoken = some_words(20)
    options = SttOptions(language="en", prompt=PROMPT, text_timeout_s=1.5, vad=Vad(skip=False, threshold=0.15))
    line = await FireworksSpeech(emulator.speech_url, lambda _: KEY).connect(query_of(options), credential=None)
    for frame in frames(encode(spoken)):
        await line.send(frame)
    await line.send('{"checkpoint_id": "final"}')
    view = View()
    while (message := json.loads(await asyncio.wait_for(line.receive(), LATER))).get("checkpoint_id") != "final":
        view.take(message)
    await line.close()
    assert [word["word"] for word in view.words] == spoken
    assert all(word["end"] > word["start"] for word in view.words)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 412, 429, 500, 502, 503, 504])
async def test_a_refusal_is_final_unless_time_may_help(emulator: Running, status: int) -> None:
    refused = await lost(dialled(emulator, f"{status}=7"))
    assert refused.code == status
    assert refused.retryable == (status >= 500 or status in (408, 429))
    assert refused.retry_after_s == 7.0
    assert refused.reason.startswith(f"the provider answered {status}: ")


async def test_a_connection_that_ends_without_a_close_frame_has_no_code(emulator: Running) -> None:
    line = await dialled(emulator, "drop_after=0")
    end = await lost(line.receive())
    assert (end.code, end.retryable, end.reason) == (None, True, "the connection broke: EOFError")
    await line.close()


@pytest.mark.parametrize("code", [1001, 1008, 1011, 1012])
async def test_a_close_frame_has_its_code_and_all_are_worth_another_try(emulator: Running, code: int) -> None:
    line = await dialled(emulator, f"close_after=0,code={code}")
    end = await lost(line.receive())
    assert (end.code, end.retryable, end.reason) == (code, True, "closed by the provider")
    assert line._socket._ending is not None
    assert line._socket._ending.cancelled()
    await line.close()


async def test_a_peer_that_answers_no_ping_is_lost(emulator: Running) -> None:
    line = await dialled(emulator, "deaf_after=0", ping_every_s=SOON, pong_within_s=SOON, close_s=SOON)
    end = await lost(line.receive())
    assert (end.code, end.retryable, end.reason) == (None, True, "given up by this side: keepalive ping timeout")
    assert (await lost(line.send(FRAME))).reason == end.reason
    await line.close()


async def test_a_peer_that_is_only_silent_is_not_lost(emulator: Running) -> None:
    line = await dialled(emulator, "stall_after=0", ping_every_s=SOON / 10)
    reading = asyncio.ensure_future(line.receive())

    async def answered() -> bool:
        return line._socket.latency > 0

    await eventually_async(answered)
    assert not reading.done()
    await line.close()
    await lost(reading)


async def test_pings_can_be_switched_off(emulator: Running) -> None:
    line = await dialled(emulator, ping_every_s=None)
    assert line._socket.keepalive_task is None
    await line.close()


async def test_closing_a_deaf_peer_is_bounded_and_leaves_no_connection(emulator: Running) -> None:
    line = await dialled(emulator, "deaf_after=0", close_s=SOON)
    await asyncio.wait_for(line.close(), LATER / 2)

    async def none_open() -> bool:
        return emulator.stats.speech.open == 0

    await eventually_async(none_open)


# -- on a peer that is scripted byte by byte ---------------------------------------------------------------------------


@asynccontextmanager
async def provider(script: Script, **times: Any) -> AsyncIterator[tuple[FireworksSpeech, Provider]]:
    """Serve each connection by `script`."""
    server = Provider(script)
    async with listening(server.serve) as port:
        server.url = f"ws://127.0.0.1:{port}/v1"
        yield FireworksSpeech(f"{server.url}/", lambda _: KEY, timeouts=timeouts(**times)), server
        await asyncio.gather(*server.handlers)


async def upgrade(line: Line) -> None:
    """Accept the websocket (RFC 6455, 4.2.2)."""
    key = line.provider.asked[-1].headers["sec-websocket-key"]
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    accept = f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}"
    await line.raw(f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{accept}\r\n\r\n".encode())


async def say(line: Line, size: int) -> None:
    """Send a text message of so many bytes."""
    await line.raw(b"\x81\x7f" + struct.pack("!Q", size) + b"x" * size)


async def say_goodbye(line: Line, code: int, reason: str = "") -> None:
    """Send a close frame, and stay."""
    said = struct.pack("!H", code) + reason.encode()
    await line.raw(bytes([0x88, len(said)]) + said)


async def take(line: Line) -> int:
    """Read until the client has left; return how much came."""
    took = 0
    try:
        while data := await line._reader.read(1 << 20):
            took += len(data)
    except ConnectionError:
        pass
    line.provider.gone.set()
    line.writer.close()
    return took


async def _stay(line: Line) -> None:
    await upgrade(line)
    await take(line)


async def test_the_request_is_as_documented() -> None:
    async with provider(_stay) as (speech, server):
        line = await speech.connect([("a", "1 2"), ("b", "x&y"), ("b", "é")], credential=None)
        await line.close()
    asked = server.asked[0]
    assert asked.line == "GET /v1/audio/transcriptions/streaming?a=1+2&b=x%26y&b=%C3%A9 HTTP/1.1"
    assert (asked.headers["authorization"], asked.headers["user-agent"]) == (KEY, "fireworks-workers")
    assert "sec-websocket-extensions" not in asked.headers


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "socks_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with provider(_stay) as (speech, _):
        await (await speech.connect([], credential=None)).close()


@pytest.mark.parametrize("status", [200, 301, 302, 307, 308])
async def test_an_answer_that_is_no_upgrade_is_final_and_no_redirect_takes_the_key(status: int) -> None:
    async def elsewhere(line: Line) -> None:
        await line.head(status, Location="/v1/elsewhere")
        await line.end()

    async with provider(elsewhere) as (speech, server):
        refused = await lost(speech.connect([], credential=None))
    assert (refused.code, refused.retryable, len(server.asked)) == (status, False, 1)


async def _hang_up(line: Line) -> None:
    line.writer.close()


async def _speak_no_http(line: Line) -> None:
    await line.raw(b"220 mail.example.org ESMTP\r\n\r\n")


async def _upgrade_wrongly(line: Line) -> None:
    await line.head(101, Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Accept="AAAA")


@pytest.mark.parametrize("script", [_hang_up, _speak_no_http, _upgrade_wrongly])
async def test_half_an_answer_is_worth_another_try(script: Script) -> None:
    async with provider(script) as (speech, _):
        refused = await lost(speech.connect([], credential=None))
    assert (refused.code, refused.retryable) == (None, True)


async def test_a_handshake_has_a_deadline_and_leaves_no_socket() -> None:
    async with provider(take, connect_s=SOON) as (speech, server):
        refused = await lost(speech.connect([], credential=None))
        await asyncio.wait_for(server.gone.wait(), LATER)
    assert (refused.code, refused.retryable, refused.reason) == (None, True, f"no connection within {SOON} s")


async def test_a_cancelled_handshake_leaves_no_socket() -> None:
    async with provider(take) as (speech, server):
        trying = asyncio.ensure_future(speech.connect([], credential=None))

        async def asked() -> bool:
            return bool(server.asked)

        await eventually_async(asked)
        trying.cancel()
        await asyncio.wait_for(server.gone.wait(), LATER)
    assert trying.cancelled()


async def test_a_cancelled_close_cuts_at_once() -> None:
    async with provider(_stay, close_s=LATER) as (speech, server):
        line = await speech.connect([], credential=None)
        closing = asyncio.ensure_future(line.close())
        await asyncio.wait({closing}, timeout=0)
        closing.cancel()
        await asyncio.wait({closing})
        await asyncio.wait_for(server.gone.wait(), LATER)
    assert closing.cancelled()


async def test_a_full_buffer_has_a_deadline_for_writer_and_reader() -> None:
    async def deaf(line: Line) -> None:
        await upgrade(line)
        await given_up.wait()
        await take(line)

    given_up = asyncio.Event()
    async with provider(deaf, send_s=SOON) as (speech, server):
        line = await speech.connect([], credential=None)
        reading = asyncio.ensure_future(lost(line.receive()))

        async def send() -> None:
            while True:
                await line.send(FRAME * 100)

        ends = [await lost(send()), await reading, await lost(line.send(FRAME))]
        given_up.set()
        await asyncio.wait_for(server.gone.wait(), LATER)
        await line.close()
    assert {(end.code, end.retryable) for end in ends} == {(None, True)}
    assert {end.reason for end in ends} == {f"the provider took nothing for {SOON} s"}


async def test_a_buffer_that_empties_in_time_ends_nothing() -> None:
    async def slow(line: Line) -> None:
        await upgrade(line)
        await full.wait()
        took.append(await take(line))

    full = asyncio.Event()
    took: list[int] = []
    async with provider(slow) as (speech, _):
        line = await speech.connect([], credential=None)
        sent, waiting = 0, False
        while not waiting:
            sending = asyncio.ensure_future(line.send(FRAME * 100))
            waiting = bool((await asyncio.wait({sending}, timeout=SOON))[1])
            sent += len(FRAME) * 100
        deadline = line._socket._full
        assert deadline is not None
        full.set()
        await asyncio.wait_for(sending, LATER)
        assert deadline.cancelled()
        await line.close()
    assert took[0] > sent


async def test_a_peer_that_says_goodbye_and_stays_is_left() -> None:
    async def linger(line: Line) -> None:
        await upgrade(line)
        await say_goodbye(line, 1012, "restarting")
        await take(line)

    async with provider(linger) as (speech, server):
        line = await speech.connect([], credential=None)
        end = await lost(line.receive())
        await asyncio.wait_for(server.gone.wait(), LATER)
        await line.close()
    assert (end.code, end.reason) == (1012, "closed by the provider: restarting")


async def test_a_message_may_hold_a_long_session_but_not_everything() -> None:
    async def talk(line: Line) -> None:
        await upgrade(line)
        await say(line, 4 << 20)
        await say(line, (8 << 20) + 1)
        await take(line)

    async with provider(talk) as (speech, _):
        line = await speech.connect([], credential=None)
        assert len(await line.receive()) == 4 << 20
        end = await lost(line.receive())
        await line.close()
    assert (end.code, end.retryable) == (None, True)
    assert end.reason.startswith("given up by this side: frame")


# -- addresses, certificates, keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "retryable"),
    [
        ("ws://127.0.0.1:1/v1", True),
        ("wss://127.0.0.1:1/v1", True),
        ("ws://no-such-host.invalid/v1", True),
        ("", False),
        ("http://127.0.0.1/v1", False),
        ("ws://127.0.0.1:99999/v1", False),
        ("ws://[::1/v1", False),
        (f"ws://{'a' * 70}.com/v1", False),
        ("ws://127.0.0.1:1/v1 ", False),
        ("ws://user:password@127.0.0.1:1/v1", False),
    ],
)
async def test_an_address_that_cannot_be_used_is_final_one_that_cannot_be_reached_is_not(
    url: str, retryable: bool
) -> None:
    end = await lost(FireworksSpeech(url, lambda _: KEY).connect([("prompt", PROMPT)], credential=None))
    assert (end.code, end.retryable) == (None, retryable)
    assert PROMPT not in end.reason


async def _echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_that_is_not_trusted_is_final(trusted: bool, tmp_path: Path) -> None:
    file = tmp_path / "certificate.pem"
    file.write_text(CERTIFICATE)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(file)
    tls = ssl.create_default_context(cafile=str(file)) if trusted else None
    async with websocket_server(_echo, "127.0.0.1", 0, ssl=own) as server:
        url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        speech = FireworksSpeech(url, lambda _: KEY, tls=tls)
        if not trusted:
            end = await lost(speech.connect([], credential=None))
            assert (end.code, end.retryable) == (None, False)
            assert end.reason == "the certificate is not trusted: self-signed certificate"
            return
        line = await speech.connect([], credential=None)
        await line.send(FRAME)
        assert await line.receive() == FRAME
        await line.close()


@pytest.mark.parametrize(("key", "says"), [(None, "no key is configured"), ("fw_x\r\nHost: evil", "printable")])
async def test_a_credential_without_a_usable_key_is_final_before_anything_is_sent(key: str | None, says: str) -> None:
    keys = {} if key is None else {"team-b": key}
    async with provider(_stay) as (_, server):
        speech = FireworksSpeech(server.url, lambda name: keys[str(name)])
        end = await lost(speech.connect([], credential="team-b"))
    assert (end.code, end.retryable, server.asked) == (None, False, [])
    assert says in end.reason
    assert "team-b" in end.reason
    assert "evil" not in end.reason
    assert end.__context__ is None


async def _tell_in_the_refusal(line: Line) -> None:
    said = {"error": {"message": f"the prompt '{PROMPT}' is too long for {KEY}"}}
    await line.head(400, "application/json")
    await line.send(json.dumps(said).encode())
    await line.end()


async def _tell_in_the_goodbye(line: Line) -> None:
    await upgrade(line)
    await say_goodbye(line, 1008, f"{KEY} said {PROMPT}")
    await take(line)


async def _cut(line: Line) -> None:
    await upgrade(line)
    line.cut()


SCRIPTS = [_tell_in_the_refusal, _tell_in_the_goodbye, _cut, _hang_up, _speak_no_http]


@pytest.mark.parametrize("script", SCRIPTS)
async def test_key_and_prompt_are_in_no_exception_no_log_and_no_repr(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def use() -> None:
        line = await speech.connect([("prompt", PROMPT)], credential=None)
        try:
            await line.send(json.dumps({"text": PROMPT}))
            await line.receive()
        finally:
            await line.close()

    async with provider(script) as (speech, _):
        end = await lost(use())
        told = [repr(speech), repr(vars(speech)), caplog.text, *traceback.format_exception(end), str(end), repr(end)]
    assert (end.__cause__, end.__context__) == (None, None)
    assert KEY not in "".join(told)
    assert "Rosebud" not in "".join(told)


@pytest.mark.parametrize("script", [_tell_in_the_refusal, _tell_in_the_goodbye])
async def test_without_a_prompt_the_provider_is_quoted_but_for_the_key(script: Script) -> None:
    async def use() -> None:
        await (await speech.connect([("language", "en")], credential=None)).receive()

    async with provider(script) as (speech, _):
        end = await lost(use())
    assert "[key]" in end.reason
    assert KEY not in end.reason


async def test_a_lost_connection_leaves_no_complaint_behind(
    emulator: Running, caplog: pytest.LogCaptureFixture
) -> None:
    for fault in ("drop_after=0", "close_after=0", "deaf_after=0"):
        line = await dialled(emulator, fault, ping_every_s=SOON / 10, pong_within_s=SOON / 10, close_s=SOON / 10)
        await lost(line.receive())
        await line.close()
        del line
    gc.collect()
    ours = [record for record in caplog.records if "emulator" not in record.name and "aiohttp" not in record.name]
    assert [record for record in ours if record.levelno >= logging.WARNING] == []
