"""Live transcription over real sockets, with the websockets client: what a session is on the wire, and its faults."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from tests.unit.emulator.speech.speaking import View, frames, some_words
from tests.waiting import eventually_async
from workers.emulator import EmulatorConfig, Running, Scene, serve
from workers.emulator.speech import SpeechConfig, SpeechRule, SpeechWhen, encode

pytestmark = pytest.mark.requirement("EMU-01")

KEY = {"Authorization": "fw_anything"}
FINAL = '{"checkpoint_id": "final"}'
PATH = "/audio/transcriptions/streaming"
Serve = Callable[..., Awaitable[Running]]


@pytest.fixture
async def emulators() -> AsyncIterator[Serve]:
    """Starts servers that are closed at the end."""
    started: list[Running] = []

    async def start(*rules: SpeechRule, **speech: Any) -> Running:
        started.append(await serve(EmulatorConfig(speech=SpeechConfig(rules=rules, **{"engine": "tones"} | speech))))
        return started[-1]

    yield start
    for running in started:
        await running.close()


@pytest.fixture
async def emulator(emulators: Serve) -> Running:
    """A server with its defaults."""
    return await emulators()


def dial(running: Running, query: str = "", headers: dict[str, str] | None = None, **options: Any) -> connect:
    """A connection as a client makes one."""
    url = f"{running.speech_url}{PATH}?{query}"
    return connect(url, additional_headers=KEY if headers is None else headers, compression=None, **options)


async def listen(socket: ClientConnection) -> View:
    """Everything up to the echo of the final checkpoint."""
    view = View()
    async for message in socket:
        body = json.loads(message)
        if body.get("checkpoint_id") == "final":
            return view
        view.take(body)
    raise AssertionError("closed before the checkpoint's echo")


async def speak(socket: ClientConnection, words: list[str], size: int = 1600) -> View:
    """Say words, end, and read the answer."""
    for piece in frames(encode(words), size):
        await socket.send(piece)
    await socket.send(FINAL)
    return await listen(socket)


async def stats(running: Running) -> Any:
    """What the server counted of speech."""
    async with aiohttp.ClientSession() as http, http.get(f"{running.url}/_emulator/stats") as response:
        return (await response.json())["speech"]


@pytest.mark.requirement("EMU-02")
@pytest.mark.parametrize("prefix", ["/v1", "/inference/v1"])
async def test_words_spoken_come_back_each_once_and_the_server_closes(emulator: Running, prefix: str) -> None:
    spoken = some_words(50)
    url = f"ws{emulator.url.removeprefix('http')}{prefix}{PATH}?timestamp_granularities=word"
    async with connect(url, additional_headers=KEY) as socket:
        view = await speak(socket, spoken)
        with pytest.raises(ConnectionClosedOK):
            await socket.recv()
    assert socket.close_code == 1000
    assert [word["word"] for word in view.words] == spoken
    assert all(word["is_final"] for word in view.words)


@pytest.mark.requirement("EMU-02")
async def test_many_sessions_at_once_do_not_mix(emulator: Running) -> None:
    async def one(seed: int) -> bool:
        spoken = some_words(12, seed)
        async with dial(emulator) as socket:
            return (await speak(socket, spoken)).text.split() == spoken

    assert all(await asyncio.gather(*(one(seed) for seed in range(20))))
    counted = await stats(emulator)
    assert (counted["connections"], counted["words"], counted["damaged"]) == (20, 240, 0)
    assert counted["audio_ms"] == 20 * 12 * 235


async def test_text_arrives_while_the_speaker_goes_on(emulator: Running) -> None:
    async with dial(emulator) as socket:
        pcm = encode(some_words(6))
        half = len(pcm) // 4 * 2
        await socket.send(pcm[:half])
        assert json.loads(await socket.recv())["segments"][0]["text"]
        await socket.send(pcm[half:])
        await socket.send(FINAL)
        assert (await listen(socket)).text.split() == some_words(6)


async def test_what_is_left_to_say_comes_without_more_audio(emulators: Serve) -> None:
    running = await emulators(update_every_s=0.3, text_timeout_s=0.2)
    async with dial(running) as socket:
        await socket.send(encode(["river"]))
        assert not json.loads(await socket.recv())["words"][0]["is_final"]
        assert json.loads(await socket.recv())["words"][0]["is_final"]


async def test_traces_and_clearing_are_echoed(emulator: Running) -> None:
    async with dial(emulator) as socket:
        await socket.send('{"event_id": "e1", "object": "stt.input.trace", "trace_id": "final"}')
        assert json.loads(await socket.recv()) == {"event_id": "e1", "object": "stt.output.trace", "trace_id": "final"}
        await socket.send('{"event_id": "e2", "object": "stt.state.clear", "reset_id": "r"}')
        assert json.loads(await socket.recv()) == {"event_id": "e2", "object": "stt.state.cleared", "reset_id": "r"}


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {"Authorization": "fw_x"}),
        ("", {"Authorization": "Bearer fw_x"}),
        ("Authorization=fw_x", {}),
        ("authorization=Bearer%20fw_x", {}),
    ],
)
async def test_the_key_comes_bare_or_as_bearer_in_header_or_query(
    emulator: Running, query: str, headers: dict[str, str]
) -> None:
    async with dial(emulator, query, headers) as socket:
        assert (await speak(socket, ["river"])).text == "river"


@pytest.mark.parametrize(
    ("query", "headers", "status", "says"),
    [
        ("", {}, 401, "missing"),
        ("", {"Authorization": "sk_wrong"}, 401, "not valid|invalid"),
        ("language=klingon", KEY, 400, "language"),
        ("vad_kwargs=threshold", KEY, 400, "vad_kwargs"),
        ("x-emulator-fault=503=7", KEY, 503, "fault"),
        ("x-emulator-fault=explode", KEY, 400, "explode"),
    ],
)
async def test_an_upgrade_is_refused_with_a_status_and_a_reason(
    emulator: Running, query: str, headers: dict[str, str], status: int, says: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await dial(emulator, query, headers).__aenter__()
    response = refused.value.response
    body = json.loads(response.body)
    assert response.status_code == status
    assert any(word in str(body) for word in says.split("|"))
    assert (await stats(emulator))["refused"] == 1


async def test_bearer_can_be_switched_off(emulators: Serve) -> None:
    running = await emulators(bearer=False)
    with pytest.raises(InvalidStatus):
        await dial(running, headers={"Authorization": "Bearer fw_x"}).__aenter__()


async def test_connections_can_be_limited(emulators: Serve) -> None:
    running = await emulators(max_connections=1)
    async with dial(running):
        with pytest.raises(InvalidStatus) as refused:
            await dial(running).__aenter__()
        assert refused.value.response.status_code == 429

    async def none_open() -> bool:
        return bool((await stats(running))["open"] == 0)

    await eventually_async(none_open)
    async with dial(running) as socket:
        assert (await speak(socket, ["river"])).text == "river"


async def test_a_server_that_goes_says_so() -> None:
    running = await serve(EmulatorConfig())
    async with dial(running) as socket:
        await socket.send(encode(["river"]))
        await socket.recv()
        closing = asyncio.create_task(running.close())
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        await closing
    assert socket.close_code == 1001


@pytest.mark.requirement("EMU-04")
class TestFaults:
    """What only a connection can show."""

    async def test_a_connection_can_end_without_a_close_frame(self, emulator: Running) -> None:
        async with dial(emulator, "x-emulator-fault=drop_after=500") as socket:
            with pytest.raises(ConnectionClosedError) as closed:
                await speak(socket, some_words(200))
        assert closed.value.rcvd is None
        assert (await stats(emulator))["audio_ms"] == 500

    @pytest.mark.parametrize("code", [1001, 1011, 1012])
    async def test_a_connection_can_be_closed_with_any_code(self, emulator: Running, code: int) -> None:
        async with dial(emulator, headers=KEY | {"x-emulator-fault": f"close_after=0,code={code}"}) as socket:
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        assert socket.close_code == code

    async def test_an_error_in_band_is_followed_by_1011(self, emulator: Running) -> None:
        async with dial(emulator, "x-emulator-fault=error_after=0") as socket:
            assert json.loads(await socket.recv())["error"]["code"] == "internal_server_error"
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
        assert socket.close_code == 1011

    async def test_a_stalled_server_stays_and_answers_pings_only(self, emulator: Running) -> None:
        async with dial(emulator, "x-emulator-fault=stall_after=0") as socket:
            await socket.send(encode(some_words(5)))
            await socket.send(FINAL)
            await (await socket.ping())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.recv(), 0.1)

    async def test_a_deaf_server_answers_no_ping_and_goes_with_its_client(self, emulator: Running) -> None:
        async with dial(emulator, "x-emulator-fault=deaf_after=0", close_timeout=0.1) as socket:
            pong = await socket.ping()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(pong), 0.1)

        async def gone() -> bool:
            return bool((await stats(emulator))["open"] == 0)

        await eventually_async(gone)

    async def test_a_slow_echo_comes_late_and_others_overtake_it(self, emulator: Running) -> None:
        async with dial(emulator, "x-emulator-fault=slow_echo=200") as socket:
            await socket.send('{"event_id": "e1", "object": "stt.input.trace", "trace_id": "t"}')
            await socket.send('{"event_id": "e2", "object": "stt.state.clear", "reset_id": "r"}')
            kinds = [json.loads(await socket.recv())["object"] for _ in range(2)]
        assert kinds == ["stt.state.cleared", "stt.output.trace"]

    async def test_only_the_first_connections_fail(self, emulators: Serve) -> None:
        running = await emulators(SpeechRule(faults=("503",), times=1), SpeechRule(faults=("drop_after=0",), times=1))
        with pytest.raises(InvalidStatus):
            await dial(running).__aenter__()
        async with dial(running) as socket:
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
        async with dial(running) as socket:
            assert (await speak(socket, ["river"])).text == "river"
        running.reset()
        with pytest.raises(InvalidStatus):
            await dial(running).__aenter__()

    async def test_a_request_may_ask_for_a_fault_that_is_used_up(self, emulator: Running) -> None:
        query = "x-emulator-fault=503,times=1"
        with pytest.raises(InvalidStatus):
            await dial(emulator, query).__aenter__()
        async with dial(emulator, query) as socket:
            assert (await speak(socket, ["river"])).text == "river"

    async def test_a_rule_strikes_only_the_connections_it_is_for(self, emulators: Serve) -> None:
        running = await emulators(SpeechRule(when=SpeechWhen(prompt="unlucky"), faults=("401",)))
        async with dial(running, "prompt=lucky") as socket:
            assert (await speak(socket, ["river"])).text == "river"
        with pytest.raises(InvalidStatus):
            await dial(running, "prompt=an%20unlucky%20one").__aenter__()

    async def test_a_scene_can_script_speech(self) -> None:
        scene = Scene(speech=SpeechConfig(rules=(SpeechRule(faults=("429",), times=1),)))
        running = await serve(EmulatorConfig(scene=scene))
        with pytest.raises(InvalidStatus):
            await dial(running).__aenter__()
        await running.close()
