"""The query of a streaming connection, checked (WIRE 2.3). Raises BadParameter, which names the parameter.

Unknown names are ignored, those of the old beta among them. `prompt`, `temperature`, `model`, `skip_vad`, `vad_kwargs`
and `max_retries` are checked and have no effect: nothing here has a model to prompt or a result to try again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from workers.emulator.speech.languages import LANGUAGES

T = TypeVar("T")
_GRANULARITIES = frozenset({"word", "segment"})


class BadParameter(ValueError):
    """A parameter that the provider would refuse."""

    def __init__(self, name: str, value: str, wanted: str) -> None:
        super().__init__(f"{name} must be {wanted}, not {value!r}")


@dataclass(frozen=True)
class Parameters:
    """What a connection asked for. `granularities` name what has times; `text_timeout_s` None: as the server is set."""

    language: str | None = None
    prompt: str | None = None
    temperature: float = 0.0
    granularities: frozenset[str] = frozenset()
    model: str | None = None
    skip_vad: bool = False
    vad: Mapping[str, Any] | None = None
    text_timeout_s: float | None = None
    max_retries: int | None = None


def read_parameters(query: Sequence[tuple[str, str]]) -> Parameters:
    """Parameters from the pairs of a query string. Of a name given twice the last counts, but granularities add up."""
    last = dict(query)
    _optional(last, "response_format", _one_of("verbose_json"))
    return Parameters(
        language=_optional(last, "language", language),
        prompt=last.get("prompt"),
        temperature=_optional(last, "temperature", _number(0, 1)) or 0.0,
        granularities=granularities([value for name, value in query if name == "timestamp_granularities"]),
        model=last.get("model"),
        skip_vad=_optional(last, "skip_vad", flag) or False,
        vad=_optional(last, "vad_kwargs", _json_object),
        text_timeout_s=_optional(last, "text_timeout_seconds", _number(0.05, 29)),
        max_retries=_optional(last, "max_retries", _whole(1, 10)),
    )


def language(name: str, value: str) -> str:
    """A language code, in lower case."""
    if value.lower() not in LANGUAGES:
        raise BadParameter(name, value, "a language code")
    return value.lower()


def flag(name: str, value: str) -> bool:
    """A truth value; Python's clients write it with a capital."""
    if value.lower() not in ("true", "false", "1", "0"):
        raise BadParameter(name, value, "true or false")
    return value.lower() in ("true", "1")


def granularities(values: Sequence[str]) -> frozenset[str]:
    """Granularities from repeated values, each one name or several with commas."""
    names = {part.strip() for value in values for part in value.split(",")} - {""}
    if not names <= _GRANULARITIES:
        raise BadParameter("timestamp_granularities", ",".join(values), "word, segment or both")
    return frozenset(names)


def _optional(given: Mapping[str, str], name: str, read: Callable[[str, str], T]) -> T | None:
    value = given.get(name)
    return None if value is None or value == "" else read(name, value)


def _one_of(*allowed: str) -> Callable[[str, str], str]:
    def read(name: str, value: str) -> str:
        if value not in allowed:
            raise BadParameter(name, value, " or ".join(allowed))
        return value

    return read


def _number(low: float, high: float) -> Callable[[str, str], float]:
    def read(name: str, value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            raise BadParameter(name, value, "a number") from None
        if not low <= number <= high:  # also refuses nan
            raise BadParameter(name, value, f"from {low} to {high}")
        return number

    return read


def _whole(low: int, high: int) -> Callable[[str, str], int]:
    def read(name: str, value: str) -> int:
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise BadParameter(name, value, f"a whole number from {low} to {high}")
        return int(value)

    return read


def _json_object(name: str, value: str) -> Mapping[str, Any]:
    try:
        read = json.loads(value)
    except ValueError:
        raise BadParameter(name, value, "a JSON object") from None
    if not isinstance(read, dict):
        raise BadParameter(name, value, "a JSON object")
    return read
