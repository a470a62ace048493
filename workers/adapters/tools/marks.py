"""`@tool`: what a function says of itself. Marking changes nothing about the function and registers nothing."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from api_contracts.chat import Effect, OnInterrupt, Shown
from workers.core.chat.cards import CATCH_ALL
from workers.ports import PROGRESS

MARK: Final = "__fireworks_tool__"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # WIRE 1.4

_LONGEST_CALL_S: Final = 86400.0
_LONGEST_APPROVAL_S: Final = 14 * 86400.0

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class CallContext:
    """Given to a tool that has a parameter of this type. `key` is the same for every repeat of one call."""

    key: str

    def progress(self, value: object) -> None:
        """Tell who follows the run how far it is: text, or anything that is JSON (else TypeError). At most one a
        second is kept. From any thread.
        """
        if tell := PROGRESS.get():
            tell(value)


@dataclass(frozen=True, slots=True)
class Reply:
    """A tool's result and what is to follow from it.

    `run_llm`: False where the model need not answer to it. It is asked all the same when a call beside it does not say
    so, and never before all of them have results. `after` is called, without arguments, in this worker once the result
    is in the journal; it ends with the run's life here at the latest, and is not made up for after a crash.
    """

    value: Any
    run_llm: bool | None = None
    after: Callable[[], Any] | None = None


@dataclass(frozen=True, slots=True)
class Happened:
    """A reconcile hook's word: the call took effect, and this is its result."""

    value: Any = None


class DidNotHappen:
    """A reconcile hook's word: the call did not take effect, and may be made again."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What `@tool` was told."""

    name: str
    effect: Effect
    timeout_s: float
    approval_s: float | None
    on_interrupt: OnInterrupt | None = None
    show: Shown = "result"
    reconcile: Callable[..., Any] | None = None
    wait: bool = True
    cancellable: bool | None = None


def tool(
    *,
    effect: Effect,
    name: str | None = None,
    timeout_s: float = 60.0,
    approval: bool = False,
    approval_timeout_s: float = 7 * 86400.0,
    on_interrupt: OnInterrupt | None = None,
    show: Shown = "result",
    wait: bool = True,
    cancellable: bool | None = None,
    reconcile: Callable[..., Any] | None = None,
) -> Callable[[F], F]:
    """Mark an async or sync function as a tool.

    `effect` has no default: what a repeat after a crash would do is the author's to say. The schema comes from the
    signature, the descriptions from the docstring. With `approval` each call waits up to `approval_timeout_s` until
    somebody signals `approve` or `reject`; `timeout_s` counts from then. `on_interrupt`, `show`, `wait`
    and `cancellable` are those of `api_contracts.chat.ToolSpec`.

    `reconcile` is asked, with the arguments of the call, when a worker died while an `at_most_once` call ran: it
    returns `Happened(value)`, `DidNotHappen()`, or None where it does not know; then the call is `outcome_unknown`.

    Raises ValueError for a name that the provider refuses (WIRE 1.4) and for times out of bounds.
    """
    _check_time(timeout_s)
    if not 0 < approval_timeout_s <= _LONGEST_APPROVAL_S:
        raise ValueError(f"approval_timeout_s must be over 0 and at most 14 days, not {approval_timeout_s} s")

    wait_s = approval_timeout_s if approval else None

    def mark(function: F) -> F:
        chosen = name or function.__name__
        if not _NAME.fullmatch(chosen):
            raise ValueError(f"tool name {chosen!r} is refused: 1 to 64 of letters, digits, _ and - (WIRE 1.4)")
        given = Mark(chosen, effect, timeout_s, wait_s, on_interrupt, show, reconcile, wait, cancellable)
        setattr(function, MARK, given)
        return function

    return mark


def catch_all(*, effect: Effect, timeout_s: float = 60.0) -> Callable[[F], F]:
    """Mark the function that takes calls of every tool that a chat was not given, when it was given any.

    It has the parameters `name: str` and `arguments: dict[str, Any]`, and may have one for a `CallContext`. Without it
    the model is told that there is no such tool.
    """
    _check_time(timeout_s)

    def mark(function: F) -> F:
        setattr(function, MARK, Mark(CATCH_ALL, effect, timeout_s, None))
        return function

    return mark


def _check_time(timeout_s: float) -> None:
    if not 0 < timeout_s <= _LONGEST_CALL_S:
        raise ValueError(f"timeout_s must be over 0 and at most a day, not {timeout_s}: a call is never unbounded")
