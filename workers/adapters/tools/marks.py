"""`@tool`: what a function says of itself. Marking changes nothing about the function and registers nothing."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from api_contracts.chat import Effect

MARK: Final = "__fireworks_tool__"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # WIRE 1.4

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class CallContext:
    """Given to a tool that has a parameter of this type. `key` is the same for every repeat of one call."""

    key: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What `@tool` was told."""

    name: str
    effect: Effect
    timeout_s: float


def tool(*, effect: Effect, name: str | None = None, timeout_s: float = 60.0) -> Callable[[F], F]:
    """Mark an async or sync function as a tool.

    `effect` has no default: what a repeat after a crash would do is the author's to say. The schema comes from the
    signature, the descriptions from the docstring. Raises ValueError for a name that the provider refuses (WIRE 1.4).
    """
    if timeout_s <= 0:
        raise ValueError(f"timeout_s must be over 0, not {timeout_s}: a call is never unbounded")

    def mark(function: F) -> F:
        chosen = name or function.__name__
        if not _NAME.fullmatch(chosen):
            raise ValueError(f"tool name {chosen!r} is refused: 1 to 64 of letters, digits, _ and - (WIRE 1.4)")
        setattr(function, MARK, Mark(chosen, effect, timeout_s))
        return function

    return mark
