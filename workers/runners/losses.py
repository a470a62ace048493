"""Runs whose journal is gone: what they came to as SQL knows it, else a failure, else another beginning.

Redis may be wiped, or fail over to a server that knows less. A run then begins anew, unless an effect above idempotent
may have begun: SQL was told before the first of them (`Archive.note`), and such a run ends as `journal_lost`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from api_contracts.client.scripts import spill
from api_contracts.names import Kind
from api_contracts.runs import Event, Result, RunFailedEvent, RunQueued
from workers.core.runs.frame import Finish
from workers.core.runs.refusal import JOURNAL_LOST
from workers.ports import Begun, RunRecord, StoreUnavailable
from workers.runners.drive import DriverServices
from workers.runners.intake import object_in
from workers.runners.outcome import Dropped, Ended, Outcome, Unreachable

_log = structlog.get_logger(__name__)

_PAUSE_S = 0.5
"""Between tries to reach a store that is away."""


@dataclass(frozen=True, slots=True)
class Life:
    """What a worker knows of a run that it drove. `request` is the whole of it, or None when it is gone."""

    run_id: str
    queued: RunQueued
    request: Mapping[str, Any] | None
    signature: str


def is_lost(event: Event) -> bool:
    """Whether a run ended here because its journal was lost."""
    failure = event.data.get("failure") if event.type == RunFailedEvent.TYPE else None
    return isinstance(failure, Mapping) and failure.get("code") == JOURNAL_LOST.code


class Losses:
    """Finds out what became of runs."""

    def __init__(self, services: DriverServices) -> None:
        self._services = services

    async def known_end(self, run_id: str, kind: Kind, events: Sequence[Event]) -> Finish | None:
        """Return the end of a run whose journal tells of nothing but beginnings, if it ended or began in another.

        While SQL is away nothing is known: such a run begins, but does nothing above idempotent before SQL is back.
        A retry gives a lost journal not back: what the run had begun is known to nobody, and it fails again.
        """
        if any(is_lost(event) for event in events):
            return Finish("failed", lost(run_id, kind), JOURNAL_LOST)
        if any(event.terminal or not event.type.startswith("run.") for event in events):
            return None
        try:
            record, noted = await self._services.archive.remembered(run_id)
            if record:
                end = ended(record.result)
                return Finish(end.status, end.result, end.failure, archived=True)
            if noted:
                _log.error("run.journal_lost", run_id=run_id)
                return Finish("failed", lost(run_id, kind), JOURNAL_LOST)
        except StoreUnavailable as exc:
            _log.warning("run.unremembered", run_id=run_id, error=str(exc))
        return None

    async def after(self, life: Life) -> Outcome:
        """Return what becomes of a run that this worker drove until its lease was refused."""
        while True:
            try:
                return await self._after(life)
            except StoreUnavailable as exc:  # nobody but us may know that the run was there
                _log.warning("run.waiting", run_id=life.run_id, error=str(exc))
                await self._services.clock.sleep_until(self._services.clock.now() + _PAUSE_S)

    async def _after(self, life: Life) -> Outcome:
        store, archive, run_id = self._services.store, self._services.archive, life.run_id
        since = self._services.clock.now()
        if await store.known([run_id]):
            return Dropped("the lease was lost")
        if life.request is None or any(await archive.remembered(run_id)):
            return await self.missing(run_id, life.queued.kind, since)
        whole = life.queued.model_copy(update={"request": dict(life.request), "request_blob": None})
        queued, blob = spill(whole)
        said = await store.submit(run_id, queued, blob)
        _log.warning("run.begins_anew", run_id=run_id, submit=said)
        if said == "created":
            try:
                await self._services.bell.ring(run_id, life.signature, queued)
            except StoreUnavailable as exc:  # a sweeper rings
                _log.warning("run.not_rung", run_id=run_id, error=str(exc))
        return Dropped("its journal was lost: it begins anew")

    async def stored(self, run_id: str, kind: Kind, epoch: int | None) -> Outcome:
        """Return what a finished run came to, in the life of this epoch, for the callbacks that are still owed."""
        since = self._services.clock.now()
        try:
            if record := await self._services.archive.load(run_id):
                return ended(record.result, epoch)
            events = await self._services.store.read(run_id)
            for event in reversed(events):
                if event.terminal and (result := await self._readable(run_id, event)) is not None:
                    return ended(result, epoch)
            if events and epoch is None:  # when it was leased there was none
                return Dropped("its journal was lost: it has begun anew")
            return await self.missing(run_id, kind, since)
        except StoreUnavailable as exc:
            return Unreachable(str(exc))

    async def missing(self, run_id: str, kind: Kind, since: float) -> Ended:
        """Return what a run came to that had no journal at `since`; one of which SQL has no result, has failed. Raises
        `StoreUnavailable`.

        Whoever drove it may have it begin anew meanwhile: that journal is of after `since`, and so its end stands.
        """
        archive = self._services.archive
        record, noted = await archive.remembered(run_id)
        if record:
            return ended(record.result)
        result, now = lost(run_id, kind), self._services.clock.now()
        begun = noted or Begun(run_id, kind, "default", {}, since)
        _log.error("run.journal_lost", run_id=run_id)
        await archive.save(
            RunRecord(
                run_id, begun.kind, "failed", 0, begun.tenant, begun.labels, result, begun.queued_at, now,
                begun.idempotency_key,
            )
        )  # fmt: skip
        kept = await archive.load(run_id)
        return ended(kept.result if kept else result)

    async def _readable(self, run_id: str, event: Event) -> Mapping[str, Any] | None:
        """Return the result that an end carries; None when it is gone, or something else is in its place."""
        try:
            if (result := await self._result(run_id, event)) is not None:
                Result.model_validate(result)
            return result
        except (ValueError, KeyError, TypeError):
            _log.error("run.outcome_unreadable", run_id=run_id)
            return None

    async def _result(self, run_id: str, event: Event) -> Mapping[str, Any] | None:
        if (number := event.data.get("result_blob")) is None:
            inline: dict[str, Any] = event.data["result"]
            return inline
        return object_in(await self._services.store.blob(run_id, int(number)))


def ended(result: Mapping[str, Any], epoch: int | None = None) -> Ended:
    """Return the outcome that a stored result stands for."""
    frame = Result.model_validate(result)
    return Ended(frame.status, result, frame.failure, epoch)


def lost(run_id: str, kind: Kind) -> dict[str, Any]:
    """Return the result of a run whose journal is lost."""
    result = Result(run_id=run_id, kind=kind, status="failed", failure=JOURNAL_LOST)
    return result.model_dump(mode="json", exclude_none=True)
