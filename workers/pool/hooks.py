"""What the rest of the worker asks of the pool, at its turning points and in between.

Owns the lists and where they hang: on the Celery app, so that nothing is kept at module level.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

Hook = Callable[[], Awaitable[None]]
"""Called without arguments on the pool's event loop."""

_ATTRIBUTE: Final = "fw_pool_hooks"


class PoolView(Protocol):
    """What may be known of the running pool, from any thread."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the process."""
        ...

    @property
    def lag_s(self) -> float:
        """How late the loop is, or was when it was last due."""
        ...

    @property
    def silent_s(self) -> float | None:
        """Seconds since Celery's hub turned last with a connection that consumes; None before the first time."""
        ...

    def slots(self) -> Mapping[str, int]:
        """Return `limit`, `running`, `waiting`."""
        ...


@dataclass(frozen=True)
class PoolHooks:
    """Coroutine functions that the pool awaits on its loop.

    `on_start`: one after the other, before the first message is fetched, 30 s each; one that raises stops the
    worker with one line and exit code 1. `on_drain`: all together, once, when a shutdown begins; they ask the runs
    to hand over and need not wait for them, the pool does. `on_stop`: in reverse order, when no job runs any
    more, 5 s together; what they raise is logged. They are awaited after a start that failed, too.
    """

    on_start: list[Hook] = field(default_factory=list)
    on_drain: list[Hook] = field(default_factory=list)
    on_stop: list[Hook] = field(default_factory=list)
    pool: list[PoolView] = field(default_factory=list)
    """The pool itself, from before `on_start` on."""


def hooks_of(app: Any) -> PoolHooks:
    """Return the hooks of this app; the same object every time."""
    hooks = getattr(app, _ATTRIBUTE, None)
    if not isinstance(hooks, PoolHooks):
        hooks = PoolHooks()
        setattr(app, _ATTRIBUTE, hooks)
    return hooks
