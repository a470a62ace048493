"""Prerecorded speech: a whole sound file into text, as a run of its own (WIRE 2.10). Times are seconds of the file.

    client.stt.transcribe(url="https://example.org/talk.mp3").text
    client.stt.translate(Path("talk.flac"), response_format="verbose_json").vtt

The file is named by its URL, which the provider fetches, or comes with the request: then up to 64 MB of it, in base64.
"""

import base64
import binascii
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api_contracts.failure import Failure
from api_contracts.runs import EventData, Request, Result, UsageEvent
from api_contracts.stt import Granularity

FileModel = Literal["whisper-v3", "whisper-v3-turbo"]
FileFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
FileTask = Literal["transcribe", "translate"]

MOST_AUDIO_BYTES: Final = 64 * 2**20
"""Of a file that comes with its request: it lies in Redis until the run is forgotten. The provider takes 1 GB."""

_Temperature = Annotated[float, Field(ge=0, le=1)]


class SttFileRequest(Request):
    """A file to transcribe, or to translate into English. Fields that are unset are left out of the wire."""

    url: Annotated[str, StringConstraints(min_length=8, max_length=8192)] | None = None
    """`http://` or `https://`; the provider fetches it."""
    audio_b64: str | None = Field(default=None, json_schema_extra={"contentEncoding": "base64"})
    """The file itself, in any form that the provider reads; 64 MB at most before base64."""
    filename: Annotated[str, StringConstraints(pattern=r'^[^\x00-\x1f"\\/\x7f]{1,255}$')] = "audio"
    """What the provider is told that the file is called."""
    translate: bool = False
    """Into English; then neither `language` nor `diarize`."""
    model: FileModel = "whisper-v3"
    vad_model: Literal["silero", "whisperx-pyannet"] | None = None
    alignment_model: Literal["mms_fa", "tdnn_ffn", "gentle"] | None = None
    language: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z]{2,8})?$")] | None = None
    prompt: Annotated[str, StringConstraints(max_length=8192)] | None = None
    temperature: _Temperature | Annotated[list[_Temperature], Field(min_length=1, max_length=16)] | None = None
    """From 0 to 1; a list is tried in its order."""
    response_format: FileFormat = "verbose_json"
    """`verbose_json` gives all that there is, subtitles too; `srt` and `vtt` those of the provider, `json` and `text`
    the text alone."""
    timestamp_granularities: Annotated[list[Granularity], Field(min_length=1, max_length=2)] | None = None
    """Unset: words and segments, where the form of the answer has them."""
    diarize: bool | None = None
    """Who speaks; needs `verbose_json` and words."""
    min_speakers: int | None = Field(default=None, ge=1)
    max_speakers: int | None = Field(default=None, ge=1)
    preprocessing: Literal["none", "dynamic", "soft_dynamic", "bass_dynamic"] | None = None

    @property
    def granularities(self) -> list[Granularity]:
        """Return which times are asked for."""
        if self.timestamp_granularities is not None:
            return self.timestamp_granularities
        return ["word", "segment"] if self.response_format == "verbose_json" else []

    @model_validator(mode="after")
    def _has_one_file(self) -> Self:
        if (self.url is None) == (self.audio_b64 is None):
            raise ValueError("give one of url and audio_b64")
        if self.url is not None:
            _check_url(self.url)
        if self.audio_b64 is not None:
            _check_audio(self.audio_b64)
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.translate and (self.language is not None or self.diarize is not None):
            raise ValueError("a translation takes neither language nor diarize")
        if self.diarize and not (self.response_format == "verbose_json" and "word" in self.granularities):
            raise ValueError("diarize needs verbose_json and timestamps of words")
        if (self.max_speakers or self.min_speakers or 1) < (self.min_speakers or 1):
            raise ValueError("max_speakers must be no less than min_speakers")
        return self


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not (is_good and url.isascii() and url.isprintable() and " " not in url):
        raise ValueError("url must be an http:// or https:// URL, with what is not ASCII quoted")


def _check_audio(text: str) -> None:
    """Errors say nothing of what was in it."""
    size = len(text) // 4 * 3 - text[-2:].count("=")
    if size > MOST_AUDIO_BYTES:
        raise ValueError(f"the file is over {MOST_AUDIO_BYTES // 2**20} MB: give its url instead (up to 1 GB)")
    try:
        base64.b64decode(text, validate=True)
        is_base64 = True
    except (binascii.Error, ValueError):
        is_base64 = False
    if not is_base64:
        raise ValueError("audio_b64 is not base64")
    if size == 0:
        raise ValueError("the file is empty")


# -- the result --------------------------------------------------------------------------------------------------------


class FileWord(BaseModel):
    """A word, as the provider tells it (WIRE 2.10)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    word: str
    start: float
    end: float
    language: str | None = None
    probability: float | None = None
    hallucination_score: float | None = None
    speaker_id: str | None = None


class FileSegment(BaseModel):
    """A segment, as the provider tells it (WIRE 2.10)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: int
    text: str
    start: float
    end: float
    language: str | None = None
    speaker_id: str | None = None
    temperature: float | None = None
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None


class SttFileResult(Result):
    """What a file came to."""

    kind: str = "stt_file"
    text: str = ""
    language: str | None = None
    duration_s: float | None = None
    """Of the file; known from `verbose_json`."""
    segments: list[FileSegment] = Field(default_factory=list)
    words: list[FileWord] = Field(default_factory=list)
    srt: str | None = None
    """Subtitles: the provider's where they were asked for, made of the segments where it was `verbose_json`."""
    vtt: str | None = None
    """The same as WebVTT."""
    attempts: int = 0
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds from the submit: `queued_s` to the first lease, `total_s`."""


# -- events ------------------------------------------------------------------------------------------------------------


class SttRequested(EventData):
    """The provider is asked for the transcript of the whole file."""

    TYPE = "stt.requested"
    attempt: int
    """Counts from 1."""
    model: str
    task: FileTask


class SttReplaced(EventData):
    """An attempt came to nothing. `retry_at`: when the next one may begin (seconds since 1970)."""

    TYPE = "stt.replaced"
    attempt: int
    reason: str
    failure: Failure | None = None
    retry_at: float | None = None


class SttTranscribed(UsageEvent):
    """The transcript is here; the run's end, which has it, follows."""

    TYPE = "stt.transcribed"
    attempt: int
    model: str
    duration_s: float | None = None
    """Of the file, as far as the provider tells: what it counts."""


STT_FILE_EVENTS: tuple[type[EventData], ...] = (SttRequested, SttReplaced, SttTranscribed)
