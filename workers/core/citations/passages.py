"""Sources to numbered passages: each fits a token budget, and knows where in which source it stands.

Every character of a source that is not white space is in exactly one passage. Numbers count from 1 over the passages
that are shown, in the order of the sources.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api_contracts.citations import CiteRequest, Source
from workers.core.citations import writing
from workers.core.citations.tokens import token_estimate

MOST_NUMBERS: Final = 999

_PARAGRAPH: Final = re.compile(r"\n\s*\n")
_SENTENCE: Final = re.compile(rf"[{writing.STOPS}][{re.escape(writing.CLOSERS)}]*(?=\s)|[{writing.HARD_STOPS}]")
_SPACE: Final = re.compile(r"\s")
_WORD: Final = re.compile(r"\w+")

_MOST_CHARS_PER_TOKEN: Final = 3
"""Of `token_estimate`: no text has fewer tokens than that."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`source.content[start:end]`; `place` is the source's, from 1."""

    place: int
    source: Source
    start: int
    end: int

    @property
    def text(self) -> str:
        """The words themselves."""
        return self.source.content[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Shown:
    """What the model is shown: passage N is `pieces[N - 1]`."""

    pieces: tuple[Piece, ...]
    left_out: int
    unread: tuple[str, ...]
    """Ids of the sources that are not shown whole."""


def shown(request: CiteRequest) -> Shown:
    """Cut the sources and take what fits; what is nearest to the question comes first."""
    pieces = [
        Piece(place, source, start, end)
        for place, source in enumerate(request.sources, 1)
        for start, end in cuts(source.content, request.passage_tokens)
    ]
    taken = _fitting(pieces, request.question, request.prompt_tokens)
    missing = [piece for n, piece in enumerate(pieces) if n not in taken]
    unread = dict.fromkeys(piece.source.id for piece in missing)
    return Shown(tuple(pieces[n] for n in sorted(taken)), len(missing), tuple(unread))


def block(number: int, piece: Piece) -> str:
    """Return the passage as the model reads it."""
    title = _heading(piece.source.metadata)
    return f'<passage number="{number}"{title}>\n{piece.text}\n</passage>'


def cuts(text: str, budget: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of `text`, each of at most `budget` tokens, cut where it hurts least, without outer space."""
    start = _skip(text, 0)
    while start < len(text):
        end = _cut(text, start, budget)
        while _SPACE.match(text[end - 1]):
            end -= 1
        yield start, end
        start = _skip(text, end)


def _skip(text: str, start: int) -> int:
    while start < len(text) and _SPACE.match(text[start]):
        start += 1
    return start


def _cut(text: str, start: int, budget: int) -> int:
    """Return the end of the piece: in its later half after a paragraph, else a sentence, else a word; else anywhere."""
    window = text[start : start + budget * _MOST_CHARS_PER_TOKEN]
    if token_estimate(window) <= budget and start + len(window) == len(text):
        return len(text)
    low, high = 1, len(window)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if token_estimate(window[:middle]) <= budget else (low, middle - 1)
    for pattern in (_PARAGRAPH, _SENTENCE, _SPACE):
        ends = [found.end() for found in pattern.finditer(window, low // 2, low)]
        if ends:
            return start + ends[-1]
    return start + low


def _fitting(pieces: Sequence[Piece], question: str, budget: int) -> set[int]:
    costs = [token_estimate(block(n, piece)) for n, piece in enumerate(pieces, 1)]
    if sum(costs) <= budget and len(pieces) <= MOST_NUMBERS:
        return set(range(len(pieces)))
    taken: set[int] = set()
    left = budget
    for n in _by_nearness(pieces, question):
        if (costs[n] <= left or not taken) and len(taken) < MOST_NUMBERS:
            taken.add(n)
            left -= costs[n]
    return taken


def _by_nearness(pieces: Sequence[Piece], question: str) -> list[int]:
    """Return the pieces' indices: those that share rare words with the question, then the beginnings of sources."""
    asked = set(_WORD.findall(question.casefold()))
    found = [Counter(word for word in _WORD.findall(piece.text.casefold()) if word in asked) for piece in pieces]
    holding = Counter(word for counts in found for word in counts)
    weight = {word: math.log(1 + len(pieces) / times) for word, times in holding.items()}
    scores = [sum(weight[word] * min(times, 3) for word, times in counts.items()) for counts in found]
    return sorted(range(len(pieces)), key=lambda n: (-scores[n], pieces[n].start, n))


def _heading(metadata: dict[str, Any]) -> str:
    """Return title and year as an attribute, so that the model knows what it reads."""
    title = " ".join(str(metadata.get("title", "")).split())[:200]
    dates = (metadata.get("issued") or {}).get("date-parts") or [[""]]
    told = ", ".join(part for part in (title, str(dates[0][0])) if part).replace('"', "'")
    return f' source="{told}"' if told else ""
