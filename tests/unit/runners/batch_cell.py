"""Workers that run batches in one loop: their rows, their files, and a provider whose jobs end as the test says."""

import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from api_contracts.batch import BatchRequest, BatchResult
from api_contracts.client.scripts import digest_of, spill
from api_contracts.failure import Failure
from api_contracts.keys import new_run_id
from api_contracts.runs import RunQueued
from tests.unit.core.batch.provider import answer, error
from tests.unit.runners.cell import Cell, Worker
from workers.adapters.memory.batch import MemoryBatch
from workers.adapters.memory.batch_rows import KeptRow, MemoryBatchRows
from workers.adapters.memory.model import Hold
from workers.core.batch.submission import BatchSubmission
from workers.core.runs.frame import Machine
from workers.ports import NewRow, ProviderFailed, RowStore, StoreUnavailable
from workers.runners.batch import BatchParts, BatchPerformer
from workers.runners.drive import Performer
from workers.runners.outcome import Ended, Outcome, Parked
from workers.runners.polling import Poller
from workers.runners.reception import Message
from workers.runners.sweep import Sweeper

Fate = Literal["ok", "error", "invalid", "length", "missing", "poison", "fickle"]
"""What becomes of a row; `fickle` is missing in its first job only. Rows of which nothing is said are `ok`."""

UNREADABLE: Final = Failure(code="input_unreadable", category="bad_request", at_fault="caller", message="gone")
BUSY: Final = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
REFUSED: Final = Failure(code="refused", category="bad_request", message="no", at_fault="caller")


def body(text: str = "hi") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def ask(number: int, **more: Any) -> dict[str, Any]:
    """Return a row with an id of its own."""
    return {"custom_id": f"row-{number}", "body": body(f"{number}?")} | more


def jsonl(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


class RowLine:
    """A line to the store of rows. While a call is `away` it fails; `lost_reply`: once, after it was carried out."""

    def __init__(self, store: MemoryBatchRows) -> None:
        self.store = store
        self.away: set[str] = set()
        self.lost_reply: set[str] = set()
        self.held: dict[str, Hold] = {}
        self.added: list[list[NewRow]] = []
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        act = getattr(self.store, name)

        async def passed_on(*args: Any) -> Any:
            await self._reach(name)
            result = await act(*args)
            if name == "add":
                self.added.append(list(args[2]))
            if name in self.lost_reply:
                self.lost_reply.remove(name)
                raise StoreUnavailable(f"{name}: no reply")
            return result

        return passed_on

    async def lines(self, run_id: str, shard: int) -> AsyncGenerator[bytes, None]:
        await self._reach("lines")
        async for data in self.store.lines(run_id, shard):
            yield data

    def away_while(self, condition: bool, name: str) -> None:
        """Let a call fail, or not any more."""
        self.away = {name} if condition else set()

    async def _reach(self, name: str) -> None:
        self.calls[name] += 1
        if hold := self.held.pop(name, None):
            hold.reached.set()
            await hold.go.wait()
        if name in self.away:
            raise StoreUnavailable(f"{name}: away")


@dataclass
class Files:
    """`Inputs` by name, in pieces of `piece` bytes; `open` says how many are being read."""

    files: dict[str, bytes] = field(default_factory=dict)
    piece: int = 100
    open: int = 0
    breaks: int = 0
    """So many readings break in the middle."""

    async def read(self, source: str) -> AsyncGenerator[bytes, None]:
        if source not in self.files:
            raise ProviderFailed(UNREADABLE)
        self.open += 1
        try:
            data = self.files[source]
            for start in range(0, len(data), self.piece):
                if self.breaks and start > len(data) / 2:
                    self.breaks -= 1
                    raise ProviderFailed(UNREADABLE.model_copy(update={"retryable": True}))
                yield data[start : start + self.piece]
        finally:
            self.open -= 1


class BatchKinds:
    """`Kinds` of batches only."""

    def __init__(self, cell: "BatchCell") -> None:
        self._cell = cell

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        batch = BatchRequest.model_validate(request)
        return BatchSubmission(run_id, batch, at), BatchPerformer(run_id, batch, self._cell.parts, at)


class BatchWorker(Worker):
    """A worker of batches."""

    def message(self, run_id: str, request: Any = None) -> Message:
        return Message(run_id, "batch", request or {"stored": "d"}, lambda digest: f"{run_id} by {digest}")


async def until_rung(cell: Cell, work: Callable[[], None], poller: Poller, sweeper: Sweeper) -> None:
    """Let time pass, the provider work and the poller look, until a parked run is rung for."""
    rings = len(cell.bell.rings)
    for _ in range(20_000):
        work()
        await poller.poll()
        await sweeper.sweep()
        if len(cell.bell.rings) > rings:
            return
        await cell.pass_time(15, step=15)
    raise AssertionError("nobody rings for the run")


@dataclass
class BatchCell(Cell):
    """What all processes share. `fates` say what becomes of rows, by their custom id."""

    service: MemoryBatch = field(default_factory=MemoryBatch)
    inputs: Files = field(default_factory=Files)
    fates: dict[str, Fate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rows = MemoryBatchRows()
        self.line = RowLine(self.rows)
        self.tried: Counter[str] = Counter()

    @property
    def parts(self) -> BatchParts:
        return BatchParts(self.service, cast("RowStore", self.line), self.inputs, self.clock, lambda: 1.0)

    def worker(self, owner: str = "ann", kinds: Any = None) -> BatchWorker:
        return BatchWorker(self, owner, kinds or BatchKinds(self))

    def poller(self, shortest_s: float = 30.0) -> Poller:
        sweeper = self.worker("poller").sweeper
        return Poller(self.service, cast("RowStore", self.line), self.store, sweeper, self.clock, shortest_s)

    async def submitted(self, run_id: str = "", **fields: Any) -> str:
        run_id = run_id or new_run_id()
        request = {"model": "m"} | fields
        queued, blob = spill(RunQueued(kind="batch", digest=digest_of(request), request=request))
        assert await self.store.submit(run_id, queued, blob) == "created"
        return run_id

    # -- the provider ----------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Let every job that is at work end, as the fates of its rows say; one that was stopped is gone."""
        for name, job in list(self.service.jobs.items()):
            if job.view.state == "DELETING_CLEANING_UP":
                self.service.lose(name)
            elif not job.view.is_over:
                self.end(name)

    def end(self, job: str) -> None:
        """Let a job end."""
        ids = self.service.ids_of(job)
        if any(self.fates.get(each) == "poison" for each in ids):
            self.service.move(job, "FAILED", code="INVALID_ARGUMENT", message="bananas")
            return
        self.tried.update(ids)
        answers, errors = list[bytes](), list[bytes]()
        for custom_id in ids:
            match self.fates.get(custom_id, "ok"):
                case "error" | "invalid" as fate:
                    errors.append(error(custom_id, 500 if fate == "error" else 400))
                case "length":
                    answers.append(answer(custom_id, "length"))
                case "missing":
                    pass
                case "fickle" if self.tried[custom_id] == 1:
                    pass
                case _:
                    answers.append(answer(custom_id))
        self.service.finish(job, {"BIJOutputSet.jsonl": b"\n".join(answers), "error-data": b"\n".join(errors)})

    # -- lives -----------------------------------------------------------------------------------------------------

    async def lived(self, worker: Worker, run_id: str) -> Outcome:
        """Have a worker serve the run until it ends or parks."""
        serving = await worker.begin(run_id)
        for _ in range(7200):
            if serving.done():
                break
            await self.pass_time(1)
            await worker.keeper.renew()
        outcome = serving.result()
        if isinstance(outcome, Parked):
            await worker.reception.park(outcome)
        return outcome

    async def rung(self, run_id: str) -> None:
        """Let time pass, the provider work and the poller look, until the run is rung for."""
        await until_rung(self, self.work, self.poller(), self.worker("sweeper").sweeper)

    async def ended(self, run_id: str, before: Callable[[], object] = bool) -> BatchResult:
        """Have the run served, by another worker each time, until it ends. Call `before` before each life."""
        for life in range(80):
            before()
            outcome = await self.lived(self.worker(f"worker-{life}"), run_id)
            if isinstance(outcome, Ended):
                return BatchResult.model_validate(outcome.result)
            await self.rung(run_id)
        raise AssertionError("the run does not end")

    def kept(self, run_id: str) -> dict[str, KeptRow]:
        """Return the rows by their custom id."""
        return {str(row.custom_id): row for row in self.rows.rows(run_id)}
