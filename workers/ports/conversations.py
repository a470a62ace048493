"""Conversations: versions of messages and settings, and whose turn it is."""

from dataclasses import dataclass
from typing import Protocol

from workers.core.runs.turns import Commit, ConversationKey, Holder, Opened
from workers.ports.runs import RunRecord


@dataclass(frozen=True, slots=True)
class Busy:
    """The conversation is another run's until that one ends."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Committed:
    """The run's turn is in the conversation already, and this is what the run came to."""

    record: RunRecord


class Conversations(Protocol):
    """Every call raises `StoreUnavailable`. What ends a turn is the archive's `save`, in one with the run's result."""

    async def open(self, key: ConversationKey, holder: Holder, lost: str | None = None) -> Opened | Busy | Committed:
        """Make the conversation the holder's, and read its newest version. One that is not there begins at 0.

        An earlier life of the same run loses it, and cannot commit any more; raise `LeaseLost` for one that has lost
        it. `lost` is a run that has it and is known to be gone.
        """
        ...

    async def commit(self, commit: Commit) -> bool:
        """Add a version and go on holding the conversation; False when it is not the holder's any more, or moved on.

        Repeated, it is one version: True when the very version is there already.
        """
        ...

    async def read(self, key: ConversationKey) -> Opened | None:
        """Return the newest version, whoever has it; None when there is no such conversation."""
        ...
