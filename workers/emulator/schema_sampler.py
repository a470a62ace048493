"""Drawing a JSON value from a shape. Deterministic in the generator that it is given.

`Hints` are what the user's text offers: names, numbers and quoted strings. Tool arguments are drawn with them, so that
"What is the weather in Oslo?" calls with Oslo; answers under a schema are drawn without.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from random import Random
from typing import Any

from workers.emulator.lexicon import LABELS, phrase
from workers.emulator.shapes import Anything, Choice, Items, Member, Nothing, Number, Record, Shape, Text, Union

_QUOTED = re.compile(r"[\"\u201c\u00ab]([^\"\u201d\u00bb]{1,80})[\"\u201d\u00bb]|(?<!\w)'([^']{1,80})'(?!\w)")
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,6})?(?![\w.]*\w)")
_NAME = re.compile(r"[^\W\d_a-z]\w*(?: [^\W\d_a-z]\w*)*")

_DEEP = 4
_LONGEST_AT_TOP = 50
_LONGEST_TEXT = 10_000


@dataclass
class Hints:
    """Values that the user spoke of, handed out in the order in which they were said; then none are left."""

    text: str = ""
    strings: list[str] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)

    def mentioned(self, values: Sequence[Any]) -> Any | None:
        """The first of the values that the text holds as a word."""
        words = self.text.casefold()
        return next((value for value in values if isinstance(value, str) and value and value.casefold() in words), None)


def hints_from(text: str) -> Hints:
    """What a user's text offers as arguments: quoted strings before names, numbers apart."""
    quoted = [double or single for double, single in _QUOTED.findall(text)]
    start = re.match(r"\s*\w+", text)  # a first word is a capital by position, not by being a name
    names = _NAME.findall(text, start.end() if start else 0)
    numbers = [float(number) if "." in number else int(number) for number in _NUMBER.findall(text)]
    return Hints(text, quoted or names, numbers)


@dataclass(frozen=True)
class SchemaSampler:
    """Draws values. `hints` None draws freely."""

    rng: Random
    hints: Hints | None = None

    def draw(self, shape: Shape, depth: int = 0) -> Any:
        """A value of the shape. Arrays shrink with depth, else the size of a value would grow as a power of it."""
        match shape:
            case Choice():
                return self._choice(shape.values)
            case Text():
                return self._text(shape)
            case Number():
                return self._number(shape)
            case Items():
                return [self.draw(shape.item, depth + 1) for _ in range(self._length(shape, depth))]
            case Record():
                return {member.name: self.draw(member.shape, depth + 1) for member in self._present(shape.members)}
            case Union():
                return self.draw(self._option(shape.options), depth)
            case Anything() | Nothing():
                return self._anything()

    def _option(self, options: tuple[Shape, ...]) -> Shape:
        """By chance; for a tool the first that says something, since `null` is how optional parameters are spelled."""
        telling = [option for option in options if option != Choice((None,))]
        return telling[0] if self.hints and telling else self.rng.choice(options)

    def _choice(self, values: tuple[Any, ...]) -> Any:
        mentioned = self.hints.mentioned(values) if self.hints else None
        return self.rng.choice(values) if mentioned is None else mentioned

    def _text(self, shape: Text) -> str:
        text = self.hints.strings.pop(0) if self.hints and self.hints.strings else phrase(self.rng)
        while len(text) < min(shape.low, _LONGEST_TEXT):
            text += f" {phrase(self.rng)}"
        return text if shape.high is None else text[: shape.high]

    def _number(self, shape: Number) -> float:
        low, high = _range(shape)
        if self.hints and self.hints.numbers:
            said = self.hints.numbers.pop(0)
            if low <= said <= high or (shape.low is None and shape.high is None):
                return round(said) if shape.integer else said
        if shape.integer:
            return self.rng.randint(ceil(low), max(ceil(low), floor(high)))
        return round(self.rng.uniform(low, high), 2) if high - low > 1 else (low + high) / 2

    def _length(self, shape: Items, depth: int) -> int:
        low = min(shape.low, _LONGEST_AT_TOP if depth < _DEEP else 1)  # only a tool's schema has a lower bound
        high = max(1, low, low + 3 - depth)
        high = high if shape.high is None else min(high, shape.high)
        least = min(high, max(low, 1)) if self.hints else low
        return self.rng.randint(least, max(least, high))

    def _present(self, members: tuple[Member, ...]) -> list[Member]:
        """Required members, and optional ones by chance. A tool that requires nothing is asked with everything."""
        every = self.hints is not None and not any(member.required for member in members)
        return [member for member in members if member.required or every or self.rng.random() < 0.5]

    def _anything(self) -> Any:
        scalars = (phrase(self.rng), self.rng.randint(-9, 99), self.rng.random() < 0.5, None)
        kind = self.rng.randrange(6)
        if kind == 4:
            return [self.rng.choice(scalars) for _ in range(self.rng.randint(0, 3))]
        if kind == 5:
            return some_object(self.rng)
        return scalars[kind]


def some_object(rng: Random) -> dict[str, Any]:
    """A small object of no particular schema."""
    return {label: rng.choice((phrase(rng), rng.randint(0, 99))) for label in rng.sample(LABELS, rng.randint(1, 4))}


def _range(shape: Number) -> tuple[float, float]:
    """The bounds, with a hundred to choose from where one is open."""
    if shape.low is None:
        return (-20.0, 100.0) if shape.high is None else (shape.high - 100, shape.high)
    return shape.low, shape.low + 100 if shape.high is None else max(shape.low, shape.high)
