"""Text under a grammar: made up, or as near to a script as the grammar allows. Knows nothing of the wire.

Made up: prose as far as the grammar lets it flow, now and then and wherever it cannot flow a character of one of the
classes that the grammar names there. After a length that is drawn at the start, the shortest way to the end.
Deterministic in the generator.

Forced: what a model does that wants to say something and is masked. Where the grammar allows the scripted character,
that is taken. Where it does not, the text is mended with the fewest edits (a character less, another one, one more)
after which the script can be followed for `RUN` characters, or to its end; the characters that complete the text then
count as edits too. The search is bounded: past its bound the best place that was seen is taken, and without one the
rest of the script is dropped and the text ends as soon as it can.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, islice
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits
from typing import TypeAlias

from workers.core.grammar import Grammar, Matcher
from workers.emulator.lexicon import sentence

Ranges: TypeAlias = tuple[tuple[str, str], ...]

RUN = 8
_LENGTHS = (20, 300)
_STRAYS = 0.12  # from the prose at the start of a word, where the grammar leaves a choice
_STRAYS_IN_WORD = 0.003
_HEADS_FOR_END = 0.5
_ENDS_SENTENCE = 0.4
_ENDS_ELSEWHERE = 0.05  # at each character that is not prose: some twenty digits of a plain `[0-9]+`
_PLAIN = 0.97
_PLAIN_CHARACTERS = ascii_lowercase + digits + ascii_uppercase + " .,;:-'()é"
_TRIES = 300
_TRIES_IN_ALL = 3000
_CANDIDATES = 32


def compose(grammar: Grammar, rng: Random) -> str:
    """A text that matches. Raises TooAmbiguous."""
    matcher, prose = Matcher(grammar), _Prose(rng)
    wanted = rng.randint(*_LENGTHS)
    said: list[str] = []
    while not (matcher.complete and (len(said) >= wanted or prose.pauses() or not matcher.choices())):
        said.append(_some(matcher.way_out(), rng) if len(said) >= wanted else prose.next(matcher))
        matcher.feed(said[-1])
    return "".join(said)


class _Prose:
    """Sentences without end, said as far as the grammar lets them."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._rest = sentence(rng)
        self._flows = False
        self._between = False  # two words

    def pauses(self) -> bool:
        """Whether this is a place to end, if the text may."""
        if self._flows:
            return self._rest[0] == " " and self._rest[1].isupper() and self._rng.random() < _ENDS_SENTENCE
        return self._rng.random() < _ENDS_ELSEWHERE

    def next(self, matcher: Matcher) -> str:
        """The next character: of the sentence, or else one that the grammar has here beside it; where a sentence breaks
        off it is given up, and every other time the text heads for its end."""
        wanted = self._rest[0]
        flowed, self._flows = self._flows, _holds(matcher.choices(), wanted)
        if not self._flows:
            self._rest = sentence(self._rng)
            heads = flowed and not matcher.complete and self._rng.random() < _HEADS_FOR_END
            return _some(matcher.way_out() if heads else self._rng.choice(matcher.classes()), self._rng)
        if self._rng.random() < (_STRAYS if self._between else _STRAYS_IN_WORD):
            return _some(self._rng.choice(_beside(matcher, wanted)), self._rng)
        self._rest = self._rest[1:] or f" {sentence(self._rng)}"
        self._between = wanted == " "
        return wanted


def _beside(matcher: Matcher, wanted: str) -> list[Ranges]:
    """The classes without the character, or else all."""
    classes = matcher.classes()
    return [ranges for ranges in classes if not _holds(ranges, wanted)] or list(classes)


def force(grammar: Grammar, script: str) -> str:
    """The script if it matches, else a text near it that does. Raises TooAmbiguous."""
    matcher, said = Matcher(grammar), [""]
    at, tries = 0, _TRIES_IN_ALL
    while at < len(script):
        taken = matcher.follow(script[at:])
        said.append(script[at : at + taken])
        at += taken
        if at == len(script):
            break
        search = _Search(script, min(_TRIES, tries))
        mended = search.mend(matcher, at)
        tries -= search.tried
        if mended is None:
            break
        matcher.feed(mended.written)
        said.append(mended.written)
        at = mended.at
    while not matcher.complete:
        said.append(_plainest(matcher.way_out()))
        matcher.feed(said[-1])
    return "".join(said)


@dataclass(frozen=True)
class _Draft:
    """A way to go on: what was written instead of the script, and where the script goes on."""

    matcher: Matcher
    at: int
    written: str
    edits: int


class _Search:
    """For the fewest edits after which the script can be followed again."""

    def __init__(self, script: str, most: int) -> None:
        self._script = script
        self._most = most
        self._due: list[tuple[int, int, bool, _Draft]] = []
        self._numbers = count()
        self.tried = 0

    def mend(self, matcher: Matcher, at: int) -> _Draft | None:
        """The best draft that was found, None if the script is followed nowhere."""
        best: tuple[int, _Draft] | None = None
        seen: set[tuple[Hashable, int]] = set()
        self._add(_Draft(matcher.copy(), at, "", 0))
        while self._due and self.tried < self._most:
            _, _, final, draft = heappop(self._due)
            if final:
                return draft
            if (draft.matcher.place, draft.at) in seen:
                continue
            seen.add((draft.matcher.place, draft.at))
            self.tried += 1
            further = self._followed(draft)
            run = further.at - draft.at
            if run == RUN:
                return draft
            if further.at == len(self._script):
                self._add(further, final=True)
            elif run:
                self._add(further)
                if best is None or run - draft.edits > best[0]:
                    best = run - draft.edits, further
            for following in self._edited(draft):
                self._add(following)
        return best[1] if best else None

    def _followed(self, draft: _Draft) -> _Draft:
        """The draft with as much of the script as can be followed, up to `RUN` characters."""
        matcher = draft.matcher.copy()
        end = draft.at + matcher.follow(self._script[draft.at : draft.at + RUN])
        return _Draft(matcher, end, draft.written + self._script[draft.at : end], draft.edits)

    def _edited(self, draft: _Draft) -> Iterator[_Draft]:
        """One edit more, in the order in which equal ones are preferred: a character less, another one, one more."""
        left = draft.at < len(self._script)
        if left:
            yield _Draft(draft.matcher, draft.at + 1, draft.written, draft.edits + 1)
        for character in self._candidates(draft):
            twin = draft.matcher.copy()
            twin.feed(character)
            written = draft.written + character
            if left:
                yield _Draft(twin, draft.at + 1, written, draft.edits + 1)
            yield _Draft(twin, draft.at, written, draft.edits + 1)

    def _candidates(self, draft: _Draft) -> list[str]:
        """Allowed characters: those that the script wants soon, then for each class the nearest to the scripted one."""
        choices = draft.matcher.choices()
        soon = self._script[draft.at : draft.at + RUN]
        classes = islice(draft.matcher.classes(), _CANDIDATES)
        nearest = [_nearest(ranges, soon[0]) if soon else _plainest(ranges) for ranges in classes]
        return list(dict.fromkeys([*(char for char in soon if _holds(choices, char)), *nearest]))

    def _add(self, draft: _Draft, *, final: bool = False) -> None:
        """Put a draft in the queue. At the end of the script, what completes the text is part of the price."""
        price = draft.edits + (draft.matcher.shortest if final else 0)
        heappush(self._due, (price, next(self._numbers), final, draft))


def _some(ranges: Ranges, rng: Random) -> str:
    """A character of the ranges, mostly a plain one."""
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return ranges[0][0]
    plain = [char for char in _PLAIN_CHARACTERS if _holds(ranges, char)]
    if plain and rng.random() < _PLAIN:
        return rng.choice(plain)
    drawn = ""
    for _ in range(8):
        low, high = rng.choice(ranges)
        drawn = chr(rng.randint(ord(low), ord(high)))
        if drawn.isprintable():
            break
    return drawn


def _plainest(ranges: Ranges) -> str:
    return next((char for char in _PLAIN_CHARACTERS if _holds(ranges, char)), ranges[0][0])


def _nearest(ranges: Ranges, wanted: str) -> str:
    """The character of the ranges with the nearest code point."""
    code = ord(wanted)
    edges = [min(max(code, ord(low)), ord(high)) for low, high in ranges]
    return chr(min(edges, key=lambda edge: abs(edge - code)))


def _holds(ranges: Ranges, char: str) -> bool:
    return any(low <= char <= high for low, high in ranges)
