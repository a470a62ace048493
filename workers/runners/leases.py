"""All leases of a process, renewed together. A lost one is told to its run at once."""

from collections.abc import Callable

import structlog

from workers.ports import Clock, RunStore, StoreUnavailable
from workers.settings import Timing

_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Renews what is held. A run that was lost must stop within one renewal interval (RUN-03)."""

    def __init__(self, store: RunStore, clock: Clock, timing: Timing) -> None:
        self._store = store
        self._clock = clock
        self._timing = timing
        self._held: dict[str, tuple[int, Callable[[], None]]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, run_id: str, epoch: int, lost: Callable[[], None]) -> None:
        """Renew from now on; call `lost` on the loop when the lease is another's, be it in this process."""
        if before := self._held.get(run_id):
            before[1]()
        self._held[run_id] = (epoch, lost)

    def drop(self, run_id: str, epoch: int) -> None:
        """Renew no more."""
        if self._held.get(run_id, (None,))[0] == epoch:
            del self._held[run_id]

    async def keep(self) -> None:
        """Renew for ever. While the store is away nothing is given up: a late renewal under the same epoch counts."""
        while True:
            await self._clock.sleep_until(self._clock.now() + self._timing.renew_s)
            try:
                await self.renew()
            except StoreUnavailable as exc:
                _log.warning("lease.not_renewed", runs=len(self._held), error=str(exc))
            except Exception:  # noqa: BLE001 - nobody starts this loop again: without it every run would be lost
                _log.exception("lease.defect", runs=len(self._held))

    async def renew(self) -> None:
        """Renew once."""
        leases = [(run_id, epoch) for run_id, (epoch, _) in self._held.items()]
        if not leases:
            return
        for run_id in await self._store.renew(leases):
            epoch, lost = self._held.get(run_id, (None, None))
            if lost and (run_id, epoch) in leases:
                _log.warning("lease.lost", run_id=run_id, epoch=epoch)
                lost()
