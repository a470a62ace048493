"""From a message to an outcome: record the run if need be, take its lease, drive it.

The message is only a doorbell. Whatever it says twice, late or wrongly, the journal decides.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from pydantic import ValidationError

from api_contracts.client.scripts import RETRY_LETTER, digest_of, spill
from api_contracts.failure import Failure
from api_contracts.keys import derived_run_id
from api_contracts.names import Kind
from api_contracts.runs import Event, RunParked, RunQueued, RunStarted
from api_contracts.vocabulary import typed
from workers.core.runs.frame import Effect, Machine, later_id
from workers.core.runs.later import NeedsLater, Waiting
from workers.core.runs.lives import lives_without_a_step, worn_out
from workers.core.runs.refusal import JOURNAL_LOST, KEYS_DAMAGED, Foregone, Refusal
from workers.errors import internal
from workers.ports import Asleep, Finished, Granted, Held, KeysDamaged, LeaseLost, Letter, StoreUnavailable
from workers.runners.drive import Driver, DriverServices, Performer
from workers.runners.intake import (
    check_queued,
    deadline_in,
    folded,
    frame_of,
    futile_in,
    model_of,
    object_in,
    object_of,
    queued_in,
    stored_digest,
)
from workers.runners.leases import LeaseKeeper
from workers.runners.losses import Life, Losses
from workers.runners.outcome import Dropped, Outcome, Parked, Unreachable

_log = structlog.get_logger(__name__)

MOST_LIVES = 10
"""Lost in a row, without a step that lasts; each takes about a lease. A life that was handed over is not lost."""

EXPIRED = Failure(
    code="expired",
    category="deadline",
    message="no worker began the run before its message expired (Celery's `expires`)",
    at_fault="caller",
)


@dataclass(frozen=True, slots=True)
class Message:
    """A Celery message as we understand it. `signature` renders the caller's, for re-sends, without content.

    `is_expired`: the time in which its sender wanted it begun has passed.
    """

    run_id: str
    kind: Kind
    request: Any
    signature: Callable[[str], str]
    trace_id: str | None = None
    is_expired: bool = False


class Kinds(Protocol):
    """What is special to each kind of work."""

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        """Return what drives the run; for a bad request, `refusal`."""
        ...


class Reception:
    """Serves messages for one process."""

    def __init__(
        self,
        services: DriverServices,
        keeper: LeaseKeeper,
        kinds: Kinds,
        owner: str,
        writer: str,
        most_lives: int = MOST_LIVES,
    ) -> None:
        self._services = services
        self._losses = Losses(services)
        self._keeper = keeper
        self._kinds = kinds
        self._owner = owner
        self._lives = itertools.count(1)
        self._writer = writer
        self._most_lives = most_lives
        self._drivers: dict[str, Driver] = {}
        self._force_at: float | None = None

    def __len__(self) -> int:
        return len(self._drivers)

    def active(self, kind: Kind) -> int:
        """Return how many runs of this kind are driven now. From any thread."""
        return sum(driver.kind == kind for driver in list(self._drivers.values()))

    def drain(self, force_at: float) -> None:
        """Ask every run to hand over; those that still come in hand over at once."""
        self._force_at = force_at
        for driver in list(self._drivers.values()):
            driver.drain(force_at)

    async def serve(self, message: Message, accept: Callable[[], Awaitable[None]]) -> Outcome:
        """Serve one message. `accept` tells the broker; it is called once the run is recorded and leased.

        Whatever is logged from here on in this task, and in those that it starts, says which run it is about.
        """
        about = {"run_id": message.run_id, "kind": message.kind, "trace_id": message.trace_id}
        structlog.contextvars.bind_contextvars(**{name: value for name, value in about.items() if value})
        accepted = False

        async def accept_() -> None:
            nonlocal accepted
            accepted = True
            await accept()

        try:
            return await self._served(message, accept_)
        except KeysDamaged:
            outcome = await self._served_mended(message, accept_)
        if accepted and isinstance(outcome, Unreachable):
            return Dropped(outcome.reason)  # a sweeper rings
        return outcome

    async def _served_mended(self, message: Message, accept: Callable[[], Awaitable[None]]) -> Outcome:
        """Serve a run whose keys a stranger spoilt: put into order, it is leased like any other, and fails."""
        try:
            await self._services.store.mend(message.run_id)
            return await self._served(message, accept)
        except (StoreUnavailable, KeysDamaged) as exc:
            return Unreachable(str(exc))

    async def _served(self, message: Message, accept: Callable[[], Awaitable[None]]) -> Outcome:
        try:
            digest = stored_digest(message.request)
            if digest is None and (digest := await self._record(message)) is None:
                return await self._dropped(message.run_id, "another request under the same id")
            found = await self._services.store.acquire(message.run_id, self._new_owner(), message.signature(digest))
        except StoreUnavailable as exc:
            return Unreachable(str(exc))
        match found:
            case Granted():
                return await self._serve_leased(message, found, accept)
            case Held(owner):
                return Dropped(f"held by {owner}")
            case Asleep():
                return await self._dropped(message.run_id, "parked")
            case Finished(announced=True):
                return await self._dropped(message.run_id, "finished and announced")
            case _:
                epoch = found.epoch if isinstance(found, Finished) else None
                return await self._losses.stored(message.run_id, message.kind, epoch)

    def _new_owner(self) -> str:
        """Name the owner of one life. Our own last life under an epoch that is granted again is another's, too."""
        return f"{self._owner}#{next(self._lives)}"

    async def _dropped(self, run_id: str, reason: str) -> Dropped:
        try:
            events = await self._services.store.read(run_id)
            return Dropped(reason, typed(events[-1]) if events else None)
        except (StoreUnavailable, ValidationError) as exc:
            _log.info("run.truth_unknown", run_id=run_id, error=type(exc).__name__)
            return Dropped(reason)

    async def park(self, parked: Parked) -> bool:
        """Let go of a run that waits, once Celery knows that it does; return False when a letter is there already.

        Should this fail, the lease runs out: the run is rung for, finds that it is too early, and parks again.
        """
        try:
            said = await self._services.store.park(parked.lease, parked.seen, parked.until)
        except (LeaseLost, StoreUnavailable, KeysDamaged) as exc:
            _log.warning("run.not_parked", run_id=parked.lease.run_id, error=str(exc))
            return True
        return said == "parked"

    async def _record(self, message: Message) -> str | None:
        """Give a foreign message its record; return its digest, or None when it is in conflict with the record."""
        request = object_of(message.request)
        queued = RunQueued(
            kind=message.kind, digest=digest_of(request), writer=self._writer, request=request, **frame_of(request)
        )
        queued, blob = spill(queued)
        said = await self._services.store.submit(message.run_id, queued, blob)
        if said != "conflict":
            return queued.digest
        _log.warning("run.conflict", run_id=message.run_id)
        await self._services.store.signal(message.run_id, "conflict", {"digest": queued.digest}, queued.digest)
        return None

    async def _serve_leased(self, message: Message, granted: Granted, accept: Callable[[], Awaitable[None]]) -> Outcome:
        """Have the message acknowledged, and drive: should this fail, the lease runs out and a sweeper rings."""
        driver, lease, life = None, granted.lease, None
        accepting = asyncio.ensure_future(accept())  # Celery's thread is told while the journal is read
        try:
            try:
                driver, queued_at, letters, life = await self._driver(message, granted)
            finally:
                await accepting
            self._drivers[message.run_id] = driver
            self._keeper.hold(lease, driver.lost)
            if self._force_at is not None:
                driver.drain(self._force_at)
            return await driver.run(self._owner, lease, granted.seq, queued_at, letters)
        except LeaseLost:
            _log.warning("run.lost", run_id=message.run_id, epoch=lease.epoch)
            self._keeper.drop(lease)
            return await self._losses.after(life) if life else Dropped("the lease was lost")
        except StoreUnavailable as exc:
            return Dropped(f"the store is away: {exc}")
        finally:
            self._keeper.drop(lease)
            if self._drivers.get(message.run_id) is driver:
                self._drivers.pop(message.run_id, None)

    async def _driver(self, message: Message, granted: Granted) -> tuple[Driver, float, list[Letter], Life]:
        run_id = message.run_id
        # What stands behind the lease's seq no owner has written.
        journal = [granted.first] if granted.first else await self._services.store.read(run_id)
        events = [event for event in journal if event.seq <= granted.seq]
        queued_at = events[0].at / 1000 if events else self._services.clock.now()
        queued = queued_in(events) or RunQueued(kind=message.kind, digest="")
        request, is_damaged = await self._request(run_id, queued)
        is_damaged = is_damaged or granted.damaged or 0 < len(events) < granted.seq
        has_begun = any(event.type == RunStarted.TYPE for event in events)
        try:
            end = await self._losses.known_end(run_id, queued.kind, [] if is_damaged else events)
            known: tuple[Machine, Performer] | None = (Foregone(end), _Idle()) if end else None
            if is_damaged and not (end and end.archived):
                known = refusal(run_id, queued.kind, KEYS_DAMAGED)
            if message.is_expired and not has_begun:
                known = known or refusal(run_id, queued.kind, EXPIRED)
            if known and is_damaged:
                known = _begun(known, queued_at, has_begun=has_begun)
            elif known:
                known = folded(known, events)
            machine, performer = known or self._prepared(run_id, queued, request, events, granted.deaths)
        except NeedsLater as exc:
            _log.warning("run.needs_later", run_id=run_id, why=str(exc))
            machine, performer = Waiting(run_id, queued.kind, exc, events, deadline_in(request)), _Idle()
        except Exception as exc:  # noqa: BLE001 - a defect of ours ends this run, which would meet it for ever
            _log.exception("run.defect", run_id=run_id)
            failed = refusal(run_id, queued.kind, internal(exc))
            machine, performer = _begun(failed, queued_at, has_begun=has_begun)
        signature = message.signature(queued.digest)
        at_once = _hears_first(machine, granted, events, self._services.clock.now())
        letters = await self._services.inbox.backlog(run_id, machine.cursor) if at_once else []
        if events and events[-1].terminal:
            letters = _since_reopened(letters)
        watch = self._services.onlooker.life(queued, queued_at, model_of(request), events)
        driver = Driver(run_id, queued, signature, machine, performer, self._services, watch, futile_in(events))
        structlog.contextvars.bind_contextvars(**_told(queued), epoch=granted.lease.epoch)
        return driver, queued_at, letters, Life(run_id, queued, request, signature)

    def _prepared(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any] | None, events: list[Event], deaths: int
    ) -> tuple[Machine, Performer]:
        if request is None:
            check_queued(events)
            return folded(refusal(run_id, queued.kind, JOURNAL_LOST), events)
        if (lost := min(deaths, lives_without_a_step(events))) >= self._most_lives:
            _log.error("run.given_up", run_id=run_id, lives=lost)
            return folded(refusal(run_id, queued.kind, worn_out(lost)), events)
        return folded(self._kinds.prepare(run_id, queued, request, events[0].at / 1000), events)

    async def _request(self, run_id: str, queued: RunQueued) -> tuple[Mapping[str, Any] | None, bool]:
        """Return the request, None when it is gone, and whether something else is in its place."""
        if queued.request_blob is None:
            return queued.request, False
        text = await self._services.store.blob(run_id, queued.request_blob)
        try:
            return object_in(text), False
        except ValueError:
            return None, True


def refusal(run_id: str, kind: Kind, failure: Failure) -> tuple[Machine, Performer]:
    """Return what drives a run that cannot be run to its failure."""
    return Refusal(run_id, kind, failure), _Idle()


def _begun(made: tuple[Machine, Performer], at: float, *, has_begun: bool) -> tuple[Machine, Performer]:
    """Return what was made, told that the run had begun before, if it had."""
    if has_begun:
        made[0].fold(RunStarted(owner=""), at)
    return made


class _Idle:
    """`Performer` of a run that has no effects."""

    def perform(self, effect: Effect, post: Callable[[object], None]) -> None:
        """See `Performer`."""
        raise TypeError(f"{effect} of a refused run ({post})")

    async def close(self) -> None:
        """See `Performer`."""


def _told(queued: RunQueued) -> dict[str, Any]:
    """Return what each line of the log says of the run. The caller's key may be anything, so its id stands for it."""
    told: dict[str, Any] = {"tenant": queued.tenant}
    if queued.labels:
        told["labels"] = queued.labels
    if queued.idempotency_key is not None:
        told["idempotency_id"] = derived_run_id(queued.tenant, queued.idempotency_key)
    return told


def _hears_first(machine: Machine, granted: Granted, events: list[Event], now: float) -> bool:
    """Whether letters are decided together with the begin: else a run would park again, or ask the provider, before it
    hears them, or give up what was answered in time while nobody had the run.
    """
    if granted.cancelled or (bool(events) and events[-1].type == RunParked.TYPE):
        return True
    if granted.retry is not None and later_id(granted.retry, machine.cursor) != machine.cursor:
        return True
    return machine.deadline is not None and machine.deadline <= now


def _since_reopened(letters: list[Letter]) -> list[Letter]:
    """Return the letters from an operator's retry on: those before were for the run that ended, and so was a cancel."""
    first = max((place for place, each in enumerate(letters) if each.type == RETRY_LETTER), default=0)
    if first:
        _log.info("run.letters_void", letters=[each.type[:64] for each in letters[:first]])
    return letters[first:]
