"""A transcription's one effect: send the file, and read the answer."""

import asyncio
import base64
from collections.abc import Callable

from api_contracts.failure import Failure
from api_contracts.stt_files import SttFileRequest
from workers.core.runs.frame import Effect
from workers.core.stt.files.acts import AskTranscript, StopAsking, TranscriptCame, TranscriptFailed
from workers.core.stt.files.answer import Transcript, read_answer
from workers.core.stt.files.form import fields_of
from workers.ports import FileAsked, ProviderFailed, Transcriber

Post = Callable[[object], None]


class SttFilePerformer:
    """`Performer` of a transcription. `chance` returns a number from 0 to 1."""

    def __init__(
        self, run_id: str, request: SttFileRequest, transcriber: Transcriber, chance: Callable[[], float]
    ) -> None:
        self._run_id = run_id
        self._request = request
        self._transcriber = transcriber
        self._chance = chance
        self._task: asyncio.Task[None] | None = None

    def perform(self, effect: Effect, post: Post) -> None:
        """See `Performer`."""
        match effect:
            case AskTranscript(attempt):
                self._task = asyncio.create_task(self._ask(attempt, post), name=f"{self._run_id}:file")
                self._task.add_done_callback(lambda task: _tell(task, post))
            case StopAsking():
                self._stop()
            case _:
                raise TypeError(f"a transcription has no effect {type(effect).__name__}")

    async def close(self) -> None:
        """See `Performer`."""
        self._stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _ask(self, attempt: int, post: Post) -> None:
        request = self._request
        file = request.url or base64.b64decode(request.audio_b64 or "")
        asked = FileAsked(
            "translate" if request.translate else "transcribe", request.model, fields_of(request), file,
            request.filename,
        )  # fmt: skip
        try:
            body = await self._transcriber.transcribe(
                asked, credential=request.credential, request_id=f"{self._run_id}.{attempt}"
            )
        except ProviderFailed as exc:
            came: Transcript | Failure = exc.failure
        else:
            came = await asyncio.to_thread(read_answer, request.response_format, body)
        if isinstance(came, Failure):
            post(TranscriptFailed(attempt, came, self._chance()))
        else:
            post(TranscriptCame(attempt, came))


def _tell(task: asyncio.Task[None], post: Post) -> None:
    if not task.cancelled() and isinstance(exc := task.exception(), Exception):
        post(exc)
