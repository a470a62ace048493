"""The provider's speech-to-text of files over real sockets: the emulator, and a server that misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from api_contracts.stt_files import SttFileRequest
from tests.unit.emulator.speech.speaking import some_words
from workers.adapters.fireworks.files import FileTimeouts, FireworksFiles
from workers.core.stt.files.answer import Transcript, read_answer
from workers.core.stt.files.form import fields_of
from workers.emulator import EmulatorConfig, Running, serve
from workers.emulator.speech import SpeechConfig, encode, write_wav
from workers.ports import FileAsked, ProviderFailed

pytestmark = pytest.mark.requirement("STT-19")

KEY = "fw_test_key"
SPOKEN = some_words(14)
FILE = write_wav(encode(SPOKEN))
URL = "https://example.org/talk.mp3"


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    running = await serve(EmulatorConfig(speech=SpeechConfig(max_file_bytes=512 * 1024)))
    yield running
    await running.close()


@asynccontextmanager
async def files(base: str, **times: float) -> AsyncIterator[FireworksFiles]:
    made = FireworksFiles({"whisper-v3": base}, lambda name: {None: KEY}[name], timeouts=FileTimeouts(**times))
    try:
        yield made
    finally:
        await made.close()


def asked(file: bytes | str = FILE, **fields: Any) -> FileAsked:
    request = SttFileRequest.model_validate({"url": URL} | fields)
    task = "translate" if request.translate else "transcribe"
    return FileAsked(task, request.model, fields_of(request), file, "talk.wav")


async def ask(base: str, wanted: FileAsked, *, credential: str | None = None, **times: float) -> bytes:
    async with files(base, **times) as made:
        return await made.transcribe(wanted, credential=credential, request_id="run-1.1")


async def refused(base: str, wanted: FileAsked, **more: Any) -> Any:
    with pytest.raises(ProviderFailed) as caught:
        await ask(base, wanted, **more)
    assert KEY not in str(caught.value)
    return caught.value.failure


async def test_every_format_of_a_file_is_read(emulator: Running) -> None:
    for form in ("json", "text", "srt", "vtt", "verbose_json"):
        heard = read_answer(form, await ask(f"{emulator.url}/v1", asked(response_format=form)))
        assert isinstance(heard, Transcript)
        assert heard.text.split() == SPOKEN
    assert [word.word for word in heard.words] == SPOKEN
    assert heard.duration_s == pytest.approx(14 * 0.235)
    own = read_answer("srt", await ask(f"{emulator.url}/v1", asked(response_format="srt")))
    assert isinstance(own, Transcript)
    assert own.srt == heard.srt, "the provider's subtitles and those made of its segments are the same"


async def test_a_translation_has_its_own_endpoint_and_a_url_is_the_providers_to_fetch(emulator: Running) -> None:
    async def talk(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=FILE)

    async with scripted(talk) as storage:
        body = await ask(f"{emulator.url}/v1", asked(f"{storage}/talk.wav", translate=True))
    assert b'"task": "translate"' in body
    assert emulator.stats.speech.files == 1


@pytest.mark.requirement("RUN-09")
async def test_refusals_are_failures_of_the_one_shape(emulator: Running) -> None:
    base = f"{emulator.url}/v1"
    large = await refused(base, asked(bytes(600 * 1024)))
    assert (large.code, large.provider_status, large.retryable) == ("provider_too_large", 413, False)
    noise = await refused(base, asked(b"no sound"))
    assert (noise.code, noise.at_fault, noise.retryable) == ("provider_bad_request", "caller", False)
    unknown = await refused(base, asked(), credential="nobody")
    assert (unknown.code, unknown.at_fault) == ("unknown_credential", "caller")


async def test_the_request_is_a_form_with_the_bare_key_and_a_retry_after_is_heeded() -> None:
    seen: dict[str, Any] = {}

    async def busy(request: web.Request) -> web.StreamResponse:
        seen.update(path=request.path, headers=request.headers.copy(), parts=[])
        async for part in await request.multipart():
            seen["parts"].append((part.name, getattr(part, "filename", None), len(await part.read())))  # type: ignore[union-attr]
        return web.json_response(
            {"error": "Too Many Requests", "message": f"of {KEY}"}, status=429, headers={"Retry-After": "7"}
        )

    async with scripted(busy) as base:
        failure = await refused(base, asked())
    assert (failure.code, failure.retryable, failure.retry_after_s) == ("provider_rate_limited", True, 7.0)
    assert seen["path"] == "/audio/transcriptions"
    assert (seen["headers"]["Authorization"], seen["headers"]["x-request-id"]) == (KEY, "run-1.1")
    assert seen["parts"][-1] == ("file", "talk.wav", len(FILE))


async def test_a_silent_provider_and_a_lost_connection_end_the_attempt() -> None:
    async def silent(_request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    async def rude(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    over = asyncio.Event()
    async with scripted(silent) as base:
        assert (await refused(base, asked(), total_s=0.2)).code == "provider_total_timeout"
        over.set()
    async with scripted(rude) as base:
        lost = await refused(base, asked())
    assert (lost.code, lost.retryable) == ("provider_connection_lost", True)
    away = await refused("http://127.0.0.1:1", asked())
    assert (away.code, away.retryable) == ("provider_unreachable", True)


@asynccontextmanager
async def scripted(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site.name
    finally:
        await runner.cleanup()
