"""From a message to an outcome: record the run if need be, take its lease, drive it.

The message is only a doorbell. Whatever it says twice, late or wrongly, the journal decides.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from pydantic import ValidationError

from api_contracts.client.scripts import digest_of, spill
from api_contracts.failure import Failure
from api_contracts.names import Kind
from api_contracts.runs import Event, Result, RunQueued
from api_contracts.runs import Request as Frame
from api_contracts.vocabulary import typed
from workers.core.runs.frame import Effect, Machine
from workers.core.runs.refusal import Refusal
from workers.ports import Finished, Granted, Held, LeaseLost, StoreUnavailable
from workers.runners.drive import Driver, DriverServices, Performer
from workers.runners.leases import LeaseKeeper
from workers.runners.outcome import Dropped, Ended, Outcome, Unreachable

_log = structlog.get_logger(__name__)

JOURNAL_LOST = Failure(
    code="journal_lost",
    category="internal",
    message="the run's journal is gone from Redis, and SQL has no result of it",
    at_fault="us",
)


@dataclass(frozen=True, slots=True)
class Message:
    """A Celery message as we understand it. `signature` renders the caller's, for re-sends, without content."""

    run_id: str
    kind: Kind
    request: Any
    signature: Callable[[str], str]


class Kinds(Protocol):
    """What is special to each kind of work."""

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        """Return what drives the run; for a bad request, `refusal`."""
        ...


class Reception:
    """Serves messages for one process."""

    def __init__(self, services: DriverServices, keeper: LeaseKeeper, kinds: Kinds, owner: str, writer: str) -> None:
        self._services = services
        self._keeper = keeper
        self._kinds = kinds
        self._owner = owner
        self._writer = writer
        self._drivers: dict[str, Driver] = {}
        self._force_at: float | None = None

    def __len__(self) -> int:
        return len(self._drivers)

    def drain(self, force_at: float) -> None:
        """Ask every run to hand over; those that still come in hand over at once."""
        self._force_at = force_at
        for driver in list(self._drivers.values()):
            driver.drain(force_at)

    async def serve(self, message: Message, accept: Callable[[], Awaitable[None]]) -> Outcome:
        """Serve one message. `accept` tells the broker; it is called once the run is recorded and leased."""
        try:
            if (dropped := await self._record(message)) is not None:
                return dropped
            digest = _stored_digest(message.request) or digest_of(_object(message.request))
            found = await self._services.store.acquire(message.run_id, self._owner, message.signature(digest))
        except StoreUnavailable as exc:
            return Unreachable(str(exc))
        match found:
            case Granted(epoch, seq):
                await accept()
                return await self._serve_leased(message, epoch, seq)
            case Held(owner):
                return Dropped(f"held by {owner}")
            case Finished(announced=True):
                return Dropped("finished and announced")
            case _:
                return await self._stored_outcome(message.run_id)

    async def _record(self, message: Message) -> Dropped | None:
        """Give a foreign message its record; a client's message has one already."""
        if _stored_digest(message.request):
            return None
        request = _object(message.request)
        queued = RunQueued(
            kind=message.kind, digest=digest_of(request), writer=self._writer, request=request, **_frame(request)
        )
        queued, blob = spill(queued)
        said = await self._services.store.submit(message.run_id, queued, blob)
        if said != "conflict":
            return None
        _log.warning("run.conflict", run_id=message.run_id)
        await self._services.store.signal(message.run_id, "conflict", {"digest": queued.digest}, queued.digest)
        return Dropped("another request under the same id")

    async def _serve_leased(self, message: Message, epoch: int, seq: int) -> Outcome:
        """Drive. The message is acknowledged by now: should this fail, the lease runs out and a sweeper rings."""
        driver = None
        try:
            driver, queued_at = await self._driver(message)
            self._drivers[message.run_id] = driver
            self._keeper.hold(message.run_id, epoch, driver.lost)
            if self._force_at is not None:
                driver.drain(self._force_at)
            return await driver.run(self._owner, epoch, seq, queued_at)
        except LeaseLost:
            _log.warning("run.lost", run_id=message.run_id, epoch=epoch)
            return Dropped("the lease was lost")
        except StoreUnavailable as exc:
            return Dropped(f"the store is away: {exc}")
        finally:
            self._keeper.drop(message.run_id, epoch)
            if self._drivers.get(message.run_id) is driver:
                self._drivers.pop(message.run_id, None)

    async def _driver(self, message: Message) -> tuple[Driver, float]:
        run_id = message.run_id
        events = await self._services.store.read(run_id)
        queued = typed(events[0]) if events else None
        if not isinstance(queued, RunQueued):
            queued = RunQueued(kind=message.kind, digest="")
            machine, performer = refusal(run_id, JOURNAL_LOST)
        else:
            request = await self._request(run_id, queued)
            machine, performer = self._kinds.prepare(run_id, queued, request, events[0].at / 1000)
        for event in events[1:]:
            if (data := typed(event)) is not None:
                machine.fold(data, event.at / 1000)
        signature = message.signature(queued.digest)
        queued_at = events[0].at / 1000 if events else self._services.clock.now()
        return Driver(run_id, queued, signature, machine, performer, self._services), queued_at

    async def _request(self, run_id: str, queued: RunQueued) -> Mapping[str, Any]:
        if queued.request_blob is None:
            return queued.request or {}
        text = await self._services.store.blob(run_id, queued.request_blob)
        found: dict[str, Any] = json.loads(text) if text is not None else {}
        return found

    async def _stored_outcome(self, run_id: str) -> Outcome:
        """Return what a finished run came to, for the callbacks that are still owed."""
        try:
            if record := await self._services.archive.load(run_id):
                return ended(record.result)
            for event in reversed(await self._services.store.read(run_id)):
                if event.terminal:
                    return ended(await self._result(run_id, event))
        except StoreUnavailable as exc:
            return Unreachable(str(exc))
        result = Result(run_id=run_id, status="failed", failure=JOURNAL_LOST)
        return ended(result.model_dump(mode="json", exclude_none=True))

    async def _result(self, run_id: str, event: Event) -> Mapping[str, Any]:
        if (number := event.data.get("result_blob")) is None:
            inline: dict[str, Any] = event.data["result"]
            return inline
        text = await self._services.store.blob(run_id, int(number))
        spilled: dict[str, Any] = json.loads(text or "{}")
        return spilled


def ended(result: Mapping[str, Any]) -> Ended:
    """Return the outcome that a stored result stands for."""
    frame = Result.model_validate(result)
    return Ended(frame.status, result, frame.failure)


def refusal(run_id: str, failure: Failure) -> tuple[Machine, Performer]:
    """Return what drives a run that cannot be run to its failure."""
    return Refusal(run_id, failure), _Idle()


class _Idle:
    """`Performer` of a run that has no effects."""

    def perform(self, effect: Effect, post: Callable[[object], None]) -> None:
        """See `Performer`."""
        raise TypeError(f"{effect} of a refused run ({post})")

    async def close(self) -> None:
        """See `Performer`."""


def _stored_digest(request: Any) -> str | None:
    """Return the digest from the reference that our client sends instead of the request."""
    match request:
        case {"stored": str(digest)} if len(request) == 1:
            return digest
        case _:
            return None


def _object(request: Any) -> dict[str, Any]:
    return request if isinstance(request, dict) else {"request": f"a {type(request).__name__}, not a JSON object"}


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
