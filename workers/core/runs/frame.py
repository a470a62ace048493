"""The frame that all kinds of work share: facts go in, actions come out, state is a fold over the journal.

A machine never reads a clock, never waits, never fails because the world does. Whoever has read one has read all:
`fold` takes what the journal says, `receive` takes what happened and returns what to do about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from api_contracts.failure import Failure
from api_contracts.runs import EventData, RunResumed, RunStarted, Status
from workers.core.runs.turns import Commit

HOLD_S: Final = 5.0
"""The longest wait, in seconds, that keeps its worker (FEAT D3): what waits longer parks."""


@dataclass(frozen=True, slots=True)
class Retry:
    """An operator's word to go on: the letter's id, None while older letters wait to be decided; who, why."""

    inbox: str | None
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Begin:
    """The lease is ours and the journal is folded. The first fact of every life of a run.

    `retry`: an operator brought it about. A journal with an end in it was reopened.
    """

    owner: str
    retry: Retry | None = None

    def told(self, *, resumed: bool) -> RunStarted | RunResumed:
        """Return the first event of the life."""
        cls = RunResumed if resumed else RunStarted
        if self.retry is None:
            return cls(owner=self.owner)
        return cls(owner=self.owner, inbox=self.retry.inbox, by=self.retry.by or None, reason=self.retry.reason)


@dataclass(frozen=True, slots=True)
class SignalArrived:
    """An entry of the inbox."""

    id: str
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Woke:
    """The machine's `deadline` has come."""


class Plain:
    """A fact that comes often, and of which mostly come effects alone, or events alone: neither waits for the other.

    It may be decided where it comes in, while the run's driver sleeps.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Draining:
    """The process is going to stop: hand the run over at the next good moment, at the latest at `force_at`."""

    force_at: float


@dataclass(frozen=True, slots=True)
class Passing:
    """Of `fact` come events and nothing else: no effect, no end, no other deadline. Nothing waits for it.

    It may be decided while the run's driver sleeps. What the machine takes is the fact, without this.
    """

    fact: object


@dataclass(frozen=True, slots=True)
class Emit:
    """Append this event. Emits that stand together are one append; what follows them waits for it."""

    event: EventData


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over: archive, then append the terminal event, then tell Celery."""

    status: Status
    result: Mapping[str, Any]
    failure: Failure | None = None
    reason: str = ""
    archived: bool = False
    """SQL has this end already."""
    turn: Commit | None = None
    """What the run leaves in its conversation, in one with its result."""
    moved: "Finish | None" = None
    """How it ends when the conversation is not its own any more; with every turn."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give the run to another worker: stop what runs, let go of the lease, ring."""


@dataclass(frozen=True, slots=True)
class Park:
    """Let go of worker, slot and lease until `until` (seconds since 1970; None: for as long as it takes) or a signal.

    What runs is stopped; the next life begins with `Begin`, and then every signal that came meanwhile. The facts that
    came together are decided before a park counts: an effect, release or finish that follows it makes it void. A
    signal that was not decided ends the park at once, whenever it was sent.
    """

    until: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that only an adapter can do; each kind of work has its own."""

    @property
    def once(self) -> bool:
        """Return whether it is above idempotent: a run of which the journal is lost must not come to it again."""
        return False


Action = Emit | Finish | Release | Park | Effect


class Machine(Protocol):
    """The pure half of a run."""

    @property
    def cursor(self) -> str:
        """The inbox id up to which signals are in the journal (`"0"`: none yet)."""
        ...

    @property
    def deadline(self) -> float | None:
        """When to send `Woke`, in seconds since 1970."""
        ...

    def fold(self, event: EventData, at: float) -> None:
        """Take one event of the journal, written at `at` (seconds since 1970)."""
        ...

    def receive(self, fact: object, now: float) -> list[Action]:
        """Decide. Every emitted event is already folded when this returns."""
        ...


def later_id(one: str, other: str) -> str:
    """Return the later of two stream ids (`"0"` is before all)."""
    return max(one, other, key=_order)


def _order(stream_id: str) -> tuple[int, int]:
    left, _, right = stream_id.partition("-")
    return int(left), int(right or 0)
