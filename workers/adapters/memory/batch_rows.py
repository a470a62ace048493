"""The rows of batches in memory, for tests and demos: what it keeps ends with the process."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from api_contracts.batch_rows import RowResult, RowState
from workers.core.batch import jobs
from workers.core.batch.acts import Counts, CutRows, Verdict
from workers.core.batch.cutter import Cutter
from workers.core.batch.jobs import JobView
from workers.core.batch.outputs import RowOutcome, result_of_row
from workers.core.batch.rows import line_of
from workers.core.text import filterable
from workers.ports import LeaseLost, NewRow, WatchedJob

_PAGE: Final = 500


@dataclass(slots=True)
class KeptRow:
    """A row as it is kept. `size` is the length of its line."""

    number: int
    custom_id: str | None
    state: RowState
    shard: int
    attempt: int
    size: int
    body: bytes
    code: str = ""
    message: str = ""
    response: bytes | None = None


@dataclass(slots=True)
class _Batch:
    life: int = 0
    rows: dict[int, KeptRow] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Watched:
    job: WatchedJob
    look_at: float


class MemoryBatchRows:
    """`RowStore` as dictionaries. Not for several processes."""

    def __init__(self) -> None:
        self._batches: dict[str, _Batch] = {}
        self._jobs: dict[tuple[str, int], _Watched] = {}

    def rows(self, run_id: str) -> list[KeptRow]:
        """Return copies of all rows of a run, in order."""
        return [replace(row) for row in self._of(run_id)]

    def watched(self, run_id: str) -> dict[int, float]:
        """Return when each watched job of a run is looked at, by its shard."""
        return {shard: kept.look_at for (of, shard), kept in self._jobs.items() if of == run_id}

    # -- rows ------------------------------------------------------------------------------------------------------

    async def restart(self, run_id: str, life: int) -> None:
        """See the port."""
        batch = self._fenced(run_id, life)
        batch.rows, batch.taken = {}, set()

    async def add(self, run_id: str, life: int, rows: Sequence[NewRow]) -> set[int]:
        """See the port."""
        if not rows:
            return set()
        batch, refused = self._fenced(run_id, life), set[int]()
        for row in rows:
            kept = _kept(row)
            if row.fault is None and kept.custom_id is not None:
                if kept.custom_id in batch.taken:
                    refused.add(row.number)
                    continue
                batch.taken.add(kept.custom_id)
            batch.rows[row.number] = kept
        return refused

    async def lines(self, run_id: str, shard: int) -> AsyncGenerator[bytes, None]:
        """See the port."""
        after = 0
        while page := [row for row in self._pending(run_id) if row.shard == shard and row.number > after][:_PAGE]:
            yield b"".join(line_of(str(row.custom_id), row.body) for row in page)
            after = page[-1].number

    async def ids(self, run_id: str, shard: int) -> dict[str, int]:
        """See the port."""
        return {str(row.custom_id): row.number for row in self._of(run_id, shard)}

    async def settle(self, run_id: str, life: int, outcomes: Sequence[RowOutcome]) -> None:
        """See the port."""
        if not outcomes:
            return
        rows = self._fenced(run_id, life).rows
        for outcome in outcomes:
            row = rows.get(outcome.number)
            if row is not None and row.state == "pending":
                row.state, row.code, row.message = outcome.state, outcome.code, filterable(outcome.message)
                row.response = outcome.response or None

    async def give_verdict(self, run_id: str, life: int, shard: int, verdict: Verdict) -> None:
        """See the port."""
        self._fenced(run_id, life)
        for row in self._of(run_id, shard):
            if row.state == "pending" and not row.code:
                row.state, row.code, row.message = verdict.state, verdict.code, filterable(verdict.message)

    async def cut(self, run_id: str, life: int, wanted: CutRows, cutter: Cutter) -> None:
        """See the port."""
        self._fenced(run_id, life)
        for row in list(self._pending(run_id)):
            if wanted.cause == "again" or row.shard == wanted.parent or row.shard >= wanted.first:
                row.shard, row.attempt = cutter.place(row.size), wanted.attempt
                row.code, row.message, row.response = "", "", None

    async def page(self, run_id: str, after: int, limit: int) -> list[RowResult]:
        """See the port."""
        found = [row for row in self._of(run_id) if row.number > after][:limit]
        return [
            result_of_row(
                row.number, row.custom_id, row.state, row.attempt, (row.response or b"").decode(), row.code,
                row.message,
            ) for row in found
        ]  # fmt: skip

    async def counts(self, run_id: str, shard: int | None = None) -> Counts:
        """See the port."""
        found = Counter(row.state for row in self._of(run_id, shard))
        return Counts(found["succeeded"], found["failed"], found["quarantined"], found["pending"])

    async def reasons(self, run_id: str, shard: int) -> dict[str, int]:
        """See the port."""
        return dict(Counter(row.code for row in self._of(run_id, shard) if row.state == "failed"))

    # -- jobs ------------------------------------------------------------------------------------------------------

    async def watch(self, job: WatchedJob, look_at: float) -> None:
        """See the port."""
        self._jobs.setdefault((job.run_id, job.shard), _Watched(replace(job, seen=_stored(job.seen)), look_at))

    async def unwatch(self, run_id: str, shard: int) -> None:
        """See the port."""
        self._jobs.pop((run_id, shard), None)

    async def claim_jobs(self, now: float, again_at: float, limit: int) -> list[WatchedJob]:
        """See the port."""
        due = sorted((kept for kept in self._jobs.values() if kept.look_at <= now), key=lambda kept: kept.look_at)
        for kept in due[:limit]:
            kept.look_at = again_at
        return [kept.job for kept in due[:limit]]

    async def noted(self, run_id: str, shard: int, view: JobView, changed_at: float, look_at: float) -> None:
        """See the port."""
        if kept := self._jobs.get((run_id, shard)):
            kept.job, kept.look_at = replace(kept.job, seen=_stored(view), changed_at=changed_at), look_at

    # --------------------------------------------------------------------------------------------------------------

    def _fenced(self, run_id: str, life: int) -> _Batch:
        batch = self._batches.setdefault(run_id, _Batch())
        if life < batch.life:
            raise LeaseLost(run_id)
        batch.life = life
        return batch

    def _of(self, run_id: str, shard: int | None = None) -> Iterator[KeptRow]:
        """Yield the rows in order: they come in order, but for those whose id was made anew."""
        batch = self._batches.get(run_id, _Batch())
        for number in sorted(batch.rows):
            if shard is None or batch.rows[number].shard == shard:
                yield batch.rows[number]

    def _pending(self, run_id: str) -> Iterator[KeptRow]:
        return (row for row in self._of(run_id) if row.state == "pending")


def _kept(row: NewRow) -> KeptRow:
    custom_id = None if row.custom_id is None else filterable(row.custom_id)
    if row.fault is None:
        return KeptRow(row.number, custom_id, "pending", row.shard, 1, row.size, row.body)
    code, message = row.fault.code, filterable(row.fault.message)
    return KeptRow(row.number, custom_id, "quarantined", row.shard, 0, row.size, row.body, code, message)


def _stored(view: JobView) -> JobView:
    """Return a view as it comes back from JSON."""
    told = jobs.view_in(jobs.letter_of(0, view))
    return told[1] if told else JobView(view.job, "UNSPECIFIED")
