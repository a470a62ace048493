"""A second opinion on grammars: trees, how they are written, and a matcher that tries everything.

Shares nothing with the service but the notation. It follows every way from every place: slow, and plainly right.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Text:
    """A literal."""

    text: str


@dataclass(frozen=True)
class Class:
    """A class; `.` is the negation of nothing."""

    chars: str
    negated: bool = False


@dataclass(frozen=True)
class Ref:
    """A rule."""

    name: str


@dataclass(frozen=True)
class Seq:
    """One after the other."""

    parts: "tuple[Tree, ...]"


@dataclass(frozen=True)
class Alt:
    """One of these."""

    options: "tuple[Tree, ...]"


@dataclass(frozen=True)
class Repeat:
    """From `low` to `high` times, None for ever."""

    part: "Tree"
    low: int
    high: int | None


Tree: TypeAlias = Text | Class | Ref | Seq | Alt | Repeat
Rules: TypeAlias = dict[str, Tree]


def written(rules: Rules) -> str:
    """The rules in the notation, as plainly as it goes: every compound part in parentheses."""
    return "".join(f"{name} ::= {_written(tree)}\n" for name, tree in rules.items())


def _written(tree: Tree) -> str:
    match tree:
        case Text(text):
            return '"' + "".join(_escaped(char) for char in text) + '"'
        case Class("", True):
            return "."
        case Class(chars, negated):
            return "[" + "^" * negated + "".join(_escaped(char) for char in chars) + "]"
        case Ref(name):
            return name
        case Seq(parts):
            return " ".join(f"({_written(part)})" if isinstance(part, Alt) else _written(part) for part in parts)
        case Alt(options):
            return " | ".join(_written(option) for option in options)
        case Repeat(part, low, high):
            signs = {(0, None): "*", (1, None): "+", (0, 1): "?"}
            bounds = f"{{{low}}}" if low == high else f"{{{low}, {'' if high is None else high}}}"
            return f"({_written(part)}){signs.get((low, high), bounds)}"


def _escaped(char: str) -> str:
    return char if char.isalnum() or char == " " else f"\\U{ord(char):08X}"


def is_refused(rules: Rules) -> bool:
    """Whether a rule never ends, or recurses on its left."""
    nullable = _fixpoint(rules, _may_be_empty)
    if _fixpoint(rules, _may_end) != rules.keys():
        return True
    firsts = {name: _firsts(tree, nullable) for name, tree in rules.items()}
    for _ in rules:
        firsts = {name: found.union(*(firsts[each] for each in found)) for name, found in firsts.items()}
    return any(name in found for name, found in firsts.items())


def _fixpoint(rules: Rules, holds: Callable[[Tree, set[str]], bool]) -> set[str]:
    found: set[str] = set()
    for _ in rules:
        found = {name for name, tree in rules.items() if holds(tree, found)}
    return found


def _may_be_empty(tree: Tree, rules: set[str]) -> bool:
    match tree:
        case Text(text):
            return not text
        case Class():
            return False
        case Ref(name):
            return name in rules
        case Seq(parts):
            return all(_may_be_empty(part, rules) for part in parts)
        case Alt(options):
            return any(_may_be_empty(option, rules) for option in options)
        case Repeat(part, low):
            return low == 0 or _may_be_empty(part, rules)


def _may_end(tree: Tree, rules: set[str]) -> bool:
    match tree:
        case Text() | Class():
            return True
        case Ref(name):
            return name in rules
        case Seq(parts):
            return all(_may_end(part, rules) for part in parts)
        case Alt(options):
            return any(_may_end(option, rules) for option in options)
        case Repeat(part, low):
            return low == 0 or _may_end(part, rules)


def _firsts(tree: Tree, nullable: set[str]) -> set[str]:
    """The rules that may be called before a character is taken."""
    match tree:
        case Text() | Class():
            return set()
        case Ref(name):
            return {name}
        case Seq(parts):
            found: set[str] = set()
            for part in parts:
                found |= _firsts(part, nullable)
                if not _may_be_empty(part, nullable):
                    break
            return found
        case Alt(options):
            return set().union(*(_firsts(option, nullable) for option in options))
        case Repeat(part, _, high):
            return set() if high == 0 else _firsts(part, nullable)


@dataclass
class Naive:
    """Tries every way through the text. `unfinished` tells whether a way was still inside when the text ended."""

    rules: Rules
    text: str
    unfinished: bool = False
    _known: dict[tuple[Tree, int], frozenset[int]] = field(default_factory=dict)

    def matches(self) -> bool:
        """Whether the whole text is in the language of `root`."""
        return len(self.text) in self._ends(self.rules["root"], 0)

    def is_live(self) -> bool:
        """Whether the text is the beginning of one that is: every part can be finished, as no rule is endless."""
        return self.matches() or self.unfinished

    def _ends(self, tree: Tree, start: int) -> frozenset[int]:
        if (tree, start) not in self._known:
            self._known[tree, start] = frozenset(self._tried(tree, start))
        return self._known[tree, start]

    def _tried(self, tree: Tree, start: int) -> set[int]:
        match tree:
            case Text(text):
                there = self.text[start : start + len(text)]
                self.unfinished |= len(there) < len(text) and text.startswith(there)
                return {start + len(text)} if there == text else set()
            case Class(chars, negated):
                if start == len(self.text):
                    self.unfinished = True
                    return set()
                return {start + 1} if (self.text[start] in chars) != negated else set()
            case Ref(name):
                return set(self._ends(self.rules[name], start))
            case Seq(parts):
                ends = {start}
                for part in parts:
                    ends = {end for place in ends for end in self._ends(part, place)}
                return ends
            case Alt(options):
                return {end for option in options for end in self._ends(option, start)}
            case Repeat(part, low, high):
                return self._repeated(part, low, high, start)

    def _repeated(self, part: Tree, low: int, high: int | None, start: int) -> set[int]:
        ends = set[int]()
        places, times = {start}, 0
        seen = set[tuple[int, int]]()
        while places and (high is None or times <= high):
            ends |= places if times >= low else set()
            if high is None or times < high:
                places = {end for place in places for end in self._ends(part, place)}
            times += 1
            # Past the lower bound only the place matters, not how often the part was taken.
            places = {place for place in places if (place, min(times, low)) not in seen or high is not None}
            seen |= {(place, min(times, low)) for place in places}
        return ends
