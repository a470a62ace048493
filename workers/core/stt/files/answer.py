"""What the provider answers to a file, in each of its formats (WIRE 2.10). Pure: bytes in, a `Transcript` out."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from api_contracts.failure import Failure
from api_contracts.stt_files import FileFormat, FileSegment, FileWord
from workers.core.stt.files.captions import srt_of, text_of, vtt_of
from workers.core.text import storable

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a file came to."""

    text: str
    language: str | None = None
    duration_s: float | None = None
    segments: list[FileSegment] = field(default_factory=list)
    words: list[FileWord] = field(default_factory=list)
    srt: str | None = None
    vtt: str | None = None


UNREADABLE: Final = Failure(
    code="provider_unexpected_answer", category="protocol", at_fault="provider", retryable=True,
    message="the provider's transcript is not in the form that was asked for",
)  # fmt: skip


def read_answer(form: FileFormat, body: bytes) -> Transcript | Failure:
    """Return the transcript in an answer of 200, or why it is none."""
    try:
        text = storable(body.decode())
        match form:
            case "text":
                return Transcript(text.strip())
            case "srt":
                return Transcript(text_of(text), srt=text)
            case "vtt":
                return Transcript(text_of(text), vtt=text)
            case "json" | "verbose_json":
                return _spoken(json.loads(text), verbose=form == "verbose_json")
    except (ValueError, RecursionError):  # no UTF-8, no JSON, no transcript
        return UNREADABLE


def _spoken(said: Any, *, verbose: bool) -> Transcript:
    if not isinstance(said, dict) or not isinstance(text := said.get("text"), str):
        raise ValueError("no transcript")
    if not verbose:
        return Transcript(storable(text))
    segments = _all(FileSegment, said.get("segments"))
    words = _all(FileWord, said.get("words"))
    if not words:  # they may stand in the segments alone
        inner = [each.get("words") for each in said.get("segments") or () if isinstance(each, dict)]
        words = [word for each in inner for word in _all(FileWord, each)]
    language, duration = said.get("language"), said.get("duration")
    return Transcript(
        storable(text), storable(language) if isinstance(language, str) else None, _seconds(duration), segments, words,
        srt_of(segments) if segments else None, vtt_of(segments) if segments else None,
    )  # fmt: skip


def _all(cls: type[M], listed: Any) -> list[M]:
    """Return what can be read of a list. Who speaks is a number or a string; we tell it as a string."""
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise ValueError("no list")
    return [cls.model_validate(_plain(each)) for each in listed]


def _plain(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("no object")
    kept = {name: storable(each) if isinstance(each, str) else each for name, each in value.items()}
    speaker = kept.get("speaker_id")
    return kept if speaker is None else kept | {"speaker_id": str(speaker)}


def _seconds(value: Any) -> float | None:
    """Return a length of time; some tell it as text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number >= 0 else None
