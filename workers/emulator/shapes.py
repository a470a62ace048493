"""Shapes: what a JSON schema comes down to. `json_schema` builds them, `schema_sampler` draws values from them."""

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Nothing:
    """No value fits."""


@dataclass(frozen=True)
class Anything:
    """Every value fits."""


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Text:
    """A string of `low` to `high` characters."""

    low: int = 0
    high: int | None = None


@dataclass(frozen=True)
class Number:
    """A number within bounds, both included."""

    integer: bool
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Items:
    """An array of `low` to `high` values of one shape."""

    item: "Shape"
    low: int = 0
    high: int | None = None


@dataclass(frozen=True)
class Member:
    """A property of an object."""

    name: str
    shape: "Shape"
    required: bool


@dataclass(frozen=True)
class Record:
    """An object with these properties and no others."""

    members: tuple[Member, ...]


@dataclass(frozen=True)
class Union:
    """A value of one of these shapes."""

    options: "tuple[Shape, ...]"


Shape: TypeAlias = Nothing | Anything | Choice | Text | Number | Items | Record | Union
