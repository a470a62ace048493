"""Whole files into transcripts: reads the multipart form, fetches a URL if that is the file, runs an engine over it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Literal

from aiohttp import BodyPartReader, ClientError, ClientSession, ClientTimeout, web

from workers.emulator import errors
from workers.emulator.errors import Refused
from workers.emulator.speech.config import SpeechConfig
from workers.emulator.speech.engine import RATE, Engine, EngineMissing
from workers.emulator.speech.form import read_order
from workers.emulator.speech.formats import Rendered, render
from workers.emulator.speech.parameters import BadParameter
from workers.emulator.speech.state import SpeechStats
from workers.emulator.speech.tone_decoder import DAMAGED
from workers.emulator.speech.transcript import Segment, Telling, Transcript
from workers.emulator.speech.wav import BadAudio, read_wav

_PIECE = 2 * RATE  # bytes given to an engine at once: a second
_FETCH_TIMEOUT_S = 30


class Prerecorded:
    """Answers POST /audio/transcriptions and /audio/translations."""

    def __init__(self, config: SpeechConfig, make: Callable[[], Engine], threads: Executor, stats: SpeechStats) -> None:
        self._config = config
        self._make = make
        self._threads = threads
        self._stats = stats

    async def answer(self, request: web.Request, task: Literal["transcribe", "translate"]) -> web.StreamResponse:
        """The transcript. Raises Refused."""
        try:
            file, fields = await self._form(request)
            order = read_order(task, fields)
            pcm = read_wav(file)
        except (BadParameter, BadAudio) as error:
            raise bad_request(str(error)) from None
        loop = asyncio.get_running_loop()
        try:
            segments = await loop.run_in_executor(self._threads, self._transcribe, pcm)
        except EngineMissing as error:
            raise Refused(errors.e4("Not Implemented", str(error), 501)) from None
        self._count(pcm, segments)
        return _as_response(render(segments, len(pcm) / 2 / RATE, order))

    def _transcribe(self, pcm: bytes) -> tuple[Segment, ...]:
        telling = Telling(
            segment_words=self._config.segment_words,
            segment_gap_s=self._config.segment_gap_s,
            mishear_every=0,
            split_every=0,
            withdraw_every=0,
        )
        transcript, engine = Transcript(telling), self._make()
        try:
            for start in range(0, len(pcm), _PIECE):
                transcript.hear(engine.feed(pcm[start : start + _PIECE]), start // 2)
            transcript.hear(engine.finish(), len(pcm) // 2)
        finally:
            engine.close()
        transcript.conclude()
        return transcript.told()

    def _count(self, pcm: bytes, segments: tuple[Segment, ...]) -> None:
        words = [word.text for segment in segments for word in segment.words]
        self._stats.files += 1
        self._stats.audio_samples += len(pcm) // 2
        self._stats.words += len(words)
        self._stats.damaged += words.count(DAMAGED)

    async def _form(self, request: web.Request) -> tuple[bytes, list[tuple[str, str]]]:
        """The file and the text fields."""
        if request.content_type != "multipart/form-data":
            raise bad_request("the body must be multipart/form-data")
        file: bytes | None = None
        fields: list[tuple[str, str]] = []
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise bad_request("a part of the form is itself multipart")
            data = await self._limited(part)
            if part.name == "file":
                file = data if part.filename is not None else await self._fetch(data.decode("utf-8", "replace"))
            else:
                fields.append((part.name or "", data.decode("utf-8", "replace")))
        if file is None:
            raise bad_request("file is missing")
        return file, fields

    async def _limited(self, part: BodyPartReader) -> bytes:
        read = bytearray()
        while piece := await part.read_chunk():
            read += piece
            self._check_size(len(read))
        return bytes(read)

    async def _fetch(self, url: str) -> bytes:
        if not url.startswith(("http://", "https://")):
            raise bad_request("file must be a file or the URL of one")
        read = bytearray()
        try:
            timeout = ClientTimeout(_FETCH_TIMEOUT_S)
            async with ClientSession(timeout=timeout, raise_for_status=True) as http, http.get(url) as response:
                async for piece in response.content.iter_any():
                    read += piece
                    self._check_size(len(read))
        except (ClientError, TimeoutError, ValueError) as error:
            raise bad_request(f"the file's URL could not be read: {type(error).__name__}") from None
        return bytes(read)

    def _check_size(self, size: int) -> None:
        if size > self._config.max_file_bytes:
            raise Refused(errors.e4("Request Entity Too Large", "The file is too large.", 413))


def bad_request(message: str) -> Refused:
    """A 400 in the audio hosts' shape."""
    return Refused(errors.e4("Bad Request", message, 400))


def _as_response(rendered: Rendered) -> web.Response:
    return web.Response(text=rendered.text, content_type=rendered.content_type)
