"""The kernel: time, journals and leases, inboxes, the archive, the bell."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from api_contracts.runs import Event, EventData, RunQueued, Status
from workers.core.chat.acts import SendCall
from workers.core.runs.turns import Commit

RetryReply = Literal["reopened", "woken", "running", "completed", "session", "telling", "gone", "missing"]
"""`reopened`, `woken`: ring for it. The others say why nothing was done; `gone`: only the lease is left."""


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


class KeysDamaged(Exception):
    """What is kept of this run is not what any writer of ours writes: a stranger's hand was in it. See `mend`."""


class LeaseLost(Exception):
    """The run belongs to a later epoch, or is over: stop, and touch nothing more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a run, and the fence: whatever carries a lease is refused when either part is not current.

    The epoch alone would not do. A store that lost what it had acknowledged (a failover) may grant an epoch twice.
    """

    run_id: str
    epoch: int
    owner: str


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease is ours; the journal ends at `seq`. `deaths` is how many owners in a row were lost.

    `cancelled`: a letter of the inbox asks the run to end. `retry`: the last letter by which an operator retried it.
    `damaged`: what is kept of it was mended, and may lack what was done: it must not go on. `first`: the event of a
    journal that has but one, if the store gave it along.
    """

    lease: Lease
    seq: int
    deaths: int = 0
    cancelled: bool = False
    retry: str | None = None
    damaged: bool = False
    first: Event | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Held:
    """A live owner has the run."""

    owner: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over, since the life of this epoch; `announced` when its callbacks are out."""

    status: Status
    announced: bool
    epoch: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Asleep:
    """The run is parked: neither its time nor a letter has come."""


@dataclass(frozen=True, slots=True)
class Missing:
    """No such run: never submitted, or its keys are gone."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A due run that nobody holds, to be sent again by whoever got this. `signature` is the caller's, if known.

    `cancelled`: it was asked to end. That needs no worker of its own queue. `waits_in`: the queue in which it waited
    for a worker before this claim, so its message may lie there still; `""` for a run that nobody has been rung for.
    `late`: its deadline has passed, since it was submitted; that needs no worker of its own queue either.
    """

    run_id: str
    signature: str | None
    cancelled: bool = False
    waits_in: str = ""
    late: bool = False


class RunStore(Protocol):
    """Journals and leases of all runs. Every call raises `StoreUnavailable` when the store cannot be reached, and
    `KeysDamaged` when a stranger's hand was in what is kept of the run.
    """

    async def submit(
        self, run_id: str, queued: RunQueued, blob: str | None
    ) -> Literal["created", "exists", "conflict"]:
        """Record a run once: the same digest again is `exists`, another digest `conflict`.

        It is due when its message may be lost, or its deadline has passed, whichever is first.
        """
        ...

    async def acquire(self, run_id: str, owner: str, signature: str) -> Granted | Held | Asleep | Finished | Missing:
        """Take the lease under the next epoch if no live owner has it; the first signature is kept.

        `owner` is a name that nobody has had or will have but for this one grant.
        """
        ...

    async def mend(self, run_id: str) -> None:
        """Put what is kept of a damaged run into order: it has no owner then, and the next lease is `damaged`.

        Of the journal stays what is surely ours. Whoever held the lease is fenced. Nothing happens to a run in order.
        """
        ...

    def append(
        self,
        lease: Lease,
        base_seq: int,
        events: Sequence[EventData],
        *,
        terminal: Status | None = None,
    ) -> Awaitable[int]:
        """Append after `base_seq`; return the new last seq. Raise `LeaseLost` under a stale lease, or after the end.

        So it does when the journal is shorter than `base_seq`: the store lost what it had acknowledged, and whoever
        reads the journal again goes on from what is left. Safe to repeat with the same arguments: what already landed
        is not appended again.
        """
        ...

    async def renew(self, leases: Sequence[Lease]) -> set[Lease]:
        """Extend each; return those that are lost."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give the run up without ending it: the next message or sweep may take it at once.

        Under a stale lease nothing happens.
        """
        ...

    async def park(self, lease: Lease, seen: str, until: float | None) -> Literal["parked", "letters"]:
        """Give the run up until a time or a letter; `letters`: there is one after `seen`, and the run is due now.

        Raise `LeaseLost` under a stale lease. If the run is over by then, its end counts as unannounced and is due:
        whoever parks has just told Celery that the run waits, perhaps after its end was told.
        """
        ...

    async def announced(self, run_id: str, epoch: int | None = None) -> None:
        """Note that the finished run's callbacks are out; nothing looks at the run again. (But see `park`.)

        `epoch` is that of the end that was told. If a retry has led to another end meanwhile, Celery has just been told
        the old one, perhaps in its place: the end counts as unannounced, and is due.
        """
        ...

    async def read(self, run_id: str, after: int = 0) -> list[Event]:
        """Return the journal after seq `after`, in order, without what strangers wrote into it."""
        ...

    async def blob(self, run_id: str, number: int) -> str | None:
        """Return a spilled value."""
        ...

    async def put_blob(self, run_id: str, number: int, value: str) -> None:
        """Spill a value that an event of this run will refer to."""
        ...

    async def known(self, run_ids: Sequence[str]) -> set[str]:
        """Return those of which there is a journal."""
        ...

    async def signal(
        self, run_id: str, kind: str, data: Mapping[str, Any], signal_id: str
    ) -> Literal["sent", "woken", "finished", "missing"]:
        """Append to the run's inbox, once per `signal_id`. `woken`: the run is due now; `claim` it.

        A parked run is woken by any signal, one that waits for a worker by `cancel`.
        """
        ...

    async def retry(self, run_id: str, by: str, reason: str) -> RetryReply:
        """Reopen a run that is over and announced, or have one that waits looked at now: a letter `retry` says who and
        why, and the run is due; `claim` it. Asked for several times before a life begins, it is one retry.

        Completed runs and speech sessions are not reopened, nor is one whose outcome is still being told.
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


class MessageQueues(Protocol):
    """The broker's side of the same."""

    async def lying(self, queue: str) -> int:
        """Return how many messages lie in a queue, untaken. Raise `StoreUnavailable`."""
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
    idempotency_key: str | None = None
    conversation: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A run of which an effect above idempotent may have begun. Should its journal be lost, it must not begin anew.

    `queued_at` (seconds since 1970) tells the journal apart from one that the same id gets later.
    """

    run_id: str
    kind: str
    tenant: str
    labels: Mapping[str, str]
    queued_at: float
    idempotency_key: str | None = None


class Archive(Protocol):
    """The terminal results, for as long as they must last; of live runs, which of them must not begin anew."""

    async def save(self, record: RunRecord, turn: Commit | None = None) -> RunRecord | Literal["saved", "moved"]:
        """Write the record, and take away what was noted of the run's beginning. Idempotent.

        A record of a later journal (`queued_at`), or of a later epoch of the same, is never overwritten.

        With `turn`, the record and the next version of a conversation are written, or neither: `moved` when the run has
        the conversation no more, or not at that version; a record when the run's turn is there already, with what the
        run came to. Raise `LeaseLost` when a later life of the run has the conversation. A run that ends without a turn
        lets go of its conversation.
        """
        ...

    async def note(self, begun: Begun) -> bool:
        """Note that an effect may have begun; False when it was noted under another journal of the same run, which
        stands. When this returns, the note outlives the process.
        """
        ...

    async def remembered(self, run_id: str) -> tuple[RunRecord | None, Begun | None]:
        """Return the record, and what is noted of the run's beginning: one question, since each new run asks it."""
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
