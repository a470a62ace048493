"""What the provider says (WIRE 2.6), read without trust: every field may be missing, of another type, or nonsense.

Pure. It knows the wire's shapes; not what is final, nor where a connection's clock lies on the timeline.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from workers.core.text import storable

_LONGEST_S: Final = 1e6
"""A time beyond this is nonsense."""

_ID_LIMIT: Final = 10**15

_TOKEN: Final = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]|[^\s\u2e80-\u9fff\uf900-\ufaff]+")
"""A word of a text that comes without words; languages written without spaces go by the character."""


@dataclass(slots=True)
class SaidWord:
    """A word. Times are seconds of its connection, None when they make no sense; `final` is None when not told.

    `shown` is the word as it stands in its segment's text: with punctuation, and the space before it if there is one.
    Nobody changes it; that it is not frozen makes it three times as cheap to make, and most of what comes is words.
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
    given: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    """The words as they came, one for each of `words`: what is told again unchanged need not be read again."""


Known = Callable[[int], SaidSegment | None]
"""Returns a segment as it was last read."""

IsOver = Callable[[float], bool]
"""Returns whether all that ends at this time (seconds of the connection) has long been final."""


def _unknown(_number: int) -> None:
    return None


def _open(_end_s: float) -> bool:
    return False


def segments_in(
    message: Mapping[str, Any], known: Known = _unknown, is_over: IsOver = _open
) -> list[SaidSegment] | None:
    """Return the segments of a transcription update, or None for a message that is none.

    An update without segments counts as one segment, 0; words that stand only beside the segments are dealt out.
    Segments that are over are not read again, and returned without words: some providers list all in every message.
    """
    if lists_segments(message):
        given = [each for each in message["segments"] if isinstance(each, dict) and _id_of(each) is not None]
        if not given:
            return None
        loose = message.get("words")
        if loose and isinstance(loose, list) and not any(each.get("words") for each in given):
            return _dealt(given, loose)
        return [_listed(each, known, is_over) for each in given]
    if not is_update(message):
        return None
    is_empty = not message.get("text") and not message.get("words")
    if is_empty and (message.get("segments") == [] or message.get("checkpoint_id") is not None):
        return []  # among others an echo that carries the fields of an update, and nothing in them
    return [_segment({**message, "id": 0}, message.get("words"), known)]


def lists_segments(message: Mapping[str, Any]) -> bool:
    """Return whether a message says which segments it tells."""
    listed = message.get("segments")
    return isinstance(listed, list) and bool(listed)


def is_update(message: Mapping[str, Any]) -> bool:
    """Return whether a message has the fields of a transcription update."""
    return isinstance(message.get("text"), str) or any(
        isinstance(message.get(key), list) for key in ("words", "segments")
    )


def error_in(message: Mapping[str, Any]) -> str | None:
    """Return what an in-band error says, or None: `error` may be a string or an object (WIRE 2.8).

    One that says nothing, beside a transcript, is none.
    """
    error = message.get("error")
    if error is None or error is False or (not error and is_update(message)):
        return None
    if isinstance(error, dict):
        error = error.get("message") or error.get("code")
    return storable(str(error) if isinstance(error, str | int | float) else "no message")[:200]


def _dealt(given: Sequence[Mapping[str, Any]], loose: list[Any]) -> list[SaidSegment]:
    """Deal words to segments, in the order of their ids, by the count of their tokens; all to the first when the counts
    do not fit."""
    given = sorted(given, key=lambda each: _id_of(each) or 0)
    counts = [len(_TOKEN.findall(_string(each.get("text")))) for each in given]
    if given and sum(counts) != len(loose):
        counts = [len(loose)] + [0] * (len(given) - 1)
    segments, at = [], 0
    for each, count in zip(given, counts, strict=True):
        segments.append(_segment(each, loose[at : at + count], _unknown))
        at += count
    return segments


def _listed(given: Mapping[str, Any], known: Known, is_over: IsOver) -> SaidSegment:
    words = given.get("words")
    last = words[-1] if words and isinstance(words, list) else None
    end = _number(last.get("end")) if isinstance(last, dict) else None
    if end is not None and is_over(end):
        return SaidSegment(_id_of(given) or 0, ())
    return _segment(given, words, known)


def _segment(given: Mapping[str, Any], words: Any, known: Known) -> SaidSegment:
    text, number = storable(_string(given.get("text"))), _id_of(given) or 0
    start, end = _span(given)
    if isinstance(words, list) and (read := _words(words, text, known(number))):
        return SaidSegment(number, tuple(word for word, _ in read), start, end, tuple(raw for _, raw in read))
    tokens = _TOKEN.findall(text)
    language = _language(given)
    shown = shown_in(text, tokens)
    told = tuple(SaidWord(token, as_shown, language=language) for token, as_shown in zip(tokens, shown, strict=True))
    return SaidSegment(number, told, start, end)


def _words(words: list[Any], text: str, before: SaidSegment | None) -> list[tuple[SaidWord, Any]]:
    """Read words, each beside what it came as. Most have not changed since the last message."""
    olds = before.given if before else ()
    read: list[tuple[str, Any, SaidWord | None]] = []
    for place, raw in enumerate(words):
        old = before.words[place] if before and place < len(olds) and olds[place] == raw else None
        if said := old.text if old else _word_of(raw):
            read.append((said, raw, old))
    shown = shown_in(text, [said for said, _, _ in read])
    return [
        (old if old and old.shown == as_shown else _word(said, as_shown, raw), raw)
        for (said, raw, old), as_shown in zip(read, shown, strict=True)
    ]


def _word(text: str, shown: str, given: Mapping[str, Any]) -> SaidWord:
    start, end = _span(given)
    final = given.get("is_final")
    return SaidWord(
        text=text,
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
    if not words or " ".join(words) == text.strip():
        return [f" {each}" for each in words]
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
    return storable(_string(given.get("word"))).strip() if isinstance(given, dict) else ""


def _span(given: Mapping[str, Any]) -> tuple[float | None, float | None]:
    start, end = _number(given.get("start")), _number(given.get("end"))
    if start is None or end is None or not 0 <= start <= end <= _LONGEST_S:
        return None, None
    return start, end


def _language(given: Mapping[str, Any]) -> str | None:
    return storable(_string(given.get("language")))[:35] or None


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LONGEST_S:
        return float(value) if math.isfinite(value) else None
    return None


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
