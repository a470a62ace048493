"""Whole files over HTTP, and a real voice on both roads."""

import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.client import connect

import workers.cli.demo
from tests.unit.emulator.speech.speaking import View, frames, some_words
from workers.emulator import EmulatorConfig, Running, serve
from workers.emulator.speech import SpeechConfig, encode, read_wav, write_wav

pytestmark = pytest.mark.requirement("EMU-01")

SPOKEN = some_words(14)
FILE = write_wav(encode(SPOKEN))
VOICE = Path(workers.cli.demo.__file__).parent / "voice" / "sense-and-sensibility.wav"
KEY = {"Authorization": "Bearer fw_x"}


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    """A server that takes files up to 512 KB."""
    running = await serve(EmulatorConfig(speech=SpeechConfig(max_file_bytes=512 * 1024)))
    yield running
    await running.close()


async def _post(
    running: Running,
    file: bytes | str | None = FILE,
    path: str = "transcriptions",
    headers: dict[str, str] | None = None,
    **fields: str,
) -> tuple[int, str]:
    form = aiohttp.FormData(default_to_multipart=True)
    if isinstance(file, bytes):
        form.add_field("file", file, filename="sound.wav", content_type="audio/wav")
    elif file is not None:
        form.add_field("file", file)
    for name, value in fields.items():
        form.add_field(name, value)
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{running.url}/v1/audio/{path}", data=form, headers=KEY if headers is None else headers) as response,
    ):
        return response.status, await response.text()


async def test_a_file_is_transcribed(emulator: Running) -> None:
    assert await _post(emulator) == (200, json.dumps({"text": " ".join(SPOKEN)}))
    assert emulator.stats.speech.files == 1
    assert emulator.stats.speech.words == 14


async def test_the_long_format_has_times(emulator: Running) -> None:
    status, text = await _post(emulator, response_format="verbose_json", timestamp_granularities="word,segment")
    body = json.loads(text)
    assert status == 200
    assert body["duration"] == pytest.approx(14 * 0.235)
    assert [word["word"] for word in body["words"]] == SPOKEN
    assert body["words"][1]["start"] == 0.235
    assert [segment["id"] for segment in body["segments"]] == [0, 1]


@pytest.mark.parametrize(("name", "begins"), [("srt", "1\n00:00:00,000 --> "), ("vtt", "WEBVTT\n\n00:00:00.000 --> ")])
async def test_subtitles_are_text(emulator: Running, name: str, begins: str) -> None:
    status, text = await _post(emulator, response_format=name)
    assert (status, text[: len(begins)]) == (200, begins)


async def test_a_translation_says_what_it_is(emulator: Running) -> None:
    status, text = await _post(emulator, path="translations", response_format="verbose_json")
    assert (status, json.loads(text)["task"]) == (200, "translate")


async def test_a_file_can_be_given_by_its_address(emulator: Running) -> None:
    app = web.Application()

    async def sound(_request: web.Request) -> web.Response:
        return web.Response(body=FILE)

    app.router.add_get("/sound.wav", sound)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    assert await _post(emulator, f"{address}/sound.wav") == (200, json.dumps({"text": " ".join(SPOKEN)}))
    status, text = await _post(emulator, f"{address}/other.wav")
    assert (status, "could not be read" in text) == (400, True)
    await runner.cleanup()


@pytest.mark.requirement("EMU-04")
@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        ({"headers": {}}, 401, "missing"),
        ({"headers": {"Authorization": "sk_x"}}, 403, "invalid"),
        ({"headers": KEY | {"x-emulator-fault": "429"}}, 429, "fault"),
        ({"file": None}, 400, "file is missing"),
        ({"file": "sound.wav"}, 400, "URL"),
        ({"file": b"not a sound"}, 400, "WAV"),
        ({"file": bytes(600 * 1024)}, 413, "too large"),
        ({"diarize": "true"}, 400, "diarize"),
        ({"model": "whisper-1"}, 400, "model"),
    ],
)
async def test_a_refusal_has_the_shape_of_the_audio_hosts(
    emulator: Running, request_: dict[str, Any], status: int, says: str
) -> None:
    answered, text = await _post(emulator, **request_)
    body = json.loads(text)
    assert answered == status
    assert isinstance(body["error"], str)
    assert says in body["message"]


async def test_a_body_that_is_no_form_is_refused(emulator: Running) -> None:
    url = f"{emulator.inference_url}/audio/transcriptions"
    async with aiohttp.ClientSession() as http, http.post(url, json={}, headers=KEY) as response:
        assert (response.status, "multipart" in await response.text()) == (400, True)


@pytest.mark.requirement("EMU-02")
@pytest.mark.skipif(not importlib.util.find_spec("pocketsphinx"), reason="pocketsphinx is not installed")
async def test_a_real_voice_is_heard_live_and_as_a_file(emulator: Running) -> None:
    status, text = await _post(emulator, VOICE.read_bytes())
    assert status == 200
    assert json.loads(text)["text"].startswith("had he married a more amiable woman he might have been made still more")

    view = View()
    url = f"{emulator.speech_url}/audio/transcriptions/streaming?timestamp_granularities=word"
    async with connect(url, additional_headers={"Authorization": "fw_x"}) as socket:
        for piece in frames(read_wav(VOICE.read_bytes())):
            await socket.send(piece)
        await socket.send('{"checkpoint_id": "final"}')
        async for message in socket:
            body = json.loads(message)
            if "checkpoint_id" in body:
                break
            view.take(body)
    assert view.text == json.loads(text)["text"]
    assert any(not word["is_final"] for update in view.updates for word in update["words"])
    assert all(word["is_final"] for word in view.words)


@pytest.mark.requirement("EMU-04")
async def test_a_connection_can_end_before_anything_is_answered(emulator: Running) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await _post(emulator, headers=KEY | {"x-emulator-fault": "refuse"})
    assert emulator.stats.speech.files == 0
