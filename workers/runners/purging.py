"""Taking finished runs out of SQL when they are old. Beat rings; any control worker purges; several do no harm."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from workers.ports import Clock, Forgotten, Keeping, OldRun, RunStore

_log = structlog.get_logger(__name__)

_RUNS: Final = 200
_ROWS: Final = 2_000
"""Of one piece, which is one transaction: it holds its locks for some tens of milliseconds."""
LONGEST_S: Final = 10.0
"""What is left then is the next tick's: a worker that drains waits for this."""

Forget = Callable[[Sequence[str], float, int], Awaitable[Forgotten]]


class Purger:
    """Forgets runs that ended more than `keep_s` ago (0: none), with the rows of their batches.

    A run of which the store has a journal is left alone, however old its record: it may live again, under the same id.
    Strays, which are rows of a batch that never came to a result (its journal was lost), go when their journal has
    been missing for `keep_s`, or for `live_s` if that is longer. `count` is told what went: `runs` or `batch_rows`.
    """

    def __init__(
        self,
        keeping: Keeping,
        store: RunStore,
        clock: Clock,
        keep_s: float,
        live_s: float,
        count: Callable[[str, int], None],
    ) -> None:
        self._keeping = keeping
        self._store = store
        self._clock = clock
        self._keep_s = keep_s
        self._stray_s = max(keep_s, live_s)
        self._count = count

    async def purge(self) -> int:
        """Forget what is old, for some seconds; return how many runs went. Raises `StoreUnavailable`."""
        if not self._keep_s:
            return 0
        now = self._clock.now()
        until, before = now + LONGEST_S, now - self._keep_s
        runs = await self._purge_runs(before, until)
        strays = await self._purge_strays(now, until)
        if runs or strays:
            _log.info("purge.done", runs=runs, strays=strays, before=round(before))
        return runs + strays

    async def _purge_runs(self, before: float, until: float) -> int:
        gone, after = 0, None
        while self._clock.now() < until:
            page: list[OldRun] = await self._keeping.old(before, after, _RUNS)
            if not page:
                break
            after, known = page[-1], await self._store.known([run.run_id for run in page])
            chosen = [run.run_id for run in page if run.run_id not in known]
            gone += await self._forget(self._keeping.forget, chosen, before, until)
        return gone

    async def _purge_strays(self, now: float, until: float) -> int:
        gone, after, before = 0, "", now - self._stray_s
        while self._clock.now() < until:
            page = await self._keeping.strays(after, _RUNS)
            if not page:
                break
            after, known = page[-1].run_id, await self._store.known([stray.run_id for stray in page])
            missing = [stray for stray in page if stray.run_id not in known]
            new = [stray.run_id for stray in missing if stray.missing_since is None]
            back = [s.run_id for s in page if s.run_id in known and s.missing_since is not None]
            await self._keeping.note(new, back, now)
            old = [s.run_id for s in missing if s.missing_since is not None and s.missing_since < before]
            gone += await self._forget(self._keeping.forget_strays, old, before, until)
        return gone

    async def _forget(self, forget: Forget, run_ids: Sequence[str], before: float, until: float) -> int:
        """Go on until all of them are gone, or the time is. After each piece the database has as long for others."""
        if not run_ids:
            return 0
        gone = 0
        while True:
            began = self._clock.now()
            done = await forget(run_ids, before, _ROWS)
            self._count("runs", done.runs)
            self._count("batch_rows", done.rows)
            gone, ended = gone + done.runs, self._clock.now()
            if ended < until:
                await self._clock.sleep_until(2 * ended - began)
            if not done.more or ended >= until:
                return gone
