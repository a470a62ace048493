"""The form of a prerecorded request, checked (WIRE 2.10). Raises BadParameter; unknown fields are ignored.

`model`, `vad_model`, `alignment_model`, `prompt`, `preprocessing` and the numbers of speakers are checked and have no
effect. One voice is all that is ever heard, so with `diarize` everything is speaker "0".
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from workers.emulator.speech.parameters import BadParameter, flag, granularities, language

Format: TypeAlias = Literal["json", "text", "srt", "verbose_json", "vtt"]
_FORMATS: dict[str, Format] = {name: name for name in get_args(Format)}
_CHOICES = {
    "model": ("whisper-v3", "whisper-v3-turbo"),
    "vad_model": ("silero", "whisperx-pyannet"),
    "alignment_model": ("mms_fa", "tdnn_ffn", "gentle"),
    "preprocessing": ("none", "dynamic", "soft_dynamic", "bass_dynamic"),
}


@dataclass(frozen=True)
class Order:
    """What a request wants made of its file."""

    task: Literal["transcribe", "translate"]
    format: Format = "json"
    language: str = "en"
    temperature: float = 0.0
    words: bool = False
    segments: bool = True
    diarize: bool = False


def read_order(task: Literal["transcribe", "translate"], fields: Sequence[tuple[str, str]]) -> Order:
    """An order from the text fields of a form."""
    last = dict(fields)
    for name, allowed in _CHOICES.items():
        if last.get(name, allowed[0]) not in allowed:
            raise BadParameter(name, last[name], " or ".join(allowed))
    if last.get("response_format", "json") not in _FORMATS:
        raise BadParameter("response_format", last["response_format"], " or ".join(_FORMATS))
    names = ("timestamp_granularities", "timestamp_granularities[]")
    wanted = granularities([value for name, value in fields if name in names]) or {"segment"}
    _check_speakers(last)
    order = Order(
        task=task,
        format=_FORMATS[last.get("response_format", "json")],
        language=language("language", last["language"]) if last.get("language") else "en",
        temperature=_first_temperature([value for name, value in fields if name == "temperature"]),
        words="word" in wanted,
        segments="segment" in wanted,
        diarize=flag("diarize", last.get("diarize", "false")),
    )
    _check_together(order, last)
    return order


def _check_together(order: Order, given: dict[str, str]) -> None:
    if order.task == "translate":
        for name in ("language", "diarize"):
            if name in given:
                raise BadParameter(name, given[name], "absent from a translation")
    if order.diarize and not (order.words and order.format == "verbose_json"):
        raise BadParameter("diarize", given["diarize"], "false without verbose_json and word granularity")


def _check_speakers(given: dict[str, str]) -> None:
    for name in ("min_speakers", "max_speakers"):
        value = given.get(name, "1")
        if not (value.isascii() and value.isdigit() and int(value) >= 1):
            raise BadParameter(name, value, "a whole number from 1")


def _first_temperature(values: Sequence[str]) -> float:
    """The first rung of the ladder: a number, a JSON list, or the field repeated."""
    rungs = []
    for value in values:
        try:
            read = json.loads(value)
            rungs += [float(rung) for rung in (read if isinstance(read, list) else [read])]
        except (ValueError, TypeError):
            raise BadParameter("temperature", value, "a number or a list of numbers") from None
    if not all(0 <= rung <= 1 for rung in rungs):
        raise BadParameter("temperature", ",".join(values), "from 0 to 1")
    return rungs[0] if rungs else 0.0
