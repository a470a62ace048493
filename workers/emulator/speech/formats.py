"""A whole transcript in the five response formats (WIRE 2.10). Pure."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.emulator.speech.form import Order
from workers.emulator.speech.messages import Manner, word_json
from workers.emulator.speech.transcript import Segment, Word


@dataclass(frozen=True)
class Rendered:
    """A response body."""

    text: str
    content_type: str


def render(segments: Sequence[Segment], duration_s: float, order: Order) -> Rendered:
    """The transcript as ordered."""
    text = " ".join(segment.text for segment in segments)
    match order.format:
        case "json":
            return Rendered(_json({"text": text}), "application/json")
        case "verbose_json":
            return Rendered(_json(_verbose(segments, text, duration_s, order)), "application/json")
        case "text":
            return Rendered(f"{text}\n", "text/plain")
        case "srt":
            cues = (f"{number}\n{_cue(segment, ',')}" for number, segment in enumerate(segments, 1))
            return Rendered("\n".join(cues), "text/plain")
        case "vtt":
            return Rendered("\n".join(("WEBVTT\n", *(_cue(segment, ".") for segment in segments))), "text/plain")


def _cue(segment: Segment, mark: str) -> str:
    start, end = (_clock(seconds, mark) for seconds in (segment.words[0].start, segment.words[-1].end))
    return f"{start} --> {end}\n{segment.text}\n"


def _clock(seconds: float, mark: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{milliseconds:03}"


def _verbose(segments: Sequence[Segment], text: str, duration_s: float, order: Order) -> dict[str, Any]:
    body: dict[str, Any] = {"task": order.task, "language": order.language, "duration": duration_s, "text": text}
    if order.words:
        body["words"] = [_word(word, order) for segment in segments for word in segment.words]
    if order.segments:
        body["segments"] = [_segment(segment, order) for segment in segments]
    return body


def _segment(segment: Segment, order: Order) -> dict[str, Any]:
    start, end = round(segment.words[0].start, 4), round(segment.words[-1].end, 4)
    mean = sum(math.log(max(word.probability, 1e-6)) for word in segment.words) / len(segment.words)
    body = {
        "id": segment.id,
        "seek": 0,
        "start": start,
        "end": end,
        "audio_start": start,
        "audio_end": end,
        "text": segment.text,
        "language": order.language,
        "tokens": [],
        "words": [_word(word, order) for word in segment.words] if order.words else None,
        "temperature": order.temperature,
        "avg_logprob": round(mean, 4),
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
        "no_speech": False,
        "retry_count": 0,
    }
    return body | _speaker(order)


def _word(word: Word, order: Order) -> dict[str, Any]:
    body = word_json(word, Manner(language=order.language, granularities=frozenset({"word"})))
    del body["is_final"]  # a whole transcript has nothing else
    return body | _speaker(order)


def _speaker(order: Order) -> dict[str, str]:
    return {"speaker_id": "0"} if order.diarize else {}


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False)
