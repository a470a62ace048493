"""Looking for runs that nobody holds, and ringing for them. Every worker process does it; none is needed."""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

import structlog
from pydantic import ValidationError

from api_contracts.names import CONTROL_QUEUE
from api_contracts.runs import Event, RunQueued
from api_contracts.vocabulary import typed
from workers.ports import Bell, Claimed, Clock, KeysDamaged, RunStore, StoreUnavailable

_log = structlog.get_logger(__name__)

AT_ONCE: Final = 100
"""Runs that are claimed together: whoever dies then keeps no more than these waiting for their next look."""

MOST_RINGS: Final = 500
"""Messages that one sweep sends at most, but for the last bite: the rest is another process's, or the next sweep's."""

Lacks = Callable[[Collection[str]], Awaitable[Mapping[str, int]]]


class Sweeper:
    """Sends the messages of due runs again, each claimed by one sweeper, in bites.

    A run that waits in its queue is rung for only if the queue lacks messages (`lacking`); without that knowledge it is
    rung for at each of its looks. What was claimed and could not be sent, since the broker is away, is sent first.
    """

    def __init__(
        self,
        store: RunStore,
        bell: Bell,
        clock: Clock,
        every_s: float,
        chance: Callable[[], float],
        lacking: Lacks | None = None,
    ) -> None:
        self._store = store
        self._bell = bell
        self._clock = clock
        self._every_s = every_s
        self._chance = chance
        self._lacking = lacking
        self._owed: deque[Claimed] = deque()

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
        rung = await self._pay()
        while rung < MOST_RINGS:
            claimed = await self._store.claim_due(AT_ONCE)
            self._owed.extend(await self._to_ring(claimed))
            rung += await self._pay()
            if len(claimed) < AT_ONCE:
                break
        return rung

    async def _to_ring(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Return those whose message is lost, or was never sent; of those that wait only as many as messages lack."""
        waiting = [run for run in claimed if run.waits_in and not (run.cancelled or run.late)]
        if not waiting or self._lacking is None:
            return list(claimed)
        queues = {run.waits_in for run in waiting}
        try:
            lack = dict(await self._lacking(queues))
        except StoreUnavailable as exc:  # so is the ringing, perhaps: it will be owed
            _log.warning("sweep.uncounted", error=str(exc))
            return list(claimed)
        to_ring = []
        for run in claimed:
            if run.waits_in in lack and not (run.cancelled or run.late):
                if lack[run.waits_in] <= 0:
                    continue
                lack[run.waits_in] -= 1
            to_ring.append(run)
        return to_ring

    async def _pay(self) -> int:
        """Ring for what is owed. What a failure leaves over is rung for in the next sweep."""
        rung = 0
        while self._owed:
            run = self._owed.popleft()
            try:
                rung += await self._ring(run)
            except StoreUnavailable:
                self._owed.appendleft(run)
                raise
        return rung

    async def wake(self, run_id: str) -> bool:
        """Ring for one run that is due; return False when it is not, or another rings for it."""
        claimed = await self._store.claim(run_id)
        return claimed is not None and await self._ring(claimed)

    async def ask_after(self, run_id: str, queued: RunQueued) -> None:
        """Ring for a run of which the store knows nothing, whose journal was lost. Raise `StoreUnavailable`."""
        _log.warning("sweep.asks_after", run_id=run_id)
        await self._bell.ring(run_id, None, queued)

    async def _ring(self, run: Claimed) -> bool:
        events = await self._first(run.run_id) if run.signature is None else []
        try:
            queued = typed(events[0]) if events else RunQueued(kind="chat", digest="")
        except ValidationError:  # of a later release, perhaps: its workers ring for it, and the others are rung for
            _log.warning("sweep.unreadable", run_id=run.run_id)
            return False
        if not isinstance(queued, RunQueued):
            return False
        _log.info("sweep.rang", run_id=run.run_id)
        await self._bell.ring(run.run_id, run.signature, queued)
        if run.cancelled or run.late:
            # Perhaps no worker of its queue is alive. Whoever comes second finds that the run is held, or over.
            await self._bell.ring(run.run_id, run.signature, queued, CONTROL_QUEUE)
        return True

    async def _first(self, run_id: str) -> list[Event]:
        """Return the journal. One that a stranger spoilt is no reason not to ring: who takes the run ends it."""
        try:
            return await self._store.read(run_id)
        except KeysDamaged:
            _log.warning("sweep.damaged", run_id=run_id)
            return []
