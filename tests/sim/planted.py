"""Bugs that are planted, so that it is known what the simulator can see, and how soon."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from api_contracts.runs import EventData, Status
from workers.adapters.memory.runs import MemoryRuns
from workers.core.runs.frame import Action, Effect
from workers.ports import Claimed, Lease
from workers.runners.drive import Driver


class NoFence(MemoryRuns):
    """Anyone may append, under whatever epoch."""

    async def append(
        self, lease: Lease, base_seq: int, events: Sequence[EventData], *, terminal: Status | None = None
    ) -> int:
        """See the port, and leave out what matters."""
        if (run := self._runs.get(lease.run_id)) is None:
            return base_seq
        current = Lease(lease.run_id, run.epoch, run.owner)
        return await super().append(current, min(base_seq, len(run.events)), events, terminal=terminal)


class NoLeaseCheck(MemoryRuns):
    """Every run is due, whoever holds it."""

    async def claim_due(self, limit: int) -> list[Claimed]:
        """See the port, and leave out what matters."""
        self._due.update({run_id: 0.0 for run_id, run in self._runs.items() if not run.status})
        return await super().claim_due(limit)

    async def claim(self, run_id: str) -> Claimed | None:
        """See the port, and leave out what matters."""
        if run_id in self._runs:
            self._runs[run_id].until = 0.0
        return await super().claim(run_id)


async def _hasty(self: Driver, actions: list[Action]) -> None:
    """Begin effects before their announcement is in the journal."""
    early = [action for action in actions if isinstance(action, Effect)]
    for action in early:
        self._performer.perform(action, self.post)
    await _RIGHTLY(self, [action for action in actions if action not in early])


async def _noted(self: Driver) -> None:
    """Tell SQL nothing."""


_RIGHTLY: Final = Driver._perform
STORES: Final[dict[str, type[MemoryRuns]]] = {"no-fence": NoFence, "no-lease-check": NoLeaseCheck}
PATCHES: Final[dict[str, tuple[type, str, Any]]] = {
    "effect-first": (Driver, "_perform", _hasty),
    "no-note": (Driver, "_note", _noted),
}
BUGS: Final = (*STORES, *PATCHES)
"""The fence is gone; the sweep looks at no lease; effects precede their announcement; SQL is not told of effects."""


@contextmanager
def planted(bug: str) -> Iterator[type[MemoryRuns]]:
    """Have a bug, or none (`""`); yield the store to play with."""
    if bug not in PATCHES:
        yield STORES[bug] if bug else MemoryRuns
        return
    owner, name, wrong = PATCHES[bug]
    rightly = getattr(owner, name)
    setattr(owner, name, wrong)
    try:
        yield MemoryRuns
    finally:
        setattr(owner, name, rightly)
