"""A run's turn of a conversation, as the kernel must know it: whose it is, and what it leaves behind. Pure values.

The conversation belongs to one run from `Conversations.open` to the run's end, and its version goes up by one with what
that end leaves: in the same transaction as the run's result, so there is never one without the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

CommitKind = Literal["turn", "edit", "summary"]


class ConversationKey(NamedTuple):
    """A conversation: each tenant has names of its own."""

    tenant: str
    id: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A life of a run. `queued_at` (seconds since 1970) tells the journals of one id apart, `life` counts from 1."""

    run_id: str
    queued_at: float
    life: int

    @property
    def age(self) -> tuple[float, int]:
        """Return what is greater for whoever came later."""
        return self.queued_at, self.life


@dataclass(frozen=True, slots=True)
class Commit:
    """The next version: `messages` after those of `base`, or in their place (`whole`).

    `settings`: all of them, where they changed. `tokens`: what the model counted of the conversation as it is now, None
    where nobody counted.
    """

    key: ConversationKey
    holder: Holder
    base: int
    kind: CommitKind
    messages: Sequence[Mapping[str, Any]]
    whole: bool = False
    settings: Mapping[str, Any] | None = None
    settings_version: int = 1
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A version of a conversation; version 0 has nothing in it yet.

    `tokens`: see `Commit`, of the last turn. `floor`: what the first turn after the last summary counted, 0 right
    after one, None where there was none. `own`: how
    many of the versions the holder has made.
    """

    version: int
    messages: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_version: int = 1
    tokens: int | None = None
    floor: int | None = None
    own: int = 0
