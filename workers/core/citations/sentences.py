"""An answer's sentences, and the markers that belong to each. Spans are code points of the text, and never overlap.

Own, because of one rule that no segmenter keeps: a marker after the full stop belongs to the sentence before it. pysbd
and syntok both give it to the next one, so the wrong claim would be checked (docs/decisions/0008). On text that the
REQUIRED grammar accepts, every sentence found here has a marker; both read `writing`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from workers.core.citations import writing

_OPEN, _CLOSE = re.escape(writing.OPENING), re.escape(writing.CLOSING)
_MARK: Final = re.compile(rf"{_OPEN}([1-9][0-9]*){_CLOSE}")
_MARKS: Final = rf"{_OPEN}[1-9][0-9]*{_CLOSE}(?: ?{_OPEN}[1-9][0-9]*{_CLOSE})*"
_CLOSERS: Final = f"[{re.escape(writing.CLOSERS)}]*"
_TOKEN: Final = re.compile(
    rf"(?P<marks>{_MARKS})|(?P<line>\n)"
    rf"|(?P<hard>[{writing.HARD_STOPS}]+)(?P<shut>{_CLOSERS})|(?P<stop>[{writing.STOPS}]+{_CLOSERS})"
)
_AFTER: Final = re.compile(rf" ?{_MARKS}")
_QUOTED: Final = re.compile(
    r"“([^“”\n]+)”|«([^«»\n]+)»|„([^„“”\n]+)[“”]|「([^「」\n]+)」|(?:(?<=[\s(])|^)\"([^\"\n]+)\"(?!\w)", re.MULTILINE
)
_INITIALS: Final = re.compile(r"[A-Z](?:\.[A-Z])*")
_NUMBER: Final = re.compile(r"[0-9]{1,2}")
_SOLID: Final = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Marker:
    """One marker and its number."""

    start: int
    end: int
    number: int


@dataclass(frozen=True, slots=True)
class Group:
    """Markers that stand together: one citation."""

    start: int
    end: int
    markers: tuple[Marker, ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    """From its first to its last character, its markers included, also those after its stop."""

    start: int
    end: int
    groups: tuple[Group, ...]


def says_something(text: str) -> bool:
    """Return whether there is a letter or digit outside the markers."""
    return _SOLID.search(_MARK.sub("", text)) is not None


def quoted(text: str) -> list[tuple[int, int]]:
    """Return where words in quotation marks stand, without the marks and without outer space. None crosses a line."""
    spans = []
    for found in _QUOTED.finditer(text):
        start, end = found.span(next(n for n, words in enumerate(found.groups(), 1) if words is not None))
        words = text[start:end]
        if _SOLID.search(words):
            spans.append((start + len(words) - len(words.lstrip()), end - len(words) + len(words.rstrip())))
    return spans


def sentences(text: str) -> list[Sentence]:
    """Return the sentences in order. What holds no letter, digit or marker is none."""
    found: list[Sentence] = []
    start = 0
    for end in (*_ends(text), len(text)):
        piece = text[start:end]
        left, right = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
        groups = tuple(_groups(text, left, right))
        if says_something(piece):
            found.append(Sentence(left, right, groups))
        elif groups and found:  # markers alone: they belong to what stands before them
            found[-1] = Sentence(found[-1].start, right, found[-1].groups + groups)
        elif groups:
            found.append(Sentence(left, right, groups))
        start = end
    return found


def _groups(text: str, start: int, end: int) -> Iterator[Group]:
    for found in _AFTER.finditer(text, start, end):
        markers = tuple(Marker(*m.span(), int(m[1])) for m in _MARK.finditer(text, *found.span()))
        yield Group(markers[0].start, markers[-1].end, markers)


def _ends(text: str) -> Iterator[int]:
    """Yield where one sentence ends and the next may begin."""
    quotes, inside = quoted(text), 0
    start, marked, passed = 0, -1, 0  # of the sentence; end of the last markers; what a stop has taken with it
    for found in _TOKEN.finditer(text):
        if found.start() < passed:
            continue
        if found["marks"]:
            marked = found.end()
            continue
        end = found.end() if found["line"] else _end(text, found, start, marked)
        if end is None:
            continue
        while inside < len(quotes) and quotes[inside][1] < found.start():
            inside += 1
        if inside < len(quotes) and quotes[inside][0] <= found.start() and end <= quotes[inside][1]:
            continue
        yield end
        start, passed = end, end


def _end(text: str, stop: re.Match[str], start: int, marked: int) -> int | None:
    """Return where the sentence ends that this stop ends, or None if it ends none."""
    end = stop.end()
    after = _AFTER.match(text, end)
    if after is None:
        free = end == len(text) or text[end].isspace() or (stop["hard"] is not None and not stop["shut"])
        return end if free and (_is_marked(text, stop, marked) or not _goes_on(text, stop, start, end)) else None
    rest = text[after.end() : after.end() + 2]
    if rest and (rest[0] in writing.STOPS + writing.HARD_STOPS):
        return None  # the real stop is there
    if _is_abbreviated(text, stop, start) and (rest[:1] in ",;:)" if rest.strip() else False):
        return None
    if _is_abbreviated(text, stop, start) and rest[:1] == " " and rest[1:].islower():
        return None
    return after.end()


def _is_marked(text: str, stop: re.Match[str], marked: int) -> bool:
    """Whether markers stand directly before the stop: then nothing can be an abbreviation."""
    return marked >= 0 and not text[marked : stop.start()].strip(writing.CLOSERS)


def _goes_on(text: str, stop: re.Match[str], start: int, end: int) -> bool:
    """Whether the sentence goes on after a stop and a space."""
    after = text[end:].lstrip(" ")[:1] if end < len(text) else ""
    if not after or stop["hard"] is not None:
        return False
    return after.islower() or _is_abbreviated(text, stop, start, after)


def _is_abbreviated(text: str, stop: re.Match[str], start: int, after: str = "") -> bool:
    """Whether the stop belongs to an abbreviation, to initials or to the number of a list item."""
    if stop["stop"] != ".":
        return False
    begun = 1 + max(start - 1, *(text.rfind(space, start, stop.start()) for space in " \n"))
    word = text[begun : stop.start()].lstrip(writing.OPENERS)
    if _NUMBER.fullmatch(word) and not text[start:begun].strip():
        return True
    if _INITIALS.fullmatch(word) or word in _both_cases(writing.BEFORE_ANYTHING):
        return True
    small = not after or after.islower() or after.isdigit() or after == "("
    return small and word in _both_cases(writing.BEFORE_SMALL)


@cache
def _both_cases(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(each for word in words for each in (word[0].upper() + word[1:], word[0].lower() + word[1:]))
