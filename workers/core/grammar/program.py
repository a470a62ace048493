"""A grammar as a program: what its rules do, step by step. Jumps are relative, so a repeated part is simply copied.

The steps of a rule run from its first; a step that is not a jump, a fork or the end is followed by the next one.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from workers.core.grammar.charsets import CharSet


@dataclass(frozen=True, slots=True)
class Take:
    """One character of a set, by the set's number."""

    chars: int


@dataclass(frozen=True, slots=True)
class Call:
    """A rule, by its number; `offset` is where the grammar's text says so."""

    rule: int
    offset: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Any of these steps."""

    to: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Jump:
    """That step."""

    to: int


@dataclass(frozen=True, slots=True)
class End:
    """The end of a rule."""


Step: TypeAlias = Take | Call | Fork | Jump | End
PASS = Jump(1)


@dataclass
class Rule:
    """A rule as far as it is known; `offset` is that of its definition, or of its first mention before that."""

    name: str
    offset: int
    steps: list[Step] | None = None


@dataclass
class Program:
    """A whole grammar: `text` as it was given, and the offsets where it goes beyond the documented subset."""

    text: str
    rules: list[Rule] = field(default_factory=list)
    sets: list[CharSet] = field(default_factory=list)
    beyond: list[int] = field(default_factory=list)
