"""Speech: the audio that producers write, the provider's live transcription, and its transcription of files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from api_contracts.stt_files import FileModel, FileTask


@dataclass(slots=True)  # not frozen: see `AudioArrived`
class AudioEntry:
    """One entry of a session's audio stream: raw audio, or a control (an empty object for what is neither).

    `missed`: how many entries are gone between the one that was read before it and this one; None: nobody knows.
    """

    id: str
    pcm: bytes | None
    control: Mapping[str, Any]
    missed: int | None = 0


class AudioStreams(Protocol):
    """The audio of all sessions of the process, through the same one reader as the inboxes."""

    def watch(self, run_id: str, after: str, deliver: Callable[[AudioEntry], None]) -> Callable[[], None]:
        """Call `deliver` on the loop for each entry after id `after` (`"0"` for all); return the way to stop.

        The first entry behind others that were trimmed before they could be read tells so (`AudioEntry.missed`).
        """
        ...

    async def trim(self, run_id: str, before: str) -> None:
        """Drop the entries before this one. Raise `StoreUnavailable`."""
        ...

    async def hold(self, run_id: str, full: bool) -> None:
        """Have clients refuse more audio, until another worker owns the session, or let them.

        Raise `StoreUnavailable`.
        """
        ...


class SpeechLost(Exception):
    """A connection could not be opened, or ended.

    `code` is the websocket's close code, or the HTTP status that refused it; None for neither.
    """

    def __init__(
        self, reason: str, *, code: int | None = None, retryable: bool = True, retry_after_s: float | None = None
    ) -> None:
        self.reason = reason
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        super().__init__(f"{code}: {reason}" if code is not None else reason)


class SpeechLine(Protocol):
    """One open websocket (WIRE 2). One task sends, another receives."""

    def offer(self, message: bytes | str) -> bool:
        """Send audio or a text message if that needs no waiting; else return False: it was not sent, `send` it."""
        ...

    def hand_to(self, take: Callable[[str | bytes], None]) -> None:
        """From now on call `take` on the loop for each message that comes. Those before it, those that cannot be handed
        over as they come, and the end, `receive` tells: in order, if its caller takes what it returns at once."""
        ...

    async def send(self, message: bytes | str) -> None:
        """Send audio or a text message, within a deadline. Raise `SpeechLost`."""
        ...

    async def receive(self) -> str | bytes:
        """Return the next message. Raise `SpeechLost` when the peer closed or vanished."""
        ...

    async def close(self) -> None:
        """Close, within a bound. Never raises; twice is as good as once."""
        ...


class SpeechService(Protocol):
    """The provider's live speech-to-text."""

    async def connect(self, query: Sequence[tuple[str, str]], *, credential: str | None) -> SpeechLine:
        """Open a websocket with these pairs as its query. Raise `SpeechLost`."""
        ...


@dataclass(frozen=True, slots=True)
class FileAsked:
    """A whole file for the provider (WIRE 2.10). `file` is its bytes, or the URL that the provider fetches."""

    task: FileTask
    model: FileModel
    fields: Sequence[tuple[str, str]]
    file: bytes | str
    filename: str


class Transcriber(Protocol):
    """The provider's speech-to-text of whole files."""

    async def transcribe(self, asked: FileAsked, *, credential: str | None, request_id: str) -> bytes:
        """Return the body of the answer. Raise `ProviderFailed`. A cancelled call closes its connection."""
        ...
