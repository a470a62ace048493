"""The rows of one batch as SQL would keep them, and what a performer does with them: real reading, cutting, judging."""

from collections.abc import Iterable
from dataclasses import dataclass

from api_contracts.batch import BatchRequest, RowSample
from api_contracts.batch_rows import RowState
from workers.core.batch import acts, ids
from workers.core.batch.cutter import Cutter, Halver
from workers.core.batch.harvest import Harvest
from workers.core.batch.lines import Line, LineReader, lines_of
from workers.core.batch.outputs import file_of
from workers.core.batch.rows import BadRow, Row, RowReader, line_of


class Replaced(Exception):
    """A worker that was replaced tried to write."""


@dataclass
class Kept:
    """A row. `settled` counts how often it left `pending`."""

    custom_id: str
    size: int
    shard: int
    state: RowState = "pending"
    code: str = ""
    answered: bool = False
    settled: int = 0


class RowStore:
    """See the module. `quit_after` lets a write stop half-way: the worker died."""

    def __init__(self, request: BatchRequest) -> None:
        self.request = request
        self.rows: dict[int, Kept] = {}
        self.refused: dict[int, BadRow] = {}
        self.life = 0

    def fence(self, life: int) -> None:
        if life < self.life:
            raise Replaced
        self.life = life

    def read(self, life: int, share: float = 1.0) -> acts.RowsRead:
        """Read the request's rows; only a share of them when the worker dies meanwhile."""
        self.fence(life)
        self.rows, self.refused = {}, {}
        reader, cutter = RowReader(), Cutter(self.request.shard_rows, self.request.shard_bytes)
        lines = list(lines_of(self.request.rows or []))
        taken: set[str] = set()
        for line in lines[: int(len(lines) * share)]:
            self._keep(reader.read(line), cutter, taken)
        samples = [RowSample(number=bad.number, code=bad.code, message=bad.message) for bad in self.refused.values()]
        plan = cutter.plan()
        codes = [bad.code for bad in self.refused.values()]
        return acts.RowsRead(
            len(self.rows) + len(self.refused), len(self.refused), sum(each.bytes for each in plan), plan,
            {code: codes.count(code) for code in codes}, samples[:20],
        )  # fmt: skip

    def _keep(self, row: Row | BadRow, cutter: Cutter, taken: set[str]) -> None:
        if isinstance(row, BadRow):
            self.refused[row.number] = row
            return
        custom_id = row.custom_id
        if custom_id in taken and row.made:
            custom_id = ids.made_again(custom_id, row.number)
        if custom_id in taken:
            self.refused[row.number] = BadRow(row.number, "duplicate_custom_id", "taken", custom_id)
            return
        taken.add(custom_id)
        size = len(line_of(custom_id, row.body))
        self.rows[row.number] = Kept(custom_id, size, cutter.place(size))

    def of_shard(self, shard: int) -> dict[int, Kept]:
        return {number: row for number, row in self.rows.items() if row.shard == shard}

    def harvest(self, job: acts.HarvestJob, files: dict[str, bytes] | None, share: float = 1.0) -> acts.JobHarvested:
        """Settle the rows of a shard; only a share of the lines when the worker dies meanwhile."""
        self.fence(job.life)
        mine = self.of_shard(job.shard)
        harvest = Harvest({row.custom_id: number for number, row in mine.items()}, self.request.fail_on, last=job.last)
        for name in sorted(files or {}, key=lambda name: file_of(name) or ""):
            assert file_of(name) in ("answers", "errors"), name
            lines = list(_lines((files or {})[name]))
            for outcome in harvest.take(lines[: int(len(lines) * share)]):
                kept = self.rows[outcome.number]
                if kept.state == "pending":
                    kept.code, kept.answered = outcome.code, outcome.state == "succeeded"
                    self._settle(kept, outcome.state)
        if share < 1:
            return acts.JobHarvested(job.shard, acts.Counts())
        if job.rest is not None:
            for kept in mine.values():
                if kept.state == "pending" and not kept.code:  # no file spoke of it
                    kept.code = job.rest.code
                    self._settle(kept, job.rest.state)
        states = [kept.state for kept in mine.values()]
        codes = [kept.code for kept in mine.values() if kept.state == "failed"]
        return acts.JobHarvested(
            job.shard, _counts(states), harvest.lines, harvest.duplicates, harvest.strangers, harvest.corrupt,
            None if files is None else harvest.usage, {code: codes.count(code) for code in codes},
        )  # fmt: skip

    def _settle(self, kept: Kept, state: RowState) -> None:
        if state != "pending":
            kept.state = state
            kept.settled += 1

    def cut(self, cut: acts.CutRows, share: float = 1.0) -> acts.RowsCut:
        """Move pending rows to new shards; only a share of them when the worker dies meanwhile."""
        self.fence(cut.life)
        cutter = (
            Halver(cut.rows, cut.first) if cut.cause == "split"
            else Cutter(self.request.shard_rows, self.request.shard_bytes, cut.first)
        )  # fmt: skip
        moving = [
            row for row in self.rows.values()
            if row.state == "pending" and (cut.cause == "again" or row.shard == cut.parent or row.shard >= cut.first)
        ]  # fmt: skip
        for row in moving[: int(len(moving) * share)]:
            row.shard, row.code = cutter.place(row.size), ""
        return acts.RowsCut(cutter.plan())

    def count(self) -> acts.Counts:
        return _counts([*(row.state for row in self.rows.values()), *("quarantined" for _ in self.refused)])


def _counts(states: list[RowState]) -> acts.Counts:
    return acts.Counts(*(states.count(state) for state in ("succeeded", "failed", "quarantined", "pending")))


def _lines(data: bytes, chunk: int = 50) -> Iterable[Line]:
    reader = LineReader()
    for at in range(0, len(data), chunk):
        yield from reader.feed(data[at : at + chunk])
    yield from reader.close()
