"""The JSON of what the server says (WIRE 2.5, 2.6, 2.8). Pure: values in, text out."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workers.emulator.speech.transcript import Segment, Word


@dataclass(frozen=True)
class Manner:
    """The switches of the wire for one connection."""

    language: str = "en"
    granularities: frozenset[str] = frozenset()
    ids: Literal["number", "string"] = "number"
    words: Literal["both", "segments", "top", "none"] = "both"
    errors: Literal["object", "string"] = "object"
    checkpoint: Literal["bare", "full"] = "bare"
    unordered: bool = False


def update(segments: Iterable[Segment], manner: Manner) -> str:
    """A transcription update."""
    told = list(segments)
    body: dict[str, Any] = {
        "task": "transcribe",
        "language": manner.language,
        "text": " ".join(segment.text for segment in told),
    }
    if manner.words in ("both", "top"):
        body["words"] = [word_json(word, manner) for segment in told for word in segment.words]
    order = reversed(told) if manner.unordered else told
    return _text(body | {"segments": [_segment(segment, manner) for segment in order]})


def word_json(word: Word, manner: Manner) -> dict[str, Any]:
    """A word; with times only if they were asked for."""
    body = {
        "word": word.text,
        "language": manner.language,
        "probability": word.probability,
        "hallucination_score": round(1 - word.probability, 3),
        "is_final": word.is_final,
    }
    return body | _times(word.start, word.end) if "word" in manner.granularities else body


def _segment(segment: Segment, manner: Manner) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": str(segment.id) if manner.ids == "string" else segment.id,
        "text": segment.text,
        "language": manner.language,
    }
    if "segment" in manner.granularities and segment.words:
        body |= _times(segment.words[0].start, segment.words[-1].end)
    if manner.words in ("both", "segments"):
        body["words"] = [word_json(word, manner) for word in segment.words]
    return body


def checkpoint(checkpoint_id: str, manner: Manner) -> str:
    """The echo of a checkpoint."""
    rest = {"task": "transcribe", "language": manner.language, "text": "", "segments": []}
    return _text({"checkpoint_id": checkpoint_id} | (rest if manner.checkpoint == "full" else {}))


def echo(message: Mapping[str, Any], kind: str, key: str) -> str:
    """The answer to a message with an event id."""
    return _text({"event_id": message.get("event_id"), "object": kind, key: message.get(key)})


def error(message: str, code: str, manner: Manner) -> str:
    """An error inside the connection."""
    return _text({"error": message if manner.errors == "string" else {"message": message, "code": code}})


def unknown() -> str:
    """A message of a kind that nobody knows."""
    return _text({"object": "stt.output.weather", "event_id": "e0", "outlook": "fair"})


def _times(start: float, end: float) -> dict[str, float]:
    return {"start": round(start, 4), "end": round(end, 4)}


def _text(body: Mapping[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False)
