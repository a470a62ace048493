"""Looking for runs that nobody holds, and ringing for them. Every worker process does it; none is needed."""

from collections.abc import Callable

import structlog
from pydantic import ValidationError

from api_contracts.names import CONTROL_QUEUE
from api_contracts.runs import RunQueued
from api_contracts.vocabulary import typed
from workers.ports import Bell, Claimed, Clock, RunStore, StoreUnavailable

_log = structlog.get_logger(__name__)

_MOST_AT_ONCE = 500


class Sweeper:
    """Sends the messages of due runs again, each claimed by one sweeper."""

    def __init__(self, store: RunStore, bell: Bell, clock: Clock, every_s: float, chance: Callable[[], float]) -> None:
        self._store = store
        self._bell = bell
        self._clock = clock
        self._every_s = every_s
        self._chance = chance

    async def keep(self) -> None:
        """Sweep for ever, with a fifth of jitter so that the processes spread."""
        while True:
            pause = self._every_s * (0.8 + 0.4 * self._chance())
            await self._clock.sleep_until(self._clock.now() + pause)
            try:
                await self.sweep()
            except StoreUnavailable as exc:
                _log.warning("sweep.waiting", error=str(exc))
            except Exception:  # noqa: BLE001 - nobody starts this loop again
                _log.exception("sweep.defect")

    async def sweep(self) -> int:
        """Sweep once; return how many messages were sent."""
        claimed = await self._store.claim_due(_MOST_AT_ONCE)
        rung = [await self._ring(run) for run in claimed]
        return sum(rung)

    async def wake(self, run_id: str) -> bool:
        """Ring for one run that is due; return False when it is not, or another rings for it."""
        claimed = await self._store.claim(run_id)
        return claimed is not None and await self._ring(claimed)

    async def _ring(self, run: Claimed) -> bool:
        events = await self._store.read(run.run_id) if run.signature is None else []
        try:
            queued = typed(events[0]) if events else RunQueued(kind="chat", digest="")
        except ValidationError:  # of a later release, perhaps: its workers ring for it, and the others are rung for
            _log.warning("sweep.unreadable", run_id=run.run_id)
            return False
        if not isinstance(queued, RunQueued):
            return False
        _log.info("sweep.rang", run_id=run.run_id)
        await self._bell.ring(run.run_id, run.signature, queued)
        if run.cancelled:
            # Perhaps no worker of its queue is alive. Whoever comes second finds that the run is held, or over.
            await self._bell.ring(run.run_id, run.signature, queued, CONTROL_QUEUE)
        return True
