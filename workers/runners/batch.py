"""A batch's effects: rows into SQL, shards to the provider, outputs back into SQL. Each step is a task of its own."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from api_contracts.batch import BatchRequest
from api_contracts.failure import Failure
from workers.core.batch import acts, pace
from workers.core.batch.acts import Step
from workers.core.batch.cutter import Cutter, Halver
from workers.core.batch.desk import RUN
from workers.core.batch.harvest import Harvest, most_frequent
from workers.core.batch.lines import Line, LineReader, lines_of
from workers.core.batch.outputs import RowOutcome, file_of
from workers.core.runs.frame import Effect
from workers.ports import (
    BatchService,
    Clock,
    Inputs,
    NewRow,
    OutputFile,
    OutputUnavailable,
    ProviderFailed,
    RowStore,
    StoreUnavailable,
    WatchedJob,
)
from workers.runners.batch_intake import Intake, slices

Post = Callable[[object], None]

_TOGETHER_ROWS: Final = 500
_TOGETHER_BYTES: Final = 2_000_000
"""What goes into SQL in one transaction, if it is not a single row that is larger."""

_LIVES: Final = 1 << 20
"""More lives than a run can have: it parks for half a minute at least, and ends within some weeks."""

_STEP_OF: Final[dict[type[Effect], Step]] = {
    acts.ReadRows: "read", acts.CreateDataset: "create", acts.Upload: "upload", acts.LookAtDataset: "ready",
    acts.CreateJob: "submit", acts.LookAtJob: "look", acts.StopJob: "stop", acts.HarvestJob: "harvest",
    acts.CutRows: "cut", acts.CountRows: "count",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchParts:
    """What a performer works with. `chance` returns a number from 0 to 1."""

    service: BatchService
    rows: RowStore
    inputs: Inputs
    clock: Clock
    chance: Callable[[], float]
    first_look_s: float = pace.SHORTEST_S
    """From a job's creation to its first look by the poller; as `shortest_s` there."""


class BatchPerformer:
    """`Performer` of a batch. `submitted_at` is the time of the submit, seconds since 1970: of two submits of one id,
    which happen when Redis has lost the first, the later one's workers come after all of the first one's.
    """

    def __init__(self, run_id: str, request: BatchRequest, parts: BatchParts, submitted_at: float = 0.0) -> None:
        self._run_id = run_id
        self._request = request
        self._credential = request.credential
        self._service = parts.service
        self._rows = parts.rows
        self._inputs = parts.inputs
        self._clock = parts.clock
        self._chance = parts.chance
        self._first_look_s = parts.first_look_s
        self._since = int(submitted_at * 1000) * _LIVES
        self._tasks: dict[tuple[int, Step], asyncio.Task[None]] = {}

    def perform(self, effect: Effect, post: Post) -> None:
        """See `Performer`."""
        if isinstance(effect, acts.StopStep):
            if task := self._tasks.get((effect.shard, effect.step)):
                task.cancel()
            return
        shard, step = _place_of(effect)
        task = asyncio.create_task(self._settle(shard, step, effect, post), name=f"{self._run_id}:{step}:{shard}")
        self._tasks[shard, step] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._tasks.get((shard, step)) is task:
                del self._tasks[shard, step]
            if not task.cancelled() and isinstance(exc := task.exception(), Exception):
                post(exc)

        task.add_done_callback(ended)

    async def close(self) -> None:
        """See `Performer`."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self, shard: int, step: Step, effect: Effect, post: Post) -> None:
        """Post the step's one fact. `LeaseLost` and defects go to the driver as they are."""
        try:
            fact = await self._do(effect)
        except ProviderFailed as exc:
            fact = acts.StepFailed(shard, step, exc.failure, self._chance())
        except StoreUnavailable as exc:
            fact = acts.StepFailed(shard, step, _away(exc), self._chance())
        post(fact)

    async def _do(self, effect: Effect) -> object:
        match effect:
            case acts.ReadRows():
                return await self._read(effect)
            case acts.CutRows():
                return await self._cut(effect)
            case acts.CountRows():
                return acts.RowsCounted(await self._rows.counts(self._run_id))
            case acts.Upload():
                return await self._upload(effect)
            case acts.CreateJob():
                return await self._create_job(effect)
            case acts.HarvestJob():
                return await self._harvest(effect)
            case _:
                return await self._ask(effect)

    # -- rows in ---------------------------------------------------------------------------------------------------

    async def _read(self, effect: acts.ReadRows) -> acts.RowsRead:
        intake, life = Intake(self._request), self._token(effect.life)
        rows: list[NewRow] = []
        await self._rows.restart(self._run_id, life)
        async with contextlib.aclosing(self._lines()) as pieces:
            async for lines in pieces:
                rows += intake.take(lines)
                if _is_enough(len(rows), sum(row.size for row in rows)):
                    await self._keep(rows, life, intake)
                    rows = []
        await self._keep(rows, life, intake)
        return intake.done()

    async def _keep(self, rows: list[NewRow], life: int, intake: Intake) -> None:
        """Put rows into SQL. An id that was made anew may be somebody's own: the second time the row is set aside."""
        while taken := await self._rows.add(self._run_id, life, rows):
            rows = intake.taken([row for row in rows if row.number in taken])
        intake.kept()

    async def _lines(self) -> AsyncGenerator[list[Line], None]:
        """Yield the input's lines, a few at a time."""
        if self._request.rows is not None:
            for piece in slices(lines_of(self._request.rows)):
                yield piece
                await asyncio.sleep(0)
            return
        reader = LineReader()
        async with contextlib.aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                for piece in slices(reader.feed(chunk)):
                    yield piece
                    await asyncio.sleep(0)
        if last := reader.close():
            yield last

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        if self._request.file is not None:
            async with contextlib.aclosing(self._inputs.read(self._request.file)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        dataset = str(self._request.dataset)
        try:
            async with contextlib.aclosing(self._service.files(dataset, credential=self._credential)) as files:
                async for file in files:
                    async with contextlib.aclosing(file.chunks) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    yield b"\n"  # the next file begins a line
        except OutputUnavailable:
            raise ProviderFailed(_no_dataset(dataset)) from None

    async def _cut(self, effect: acts.CutRows) -> acts.RowsCut:
        request = self._request
        cutter = (
            Halver(effect.rows, effect.first) if effect.cause == "split"
            else Cutter(request.shard_rows, request.shard_bytes, effect.first)
        )  # fmt: skip
        await self._rows.cut(self._run_id, self._token(effect.life), effect, cutter)
        if effect.cause == "split":
            await self._rows.unwatch(self._run_id, effect.parent)  # its job is over, and has no output
        return acts.RowsCut(cutter.plan())

    # -- a shard's way to the provider -----------------------------------------------------------------------------

    async def _upload(self, effect: acts.Upload) -> acts.RowsUploaded:
        await self._service.upload(
            effect.dataset, lambda: self._rows.lines(self._run_id, effect.shard), effect.bytes,
            signed=effect.signed, credential=self._credential,
        )  # fmt: skip
        return acts.RowsUploaded(effect.shard)

    async def _create_job(self, effect: acts.CreateJob) -> acts.JobSeen:
        view = await self._service.create_job(effect, credential=self._credential)
        now = self._clock.now()
        watched = WatchedJob(self._run_id, effect.shard, effect.job, self._credential, now, now, view)
        await self._rows.watch(watched, now + self._first_look_s)
        return acts.JobSeen(effect.shard, view)

    async def _ask(self, effect: Effect) -> object:
        """Do what is one call of the service."""
        service, credential = self._service, self._credential
        match effect:
            case acts.CreateDataset(shard, dataset, name, rows):
                return acts.DatasetSeen(
                    shard, await service.create_dataset(dataset, name, rows, credential=credential)
                )  # fmt: skip
            case acts.LookAtDataset(shard, dataset):
                return acts.DatasetSeen(shard, await service.dataset_is_ready(dataset, credential=credential))
            case acts.LookAtJob(shard, job):
                return acts.JobSeen(shard, await service.job(job, credential=credential))
            case acts.StopJob(shard, job):
                await service.stop(job, credential=credential)
                return acts.JobStopped(shard)
        raise TypeError(f"no call of the service does {type(effect).__name__}")

    # -- rows out --------------------------------------------------------------------------------------------------

    async def _harvest(self, effect: acts.HarvestJob) -> acts.JobHarvested | acts.OutputMissing:
        harvest = None
        if effect.output is not None:
            ids = await self._rows.ids(self._run_id, effect.shard)
            harvest = Harvest(ids, self._request.fail_on, last=effect.last)
            try:
                await self._read_output(effect, effect.output, harvest)
            except OutputUnavailable:
                return acts.OutputMissing(effect.shard, self._chance())
        if effect.rest is not None:
            await self._rows.give_verdict(self._run_id, self._token(effect.life), effect.shard, effect.rest)
        await self._rows.unwatch(self._run_id, effect.shard)
        counts = await self._rows.counts(self._run_id, effect.shard)
        reasons = most_frequent(await self._rows.reasons(self._run_id, effect.shard))
        if harvest is None:
            return acts.JobHarvested(effect.shard, counts, reasons=reasons)
        return acts.JobHarvested(
            effect.shard, counts, harvest.lines, harvest.duplicates, harvest.strangers, harvest.corrupt,
            harvest.usage, reasons,
        )  # fmt: skip

    async def _read_output(self, effect: acts.HarvestJob, output: str, harvest: Harvest) -> None:
        """Read the answers, then the errors: files come by name, and theirs are in this order (WIRE 3.8)."""
        async with contextlib.aclosing(self._service.files(output, credential=self._credential)) as files:
            async for file in files:
                if file_of(file.name) is not None:
                    await self._settle_file(effect, file, harvest)

    async def _settle_file(self, effect: acts.HarvestJob, file: OutputFile, harvest: Harvest) -> None:
        reader, outcomes = LineReader(), list[RowOutcome]()
        async with contextlib.aclosing(file.chunks) as chunks:
            async for chunk in chunks:
                for lines in slices(reader.feed(chunk)):
                    outcomes += harvest.take(lines)
                    if _is_enough(len(outcomes), sum(len(each.response or b"") for each in outcomes)):
                        await self._rows.settle(self._run_id, self._token(effect.life), outcomes)
                        outcomes = []
                    await asyncio.sleep(0)
        outcomes += harvest.take(reader.close())
        await self._rows.settle(self._run_id, self._token(effect.life), outcomes)

    # --------------------------------------------------------------------------------------------------------------

    def _token(self, life: int) -> int:
        """Return what SQL's fence compares: lives of one submit by their number, those of a later submit after them."""
        return self._since + life


def _place_of(effect: Effect) -> tuple[int, Step]:
    """Return the shard and the step under which the machine waits for an effect, and stops it.

    Cutting is a step of the run, of whatever shard the rows are.
    """
    step = _STEP_OF.get(type(effect))
    if step is None:
        raise TypeError(f"a batch has no effect {type(effect).__name__}")
    return getattr(effect, "shard", RUN), step


def _is_enough(rows: int, size: int) -> bool:
    return rows >= _TOGETHER_ROWS or size >= _TOGETHER_BYTES


def _away(exc: StoreUnavailable) -> Failure:
    return Failure(
        code="store_unavailable", category="internal", retryable=True, at_fault="us", message=str(exc)[:500]
    )  # fmt: skip


def _no_dataset(name: str) -> Failure:
    return Failure(
        code="input_unreadable", category="not_found", at_fault="caller", message=f"there is no dataset {name!r}"[:300]
    )  # fmt: skip
