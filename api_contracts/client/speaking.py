"""`client.stt`, in both faces: open a session, speak, hang up. Any Redis client can do the same (`api_contracts.stt`).

session = client.stt.open(language="en")
for piece in microphone:          # 16 000 samples a second, signed 16 bit, one channel
    session.send_audio(piece)
session.end()
for event in session.follow():    # from another thread, or task, while you speak
    ...

A whole file, or its URL, is a run of its own (`api_contracts.stt_files`):

text = client.stt.transcribe(Path("talk.mp3")).text
subtitles = client.stt.translate("https://example.org/talk.mp3").vtt
run_id = client.stt.files.submit(url="https://example.org/talk.mp3")    # and `client.stt.files.result(run_id)`
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api_contracts.client.facets import AsyncSttFiles, SttFiles
from api_contracts.client.scripts import ScriptCall, audio_call
from api_contracts.client.submission import checked, expect
from api_contracts.failure import AudioRefused, RunNotFound
from api_contracts.keys import check_run_id
from api_contracts.runs import Event
from api_contracts.stt import AudioControl, ChangeOptions, Clear, End, Flush, SttRequest, SttResult
from api_contracts.stt_files import MOST_AUDIO_BYTES, SttFileResult

if TYPE_CHECKING:
    from api_contracts.client.aio import AsyncClient
    from api_contracts.client.sync import Client

Pcm = bytes | bytearray | memoryview
"""Audio as a producer has it; it is copied at once."""

File = Pcm | Path | str
"""A whole file: its bytes, its path (`pathlib.Path`), or its URL (text)."""

MOST_BYTES = 64 * 1024
"""Largest entry that the client writes: two seconds. Longer audio is written as several."""


class Stt:
    """`client.stt`. `files` has the verbs of all kinds of run for whole files."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self.files = SttFiles(client)

    def open(
        self, request: SttRequest | Mapping[str, Any] | None = None, *, run_id: str | None = None, **fields: Any
    ) -> "Session":
        """Submit a session and return its handle; audio may be sent at once, a worker reads it when it is there.

        Raises pydantic's ValidationError before anything is sent, RunConflict when the id has another request.
        """
        asked = checked(SttRequest, request, fields)
        return Session(self._client, self._client._submit("stt", asked, run_id, {}))  # noqa: SLF001 - one object

    def session(self, run_id: str) -> "Session":
        """Return the handle of a session that was opened before, here or elsewhere."""
        return Session(self._client, check_run_id(run_id))

    def transcribe(self, file: File, *, timeout_s: float | None = None, **fields: Any) -> SttFileResult:
        """Have a whole file transcribed, and wait for it: its path, its bytes, or a URL that the provider fetches.

        `fields` are those of `SttFileRequest`, and `run_id`. Raises OSError, and pydantic's ValidationError before
        anything is sent: a file has 64 MB at most.
        """
        return self.files.complete(file_fields(file, fields), timeout_s=timeout_s, **fields)

    def translate(self, file: File, *, timeout_s: float | None = None, **fields: Any) -> SttFileResult:
        """Like `transcribe`, into English."""
        return self.transcribe(file, timeout_s=timeout_s, **{**fields, "translate": True})


class Session:
    """A session as its producer sees it. Sending needs no order but the caller's own: one thread speaks."""

    def __init__(self, client: "Client", run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def send_audio(self, pcm: Pcm) -> bool:
        """Append audio in the form that the request names, any length; return False when the session is over.

        Raises RunNotFound, and AudioRefused when too much audio waits already (`SttRequest.backlog_s`): send what was
        not taken later. Raises redis' ConnectionError when Redis is away: then the piece may or may not be there.
        """
        sent = 0
        for call in audio_calls(self.run_id, pcm, self._client.settings.live_ttl_s):
            if not is_sent(self.run_id, self._client._script(call), sent):  # noqa: SLF001 - one object, two names
                return False
            sent += len(bytes_of(call))
        return True

    def flush(self) -> bool:
        """Have the rest of a frame sent now."""
        return self._control(Flush())

    def clear(self) -> bool:
        """Begin anew with another speaker or topic."""
        return self._control(Clear())

    def change_options(self, **options: Any) -> bool:
        """Go on with other options (fields of `SttOptions`); None goes back to the provider's own.

        Raises pydantic's ValidationError before anything is sent. What the provider refuses comes as `stt.trouble`.
        """
        return self._control(ChangeOptions(**options))

    def end(self) -> bool:
        """Hang up: what was sent is transcribed, then the run completes."""
        return self._control(End())

    def cancel(self, reason: str = "") -> bool:
        """End at once; what was final stays in the result."""
        return self._client.cancel(self.run_id, reason)

    def follow(self, after: int = 0, *, timeout_s: float | None = None) -> Iterator[Event]:
        """See `Client.follow`."""
        return self._client.follow(self.run_id, after, timeout_s=timeout_s)

    def result(self, *, timeout_s: float | None = None) -> SttResult:
        """Return the result; wait for the session's end."""
        return expect(SttResult, self._client.result(self.run_id, timeout_s=timeout_s))

    def _control(self, control: AudioControl) -> bool:
        return self._append(control_call(self.run_id, control, self._client.settings.live_ttl_s))

    def _append(self, call: ScriptCall) -> bool:
        return is_sent(self.run_id, self._client._script(call))  # noqa: SLF001 - one object, two names


class AsyncStt:
    """`client.stt`, awaited."""

    def __init__(self, client: "AsyncClient") -> None:
        self._client = client
        self.files = AsyncSttFiles(client)

    async def open(
        self, request: SttRequest | Mapping[str, Any] | None = None, *, run_id: str | None = None, **fields: Any
    ) -> "AsyncSession":
        """See `Stt.open`."""
        asked = checked(SttRequest, request, fields)
        return AsyncSession(self._client, await self._client._submit("stt", asked, run_id, {}))  # noqa: SLF001

    def session(self, run_id: str) -> "AsyncSession":
        """See `Stt.session`."""
        return AsyncSession(self._client, check_run_id(run_id))

    async def transcribe(self, file: File, *, timeout_s: float | None = None, **fields: Any) -> SttFileResult:
        """See `Stt.transcribe`."""
        asked = await asyncio.to_thread(file_fields, file, fields)
        return await self.files.complete(asked, timeout_s=timeout_s, **fields)

    async def translate(self, file: File, *, timeout_s: float | None = None, **fields: Any) -> SttFileResult:
        """See `Stt.translate`."""
        return await self.transcribe(file, timeout_s=timeout_s, **{**fields, "translate": True})


class AsyncSession:
    """`Session`, awaited. One task speaks."""

    def __init__(self, client: "AsyncClient", run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    async def send_audio(self, pcm: Pcm) -> bool:
        """See `Session.send_audio`."""
        sent = 0
        for call in audio_calls(self.run_id, pcm, self._client.settings.live_ttl_s):
            if not is_sent(self.run_id, await self._client._script(call), sent):  # noqa: SLF001 - one object
                return False
            sent += len(bytes_of(call))
        return True

    async def flush(self) -> bool:
        """See `Session.flush`."""
        return await self._control(Flush())

    async def clear(self) -> bool:
        """See `Session.clear`."""
        return await self._control(Clear())

    async def change_options(self, **options: Any) -> bool:
        """See `Session.change_options`."""
        return await self._control(ChangeOptions(**options))

    async def end(self) -> bool:
        """See `Session.end`."""
        return await self._control(End())

    async def cancel(self, reason: str = "") -> bool:
        """See `Session.cancel`."""
        return await self._client.cancel(self.run_id, reason)

    def follow(self, after: int = 0, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """See `Client.follow`."""
        return self._client.follow(self.run_id, after, timeout_s=timeout_s)

    async def result(self, *, timeout_s: float | None = None) -> SttResult:
        """See `Session.result`."""
        return expect(SttResult, await self._client.result(self.run_id, timeout_s=timeout_s))

    async def _control(self, control: AudioControl) -> bool:
        return await self._append(control_call(self.run_id, control, self._client.settings.live_ttl_s))

    async def _append(self, call: ScriptCall) -> bool:
        return is_sent(self.run_id, await self._client._script(call))  # noqa: SLF001 - one object, two names


def file_fields(file: File, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request that name a file. Raises OSError, TypeError.

    Of a file that is too large no more is read than shows it: the request is refused, with the reason.
    """
    if isinstance(file, str):
        return {"url": file}
    if not isinstance(file, Pcm | Path):
        raise TypeError(f"a file is bytes, a pathlib.Path or a URL, not {type(file).__name__}")
    named = {}
    if isinstance(file, Path):
        if "filename" not in given and file.name.isprintable():
            named["filename"] = "".join("_" if char in '"\\' else char for char in file.name)
        with file.open("rb") as opened:
            data = opened.read(MOST_AUDIO_BYTES + 3)
    else:
        data = bytes(file)
    return {"audio_b64": base64.b64encode(data).decode()} | named


def audio_calls(run_id: str, pcm: Pcm, ttl_s: float) -> Iterator[ScriptCall]:
    """Yield the appends of this audio, in order; none for no audio. Raises TypeError for what is no bytes."""
    if not isinstance(pcm, Pcm):
        raise TypeError(f"audio is bytes, not {type(pcm).__name__}")
    data = bytes(pcm)
    for start in range(0, len(data), MOST_BYTES):
        yield audio_call(run_id, "a", data[start : start + MOST_BYTES], ttl_s=ttl_s)


def bytes_of(call: ScriptCall) -> bytes:
    """Return the audio of an append."""
    return bytes(call.args[1]) if isinstance(call.args[1], bytes) else b""


def control_call(run_id: str, control: AudioControl, ttl_s: float) -> ScriptCall:
    """Return the append of a control. Fields that were not given are left out: absent means unchanged."""
    text = control.model_copy(update={"type": control.type}).model_dump_json(exclude_unset=True)
    return audio_call(run_id, "c", text, ttl_s=ttl_s)


def is_sent(run_id: str, reply: str, before: int = 0) -> bool:
    """Return what the script's reply means; so many bytes of the same audio were sent before."""
    if reply == "full":
        raise AudioRefused(run_id, before)
    if reply == "missing":
        raise RunNotFound(run_id)
    return reply == "sent"
