"""What callers hold: a grammar that was read, and a matcher that takes text as it comes."""

from collections.abc import Hashable, Iterable
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_

from workers.core.grammar.charsets import Ranges
from workers.core.grammar.engine import Engine, Place
from workers.core.grammar.machine import build
from workers.core.grammar.syntax import ROOT, read_program


@lru_cache(maxsize=64)
def compiled(text: str) -> "Grammar":
    """Return `parse(text)`. It remembers what it worked out, so runs of the same form share it (2 ms, not 40)."""
    return parse(text)


def parse(text: str) -> "Grammar":
    """Read a grammar (WIRE 4.3, and `{m}`, `{m,}`, `{m,n}`).

    Raises GrammarError with line and column for whatever is malformed: an unknown rule, no `root`, left recursion (also
    through other rules or past parts that may be empty), a rule that cannot end, an empty class, an unknown escape, or
    a grammar that is too large (1 000 000 characters, or 250 000 steps with repetitions written out).
    """
    program = read_program(text)
    lines = tuple(text.count("\n", 0, offset) + 1 for offset in program.beyond)
    return Grammar(Engine(build(program)), ROOT, lines)


@dataclass(frozen=True)
class Grammar:
    """The language of one rule of a grammar, usually `root`. What it works out it remembers for all its matchers, so
    these may take turns, but not run in several threads at once.

    `beyond` holds the lines with forms that the provider's page does not list (bounded repetitions): a grammar with
    none of them is in the documented subset.
    """

    engine: Engine
    start: str
    beyond: tuple[int, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules by name, in the order of their first mention."""
        return self.engine.machine.names

    @property
    def size(self) -> int:
        """How many states there are: about one for each character of the literals, repetitions written out."""
        return self.engine.machine.states.size

    @property
    def shortest(self) -> int:
        """The length of the shortest text that matches."""
        return Matcher(self).shortest

    def rule(self, name: str) -> "Grammar":
        """The language of one of the rules. Raises ValueError if there is none of that name."""
        if name not in self.rules:
            raise ValueError(f"no rule is named {name!r}")
        return Grammar(self.engine, name, self.beyond)

    def matches(self, text: str) -> bool:
        """Whether the whole text is in the language. Raises TooAmbiguous."""
        matcher = Matcher(self)
        return matcher.feed(text) and matcher.complete

    def mismatch(self, text: str) -> int | None:
        """The index of the first character that no continuation allows; the text's length if it only breaks off too
        early; None if it matches. Raises TooAmbiguous."""
        matcher = Matcher(self)
        taken = matcher.follow(text)
        return None if taken == len(text) and matcher.complete else taken


class Matcher:
    """A match in progress. Feeding piece by piece is the same as feeding the whole.

    `steps` is the work of this matcher so far: one for each character, and what was not yet remembered.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._engine = grammar.engine
        self._place: Place = self._engine.start(self._engine.machine.names.index(grammar.start))
        self._fed = 0
        self.steps = 0

    def copy(self) -> "Matcher":
        """A matcher at the same place, which goes its own way. Costs nothing."""
        return copy(self)

    def feed(self, text: str) -> bool:
        """Take all of the text; False once nothing accepts what was fed, and then for ever. Raises TooAmbiguous."""
        if self.follow(text) < len(text):
            self._place = self._engine.nowhere
        return self.alive

    def follow(self, text: str) -> int:
        """Take as much of the text as is allowed, and say how many characters that was.

        Raises TooAmbiguous; then nothing of the text was taken.
        """
        engine, symbol = self._engine, self._engine.machine.alphabet.symbol
        place, before, taken = self._place, self._engine.steps, 0
        for character in text:
            known = symbol(character)
            following = place.followers.get(known)
            if following is None:
                following = engine.follow(place, known)
                engine.check_budget(self.steps + engine.steps - before + taken, self._fed + taken)
            if following is engine.nowhere:
                break
            place = following
            taken += 1
        self._place = place
        self._fed += taken
        self.steps += engine.steps - before + taken
        return taken

    @property
    def alive(self) -> bool:
        """Whether what was fed is the beginning of a text that matches."""
        return self._place is not self._engine.nowhere

    @property
    def complete(self) -> bool:
        """Whether what was fed matches: the text may end here."""
        return self._place.ends

    @property
    def shortest(self) -> int:
        """How many characters it takes at least until the text may end."""
        return self._place.shortest

    @property
    def place(self) -> Hashable:
        """Matchers of one grammar with equal places have the same texts before them."""
        return self._place

    def choices(self) -> Ranges:
        """The characters that may come next, as sorted ranges that do not touch."""
        return self._ranges(mask for mask, _, _ in self._engine.ways(self._place))

    def classes(self) -> tuple[Ranges, ...]:
        """The same as the grammar spells it: the different sets, letters and classes, that may come next."""
        masks = {mask for mask, _, _ in self._engine.ways(self._place)}
        return tuple(self._ranges([mask]) for mask in sorted(masks))

    def way_out(self) -> Ranges:
        """The characters with which the text comes to its end as soon as it can; empty if it may end here."""
        ways, shortest = self._engine.ways(self._place), self._engine.machine.shortest
        near = self.shortest - 1
        return self._ranges(mask for mask, state, stack in ways if shortest[state] + stack.shortest == near)

    def _ranges(self, masks: Iterable[int]) -> Ranges:
        return self._engine.machine.alphabet.ranges(reduce(or_, masks, 0))
