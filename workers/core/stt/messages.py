"""What the provider says (WIRE 2.6), read without trust: every field may be missing, of another type, or nonsense.

Pure. It knows the wire's shapes; not what is final, nor where a connection's clock lies on the timeline.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_LONGEST_S: Final = 1e6
"""A time beyond this is nonsense."""

_ID_LIMIT: Final = 10**15

_TOKEN: Final = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]|[^\s\u2e80-\u9fff\uf900-\ufaff]+")
"""A word of a text that comes without words; languages written without spaces go by the character."""


@dataclass(frozen=True, slots=True)
class SaidWord:
    """A word. Times are seconds of its connection, None when they make no sense; `final` is None when not told.

    `shown` is the word as it stands in its segment's text: with punctuation, and the space before it if there is one.
    """

    text: str
    shown: str
    start: float | None = None
    end: float | None = None
    final: bool | None = None
    probability: float | None = None
    hallucination_score: float | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class SaidSegment:
    """A segment as a message has it. Ids may come as numbers or as strings of digits (WIRE 7.17)."""

    id: int
    words: tuple[SaidWord, ...]
    start: float | None = None
    end: float | None = None


def segments_in(message: Mapping[str, Any]) -> list[SaidSegment] | None:
    """Return the segments of a transcription update, or None for a message that is none.

    An update without segments counts as one segment, 0; words that stand only beside the segments are dealt out.
    """
    listed = message.get("segments")
    if isinstance(listed, list):
        given = [each for each in listed if isinstance(each, Mapping) and _id_of(each) is not None]
        if listed and not given:
            return None
        loose = message.get("words")
        if loose and isinstance(loose, list) and not any(each.get("words") for each in given):
            return _dealt(given, loose)
        return [_segment(each, each.get("words")) for each in given]
    if isinstance(message.get("text"), str) or isinstance(message.get("words"), list):
        return [_segment({**message, "id": 0}, message.get("words"))]
    return None


def error_in(message: Mapping[str, Any]) -> str | None:
    """Return what an in-band error says, or None: `error` may be a string or an object (WIRE 2.8)."""
    error = message.get("error")
    if error is None or error is False:
        return None
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("code")
    return clean(str(error) if isinstance(error, str | int | float) else "no message")[:200]


def clean(text: str) -> str:
    """Return `text` without what JSON lets in and UTF-8 does not: halves of surrogate pairs become question marks."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _dealt(given: list[Mapping[str, Any]], loose: list[Any]) -> list[SaidSegment]:
    """Deal words to segments by the count of their tokens; all to the first when the counts do not fit."""
    counts = [len(_TOKEN.findall(_string(each.get("text")))) for each in given]
    if given and sum(counts) != len(loose):
        counts = [len(loose)] + [0] * (len(given) - 1)
    segments, at = [], 0
    for each, count in zip(given, counts, strict=True):
        segments.append(_segment(each, loose[at : at + count]))
        at += count
    return segments


def _segment(given: Mapping[str, Any], words: Any) -> SaidSegment:
    text = clean(_string(given.get("text")))
    heard = [each for each in words if _word_of(each)] if isinstance(words, list) else []
    if heard:
        shown = shown_in(text, [_word_of(each) for each in heard])
        read = tuple(_word(each, as_shown) for each, as_shown in zip(heard, shown, strict=True))
    else:
        tokens = _TOKEN.findall(text)
        language = _language(given)
        read = tuple(
            SaidWord(token, as_shown, language=language)
            for token, as_shown in zip(tokens, shown_in(text, tokens), strict=True)
        )
    start, end = _span(given)
    return SaidSegment(_id_of(given) or 0, read, start, end)


def _word(given: Mapping[str, Any], shown: str) -> SaidWord:
    start, end = _span(given)
    final = given.get("is_final")
    return SaidWord(
        text=_word_of(given),
        shown=shown,
        start=start,
        end=end,
        final=final if isinstance(final, bool) else None,
        probability=_number(given.get("probability")),
        hallucination_score=_number(given.get("hallucination_score")),
        language=_language(given),
    )


def shown_in(text: str, words: Sequence[str]) -> list[str]:
    """Return each word as `text` shows it; where the text does not hold the words, each with a space before it.

    What stands between two words belongs to the first up to its first space, and from there on to the second.
    """
    if not words:
        return []
    starts, at = [], 0
    for word in words:
        if (found := text.find(word, at)) < 0:
            return [f" {each}" for each in words]
        starts.append(found)
        at = found + len(word)
    shown, begin = [], " " + text[: starts[0]].lstrip()
    for word, start, following in zip(words, starts, [*starts[1:], len(text)], strict=True):
        between = text[start + len(word) : following]
        mark = next((at for at, char in enumerate(between) if char.isspace()), len(between))
        shown.append(begin + word + between[:mark])
        begin = " " + between[mark:].lstrip() if mark < len(between) else ""
    return shown


def _id_of(given: Mapping[str, Any]) -> int | None:
    value = given.get("id")
    if isinstance(value, str) and re.fullmatch(r"\d{1,15}", value.strip(), re.ASCII):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _ID_LIMIT else None


def _word_of(given: Any) -> str:
    return clean(_string(given.get("word"))).strip() if isinstance(given, Mapping) else ""


def _span(given: Mapping[str, Any]) -> tuple[float | None, float | None]:
    start, end = _number(given.get("start")), _number(given.get("end"))
    if start is None or end is None or not 0 <= start <= end <= _LONGEST_S:
        return None, None
    return start, end


def _language(given: Mapping[str, Any]) -> str | None:
    return clean(_string(given.get("language")))[:35] or None


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LONGEST_S:
        return float(value) if math.isfinite(value) else None
    return None


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
