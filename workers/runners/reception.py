"""From a message to an outcome: record the run if need be, take its lease, drive it.

The message is only a doorbell. Whatever it says twice, late or wrongly, the journal decides.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from pydantic import ValidationError

from api_contracts.client.scripts import canonical, digest_of, spill
from api_contracts.failure import Failure
from api_contracts.names import Kind
from api_contracts.runs import Event, Result, RunParked, RunQueued, RunStarted
from api_contracts.runs import Request as Frame
from api_contracts.vocabulary import typed
from workers.core.runs.frame import Effect, Finish, Machine
from workers.core.runs.lives import lives_without_a_step, worn_out
from workers.core.runs.refusal import Foregone, Refusal
from workers.errors import internal
from workers.ports import Asleep, Finished, Granted, Held, LeaseLost, Letter, StoreUnavailable
from workers.runners.drive import Driver, DriverServices, Performer
from workers.runners.leases import LeaseKeeper
from workers.runners.outcome import Dropped, Ended, Outcome, Parked, Unreachable

_log = structlog.get_logger(__name__)

MOST_LIVES = 10
"""Lost in a row, without a step that lasts; each takes about a lease. A life that was handed over is not lost."""

EXPIRED = Failure(
    code="expired",
    category="deadline",
    message="no worker began the run before its message expired (Celery's `expires`)",
    at_fault="caller",
)
JOURNAL_LOST = Failure(
    code="journal_lost",
    category="internal",
    message="the run's journal is gone from Redis, and SQL has no result of it",
    at_fault="us",
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
        self._keeper = keeper
        self._kinds = kinds
        self._owner = owner
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
        try:
            digest = _stored_digest(message.request) or await self._record(message)
            if digest is None:
                return await self._dropped(message.run_id, "another request under the same id")
            found = await self._services.store.acquire(message.run_id, self._owner, message.signature(digest))
        except StoreUnavailable as exc:
            return Unreachable(str(exc))
        match found:
            case Granted():
                await accept()
                return await self._serve_leased(message, found)
            case Held(owner):
                return Dropped(f"held by {owner}")
            case Asleep():
                return await self._dropped(message.run_id, "parked")
            case Finished(announced=True):
                return await self._dropped(message.run_id, "finished and announced")
            case _:
                return await self._stored_outcome(message)

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
            said = await self._services.store.park(parked.run_id, parked.epoch, parked.seen, parked.until)
        except (LeaseLost, StoreUnavailable) as exc:
            _log.warning("run.not_parked", run_id=parked.run_id, error=str(exc))
            return True
        return said == "parked"

    async def _record(self, message: Message) -> str | None:
        """Give a foreign message its record; return its digest, or None when it is in conflict with the record."""
        request = _object(message.request)
        queued = RunQueued(
            kind=message.kind, digest=digest_of(request), writer=self._writer, request=request, **_frame(request)
        )
        queued, blob = spill(queued)
        said = await self._services.store.submit(message.run_id, queued, blob)
        if said != "conflict":
            return queued.digest
        _log.warning("run.conflict", run_id=message.run_id)
        await self._services.store.signal(message.run_id, "conflict", {"digest": queued.digest}, queued.digest)
        return None

    async def _serve_leased(self, message: Message, lease: Granted) -> Outcome:
        """Drive. The message is acknowledged by now: should this fail, the lease runs out and a sweeper rings."""
        driver, epoch = None, lease.epoch
        try:
            driver, queued_at, letters = await self._driver(message, lease)
            self._drivers[message.run_id] = driver
            self._keeper.hold(message.run_id, epoch, driver.lost)
            if self._force_at is not None:
                driver.drain(self._force_at)
            return await driver.run(self._owner, epoch, lease.seq, queued_at, letters)
        except LeaseLost:
            _log.warning("run.lost", run_id=message.run_id, epoch=epoch)
            return Dropped("the lease was lost")
        except StoreUnavailable as exc:
            return Dropped(f"the store is away: {exc}")
        finally:
            self._keeper.drop(message.run_id, epoch)
            if self._drivers.get(message.run_id) is driver:
                self._drivers.pop(message.run_id, None)

    async def _driver(self, message: Message, lease: Granted) -> tuple[Driver, float, list[Letter]]:
        run_id = message.run_id
        events = await self._services.store.read(run_id)
        queued_at = events[0].at / 1000 if events else self._services.clock.now()
        queued = _queued(events) or RunQueued(kind=message.kind, digest="")
        request = await self._request(run_id, queued)
        has_begun = any(event.type == RunStarted.TYPE for event in events)
        try:
            known = await self._known_end(run_id) if lease.epoch == 1 else None
            if message.is_expired and not has_begun:
                known = known or refusal(run_id, queued.kind, EXPIRED)
            machine, performer = known or self._prepared(run_id, queued, request, events, lease.deaths)
        except Exception as exc:  # noqa: BLE001 - a defect of ours ends this run, which would meet it for ever
            _log.exception("run.defect", run_id=run_id)
            machine, performer = refusal(run_id, queued.kind, internal(exc))
            if has_begun:
                machine.fold(RunStarted(owner=""), queued_at)
        signature = message.signature(queued.digest)
        # Decided together with the begin: else a run would park again, or ask the provider, before it hears them.
        at_once = lease.cancelled or (bool(events) and events[-1].type == RunParked.TYPE)
        letters = await self._services.inbox.backlog(run_id, machine.cursor) if at_once else []
        watch = self._services.onlooker.life(queued, queued_at, _model(request), events)
        driver = Driver(run_id, queued, signature, machine, performer, self._services, watch)
        structlog.contextvars.bind_contextvars(tenant=queued.tenant, epoch=lease.epoch)
        return driver, queued_at, letters

    def _prepared(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any] | None, events: list[Event], deaths: int
    ) -> tuple[Machine, Performer]:
        if request is None:
            return _folded(refusal(run_id, queued.kind, JOURNAL_LOST), events)
        if (lost := min(deaths, lives_without_a_step(events))) >= self._most_lives:
            _log.error("run.given_up", run_id=run_id, lives=lost)
            return _folded(refusal(run_id, queued.kind, worn_out(lost)), events)
        return _folded(self._kinds.prepare(run_id, queued, request, events[0].at / 1000), events)

    async def _known_end(self, run_id: str) -> tuple[Machine, Performer] | None:
        """Return what ends a run as SQL remembers it: the journal was gone, but the same id is the same run."""
        try:
            record = await self._services.archive.load(run_id)
        except StoreUnavailable as exc:
            _log.warning("run.unremembered", run_id=run_id, error=str(exc))  # it cannot end before SQL is back
            return None
        if record is None:
            return None
        end = ended(record.result)
        return Foregone(Finish(end.status, end.result, end.failure)), _Idle()

    async def _request(self, run_id: str, queued: RunQueued) -> Mapping[str, Any] | None:
        if queued.request_blob is None:
            return queued.request
        text = await self._services.store.blob(run_id, queued.request_blob)
        found: dict[str, Any] | None = json.loads(text) if text is not None else None
        return found

    async def _stored_outcome(self, message: Message) -> Outcome:
        """Return what a finished run came to, for the callbacks that are still owed."""
        run_id = message.run_id
        try:
            if record := await self._services.archive.load(run_id):
                return ended(record.result)
            for event in reversed(await self._services.store.read(run_id)):
                if event.terminal and (result := await self._result(run_id, event)) is not None:
                    return ended(result)
        except StoreUnavailable as exc:
            return Unreachable(str(exc))
        lost = Result(run_id=run_id, kind=message.kind, status="failed", failure=JOURNAL_LOST)
        return ended(lost.model_dump(mode="json", exclude_none=True))

    async def _result(self, run_id: str, event: Event) -> Mapping[str, Any] | None:
        if (number := event.data.get("result_blob")) is None:
            inline: dict[str, Any] = event.data["result"]
            return inline
        text = await self._services.store.blob(run_id, int(number))
        spilled: dict[str, Any] | None = json.loads(text) if text is not None else None
        return spilled


def ended(result: Mapping[str, Any]) -> Ended:
    """Return the outcome that a stored result stands for."""
    frame = Result.model_validate(result)
    return Ended(frame.status, result, frame.failure)


def refusal(run_id: str, kind: Kind, failure: Failure) -> tuple[Machine, Performer]:
    """Return what drives a run that cannot be run to its failure."""
    return Refusal(run_id, kind, failure), _Idle()


class _Idle:
    """`Performer` of a run that has no effects."""

    def perform(self, effect: Effect, post: Callable[[object], None]) -> None:
        """See `Performer`."""
        raise TypeError(f"{effect} of a refused run ({post})")

    async def close(self) -> None:
        """See `Performer`."""


def _model(request: Mapping[str, Any] | None) -> str:
    model = (request or {}).get("model")
    return model if isinstance(model, str) else ""


def _queued(events: list[Event]) -> RunQueued | None:
    try:
        queued = typed(events[0]) if events else None
    except ValidationError:
        return None
    return queued if isinstance(queued, RunQueued) else None


def _folded(made: tuple[Machine, Performer], events: list[Event]) -> tuple[Machine, Performer]:
    for event in events[1:]:
        if (data := typed(event)) is not None:
            made[0].fold(data, event.at / 1000)
    return made


def _stored_digest(request: Any) -> str | None:
    """Return the digest from the reference that our client sends instead of the request."""
    match request:
        case {"stored": str(digest)} if len(request) == 1:
            return digest
        case _:
            return None


def _object(request: Any) -> dict[str, Any]:
    """Return the request, or an object that is refused with the reason when the run begins."""
    if not isinstance(request, dict):
        return {"request": f"a {type(request).__name__}, not a JSON object"}
    try:
        canonical(request).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        return {"request": f"cannot be stored as JSON: {type(exc).__name__}"}
    return request


def _frame(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the frame of a foreign request as far as it is right; the rest is refused when the run begins."""
    frame: dict[str, Any] = {}
    for name in ("tenant", "labels", "lane"):
        if name in request:
            try:
                frame[name] = getattr(Frame.model_validate({name: request[name]}), name)
            except ValidationError:
                _log.info("run.bad_frame", field=name)
    return frame
