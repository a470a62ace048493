"""All leases of a process, renewed together. A lost one is told to its run at once."""

from collections.abc import Callable

import structlog

from workers.ports import Clock, Lease, RunStore, StoreUnavailable
from workers.settings import Timing

_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Renews what is held. A run that was lost must stop within one renewal interval (RUN-03)."""

    def __init__(self, store: RunStore, clock: Clock, timing: Timing) -> None:
        self._store = store
        self._clock = clock
        self._timing = timing
        self._held: dict[str, tuple[Lease, Callable[[], None]]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, lease: Lease, lost: Callable[[], None]) -> None:
        """Renew from now on; call `lost` on the loop when the lease is another's, be it in this process."""
        if before := self._held.get(lease.run_id):
            before[1]()
        self._held[lease.run_id] = (lease, lost)

    def drop(self, lease: Lease) -> None:
        """Renew no more."""
        if self._held.get(lease.run_id, (None,))[0] == lease:
            del self._held[lease.run_id]

    async def keep(self) -> None:
        """Renew for ever. While the store is away nothing is given up: a late renewal of the current lease counts."""
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
        leases = [lease for lease, _ in self._held.values()]
        if not leases:
            return
        for stale in await self._store.renew(leases):
            lease, lost = self._held.get(stale.run_id, (None, None))
            if lost and lease == stale:
                _log.warning("lease.lost", run_id=stale.run_id, epoch=stale.epoch)
                lost()
