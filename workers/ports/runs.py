"""The kernel: time, journals and leases, inboxes, the archive, the bell."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from api_contracts.runs import Event, EventData, RunQueued, Status
from workers.core.chat.acts import SendCall


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> float:
        """Return seconds since 1970."""
        ...

    async def sleep_until(self, when: float) -> None:
        """Return when `now() >= when`."""
        ...


class StoreUnavailable(Exception):
    """The store of runs cannot be reached now; the same call may succeed later."""


class LeaseLost(Exception):
    """The run belongs to a later epoch, or is over: stop, and touch nothing more."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease is ours under `epoch`; the journal ends at `seq`. `deaths` is how many owners in a row were lost.

    `cancelled`: a letter of the inbox asks the run to end.
    """

    epoch: int
    seq: int
    deaths: int = 0
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A live owner has the run."""

    owner: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over; `announced` when its callbacks are out."""

    status: Status
    announced: bool


@dataclass(frozen=True, slots=True)
class Asleep:
    """The run is parked: neither its time nor a letter has come."""


@dataclass(frozen=True, slots=True)
class Missing:
    """No such run: never submitted, or its keys are gone."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A due run that nobody holds, to be sent again by whoever got this. `signature` is the caller's, if known.

    `cancelled`: it was asked to end. That needs no worker of its own queue.
    """

    run_id: str
    signature: str | None
    cancelled: bool = False


class RunStore(Protocol):
    """Journals and leases of all runs. Every call raises `StoreUnavailable` when the store cannot be reached."""

    async def submit(
        self, run_id: str, queued: RunQueued, blob: str | None
    ) -> Literal["created", "exists", "conflict"]:
        """Record a run once: the same digest again is `exists`, another digest `conflict`."""
        ...

    async def acquire(self, run_id: str, owner: str, signature: str) -> Granted | Held | Asleep | Finished | Missing:
        """Take the lease under the next epoch if no live owner has it; the first signature is kept."""
        ...

    async def append(
        self,
        run_id: str,
        epoch: int,
        base_seq: int,
        events: Sequence[EventData],
        *,
        terminal: Status | None = None,
    ) -> int:
        """Append after `base_seq`; return the new last seq. Raise `LeaseLost` under a stale epoch, or after the end.

        Safe to repeat with the same arguments: what already landed is not appended again.
        """
        ...

    async def renew(self, leases: Sequence[tuple[str, int]]) -> set[str]:
        """Extend each (run id, epoch); return the run ids whose lease is lost."""
        ...

    async def release(self, run_id: str, epoch: int) -> None:
        """Give the run up without ending it: the next message or sweep may take it at once."""
        ...

    async def park(self, run_id: str, epoch: int, seen: str, until: float | None) -> Literal["parked", "letters"]:
        """Give the run up until a time or a letter; `letters`: there is one after `seen`, and the run is due now.

        Raise `LeaseLost` when the epoch is not the current one any more.
        """
        ...

    async def announced(self, run_id: str) -> None:
        """Note that the finished run's callbacks are out; nothing looks at the run again."""
        ...

    async def read(self, run_id: str, after: int = 0) -> list[Event]:
        """Return the journal after seq `after`, in order."""
        ...

    async def blob(self, run_id: str, number: int) -> str | None:
        """Return a spilled value."""
        ...

    async def put_blob(self, run_id: str, number: int, value: str) -> None:
        """Spill a value that an event of this run will refer to."""
        ...

    async def signal(
        self, run_id: str, kind: str, data: Mapping[str, Any], signal_id: str
    ) -> Literal["sent", "woken", "finished", "missing"]:
        """Append to the run's inbox, once per `signal_id`. `woken`: the run is due now; `claim` it.

        A parked run is woken by any signal, one that waits for a worker by `cancel`.
        """
        ...

    async def claim(self, run_id: str) -> Claimed | None:
        """Like `claim_due`, for one run: None when it is not due, held, over, or another's to ring for."""
        ...

    async def claim_due(self, limit: int) -> list[Claimed]:
        """Return due runs without a live lease, each to one caller only; their next look moves into the future."""
        ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """Runs that wait for a worker of one queue: how many, and for how long (seconds) the one that waits longest."""

    runs: int
    oldest_s: float


class Queues(Protocol):
    """What waits for workers: submitted, handed over, lost with a worker, or woken from a park."""

    async def waiting(self) -> Mapping[str, Waiting]:
        """Return what waits, for each of `names.QUEUES`. Raise `StoreUnavailable`."""
        ...


class RunWatch(Protocol):
    """Sees one life of a run."""

    def saw(self, events: Sequence[EventData], now: float) -> None:
        """Take events that were appended just now. Never raises, never waits, and costs a delta next to nothing."""
        ...


class Onlooker(Protocol):
    """Sees what is appended, run by run; the metrics are a fold over it."""

    def life(self, queued: RunQueued, queued_at: float, model: str, journal: Sequence[Event]) -> RunWatch:
        """Return what sees the life that begins after `journal`. `model` is the request's, or `""`."""
        ...


@dataclass(frozen=True, slots=True)
class Letter:
    """One entry of a run's inbox."""

    id: str
    type: str
    data: Mapping[str, Any]


class Inbox(Protocol):
    """Signals as they come, for all runs of the process through one reader."""

    def watch(self, run_id: str, after: str, deliver: Callable[[Letter], None]) -> Callable[[], None]:
        """Call `deliver` on the loop for each entry after id `after` (`"0"` for all); return the way to stop."""
        ...

    async def backlog(self, run_id: str, after: str) -> list[Letter]:
        """Return what is there now after id `after`, in order. Raise `StoreUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A finished run as SQL keeps it. `result` is the whole result object."""

    run_id: str
    kind: str
    status: Status
    epoch: int
    tenant: str
    labels: Mapping[str, str]
    result: Mapping[str, Any]
    queued_at: float
    finished_at: float


class Archive(Protocol):
    """The terminal results, for as long as they must last."""

    async def save(self, record: RunRecord) -> None:
        """Write the record; a record of a later epoch is never overwritten by an earlier one. Idempotent."""
        ...

    async def load(self, run_id: str) -> RunRecord | None:
        """Return the record, or None."""
        ...


class Bell(Protocol):
    """Whatever sends a Celery message does it through here."""

    async def ring(self, run_id: str, signature: str | None, queued: RunQueued, queue: str | None = None) -> None:
        """Send the run's message: from the caller's stored signature, or a plain one. Raise `StoreUnavailable`.

        `queue` is where to, if not to the run's own.
        """
        ...

    async def call(self, call: SendCall) -> None:
        """Send a tool call, with its result linked back to the run. Raise `StoreUnavailable`."""
        ...
