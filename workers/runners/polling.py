"""Looking at the provider's jobs for runs that are parked. Beat rings; any control worker polls; none is needed:
a run that hears nothing for too long wakes and looks for itself.
"""

import asyncio
from typing import Final

import structlog

from api_contracts.runs import RunQueued
from workers.core.batch import jobs, pace
from workers.core.batch.jobs import JobView
from workers.ports import BatchService, Clock, ProviderFailed, RowStore, RunStore, StoreUnavailable, WatchedJob
from workers.runners.sweep import Sweeper

_log = structlog.get_logger(__name__)

_MOST_AT_ONCE: Final = 200
_TOGETHER: Final = 8
"""Claimed, and looked at, at the same time: where the provider hangs, the others are left to other pollers."""
_AGAIN, _AGAIN_AT_LEAST_S = 4.0, 5.0
"""A claimed job of which nothing was noted comes again after so many of the shortest waits: its poller died, or the
provider or the store did not answer. To look twice does no harm."""


class Poller:
    """Polls due jobs, each claimed by one poller. `shortest_s` is the least time between two looks at a job."""

    def __init__(
        self, service: BatchService, rows: RowStore, store: RunStore, sweeper: Sweeper, clock: Clock, shortest_s: float
    ) -> None:
        self._service = service
        self._rows = rows
        self._store = store
        self._sweeper = sweeper
        self._clock = clock
        self._again_s = max(_AGAIN * shortest_s, _AGAIN_AT_LEAST_S)
        self._scale = shortest_s / pace.SHORTEST_S

    async def poll(self) -> int:
        """Look at jobs that are due; return how many there were. None is looked at twice."""
        began_at, looked = self._clock.now(), 0
        while looked < _MOST_AT_ONCE:
            due = await self._rows.claim_jobs(began_at, self._clock.now() + self._again_s, _TOGETHER)
            await asyncio.gather(*(self._look(job) for job in due))
            looked += len(due)
            if len(due) < _TOGETHER:
                break
        return looked

    async def _look(self, job: WatchedJob) -> None:
        """Look at one job; whatever goes wrong is its own matter."""
        try:
            if self._clock.now() >= pace.lost_at(pace.overdue_at(job.submitted_at, job.seen.expires_at)):
                # Its run has ended, or has given it up: an account that was closed would be asked for ever.
                await self._rows.unwatch(job.run_id, job.shard)
            else:
                await self._note(job, await self._service.job(job.job, credential=job.credential))
        except (ProviderFailed, StoreUnavailable) as exc:
            _log.warning("poll.waiting", run_id=job.run_id, shard=job.shard, error=str(exc)[:300])
        except Exception:  # noqa: BLE001 - a defect, or a key that is not there any more, must not stop the others
            _log.exception("poll.defect", run_id=job.run_id, shard=job.shard)

    async def _note(self, job: WatchedJob, view: JobView) -> None:
        if jobs.is_news(job.seen, view) and not await self._tell(job, view):
            await self._rows.unwatch(job.run_id, job.shard)
            return
        now = self._clock.now()
        changed_at = now if (view.state, view.progress) != (job.seen.state, job.seen.progress) else job.changed_at
        look_at = now + self._wait_s(job, view, now - changed_at)
        await self._rows.noted(job.run_id, job.shard, view, changed_at, look_at)

    async def _tell(self, job: WatchedJob, view: JobView) -> bool:
        """Return whether the run still lives. The letter's id makes repeats one, should this poller die before it
        notes what it saw.
        """
        letter, letter_id = jobs.letter_of(job.shard, view), jobs.signal_id(job.shard, view)
        reply = await self._store.signal(job.run_id, jobs.SIGNAL, letter, letter_id)
        if reply == "woken":
            await self._sweeper.wake(job.run_id)
        elif reply == "missing":
            # It was parked, so nobody else is there to notice: whoever gets the message says what it came to.
            await self._sweeper.ask_after(job.run_id, RunQueued(kind="batch", digest="lost"))
        return reply in ("sent", "woken")

    def _wait_s(self, job: WatchedJob, view: JobView, quiet_s: float) -> float:
        now = self._clock.now()
        to_expiry = None if view.expires_at is None else view.expires_at - now
        # How many rows the job has, its run knows; a job that moves is looked at often anyway.
        return self._scale * pace.poll_s(now - job.submitted_at, quiet_s, 0.0, to_expiry)
