"""`BatchService` without a network: the test is the provider, and no time passes.

batch = MemoryBatch()
batch.trouble("create_job", failure, late=True)     # carried out, but its answer is lost
...                                                 # datasets and jobs are made through the port
batch.move(job, "RUNNING", progress=Progress(processed=3))
batch.finish(job, {"BIJOutputSet.jsonl": answers, "error-data": b""})
"""

import json
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from api_contracts.failure import Failure
from workers.adapters.memory.model import Hold
from workers.core.batch.acts import CreateJob
from workers.core.batch.jobs import COMPLETED, JobView, gone, last_segment
from workers.ports import OutputFile, OutputUnavailable, ProviderFailed

Operation = Literal[
    "create_dataset", "dataset_is_ready", "upload", "create_job", "job", "stop", "files", "download"
]  # fmt: skip
"""The port's calls, and the reading of one file."""

_CLOSED: Final = Failure(
    code="provider_unreachable", category="transport", retryable=True, at_fault="us", message="closed by this side"
)


@dataclass(frozen=True, slots=True)
class BatchCall:
    """One call as the provider got it. `name` is the id of the dataset or job; of a download, the file's name."""

    operation: Operation
    name: str
    credential: str | None


@dataclass(slots=True)
class MemoryDataset:
    """`files` is empty until it was filled."""

    name: str
    rows: int
    files: dict[str, bytes] = field(default_factory=dict)
    is_ready: bool = False


@dataclass(slots=True)
class MemoryJob:
    """A job as it was wanted, and as it is now."""

    wanted: CreateJob
    view: JobView
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class _Trouble:
    failure: Failure
    late: bool
    after: int


class MemoryBatch:
    """Datasets by id, jobs by id; whatever moves is moved by the test.

    `calls` is every call so far. `open` is how many downloads were begun and neither read to their end nor closed.
    `ready_at_once` False leaves a dataset that was filled until `make_ready`. A download comes in pieces of
    `piece_bytes`.
    """

    def __init__(self, *, ready_at_once: bool = True, piece_bytes: int = 65_536) -> None:
        self.datasets: dict[str, MemoryDataset] = {}
        self.jobs: dict[str, MemoryJob] = {}
        self.calls: list[BatchCall] = []
        self.open = 0
        self.closed = False
        self._ready_at_once = ready_at_once
        self._piece_bytes = piece_bytes
        self._script: defaultdict[Operation, deque[_Trouble | Hold]] = defaultdict(deque)

    # -- the provider's side ---------------------------------------------------------------------------------------

    def trouble(self, operation: Operation, failure: Failure, *, late: bool = False, after: int = 0) -> None:
        """Fail the next such call that has no trouble yet.

        `late`: what it asks for is done, the answer is lost. `after`: an upload or a download breaks when so many
        bytes have come.
        """
        self._script[operation].append(_Trouble(failure, late, after))

    def troubles(self, operation: Operation) -> bool:
        """Return whether such a call is to fail."""
        return bool(self._script[operation])

    def hold(self, operation: Operation) -> Hold:
        """Keep the next such call waiting, before anything is done, until `go` is set."""
        hold = Hold()
        self._script[operation].append(hold)
        return hold

    def make_ready(self, dataset: str) -> None:
        """Let a dataset be READY."""
        self.datasets[dataset].is_ready = True

    def put_dataset(self, dataset: str, files: Mapping[str, bytes]) -> None:
        """Have a dataset that somebody else made."""
        self.datasets[dataset] = MemoryDataset(dataset, 0, dict(files), is_ready=True)

    def move(self, job: str, state: str, **seen: Any) -> JobView:
        """Let a job be in a state, with these fields of `JobView`; return its view."""
        found = self.jobs[job]
        found.view = replace(found.view, state=state, **seen)
        return found.view

    def finish(self, job: str, files: Mapping[str, bytes], state: str = COMPLETED, **seen: Any) -> JobView:
        """Let a job end with these files; `move` is for ends without any."""
        self.put_dataset(self.jobs[job].view.output, files)
        return self.move(job, state, **seen)

    def go_on(self) -> list[str]:
        """Let each new job be RUNNING, and each that was stopped unknown; return those that could end now."""
        could_end = []
        for name, job in self.jobs.items():
            if job.view.state == "DELETING_CLEANING_UP":
                self.lose(name)
            elif job.view.state == "VALIDATING":
                self.move(name, "RUNNING")
            elif not job.view.is_over:
                could_end.append(name)
        return could_end

    def ids_of(self, job: str) -> list[str]:
        """Return the custom ids of the rows that a job was given, in order."""
        (data,) = self.datasets[self.jobs[job].wanted.dataset].files.values()
        return [str(json.loads(line)["custom_id"]) for line in data.splitlines()]

    def lose(self, job: str) -> None:
        """Let a job be unknown from now on; its output stays."""
        self.jobs[job].is_gone = True

    # -- the port --------------------------------------------------------------------------------------------------

    async def create_dataset(self, dataset: str, name: str, rows: int, *, credential: str | None) -> bool:
        """See the port."""
        lost = await self._called("create_dataset", dataset, credential)
        if rows < 1:
            raise ProviderFailed(_refused("a dataset without rows"))
        found = self.datasets.setdefault(dataset, MemoryDataset(name, rows))
        _fail(lost)
        return found.is_ready

    async def dataset_is_ready(self, dataset: str, *, credential: str | None) -> bool:
        """See the port."""
        _fail(await self._called("dataset_is_ready", dataset, credential))
        return self._dataset(dataset).is_ready

    async def upload(
        self, dataset: str, chunks: Callable[[], AsyncIterator[bytes]], size: int, *, signed: bool,
        credential: str | None,
    ) -> None:  # fmt: skip
        """See the port. What `chunks` raises is raised, and `ValueError` when it has not `size` bytes."""
        trouble = await self._called("upload", dataset, credential)
        if last_segment(dataset) not in self.datasets:
            raise ProviderFailed(_NOT_FOUND.model_copy(update={"retryable": True}))
        found = self._dataset(dataset)
        data = await _whole(chunks(), size, trouble)
        found.files = {f"{last_segment(dataset)}.jsonl": data}
        found.is_ready = self._ready_at_once
        _fail(trouble)

    async def create_job(self, wanted: CreateJob, *, credential: str | None) -> JobView:
        """See the port. An output whose id is taken gets another one."""
        lost = await self._called("create_job", wanted.job, credential)
        found = self.jobs.get(wanted.job)
        if found is None or found.is_gone:
            if not self._dataset(wanted.dataset).is_ready:
                raise ProviderFailed(_refused(f"dataset {wanted.dataset} is not READY"))
            output = f"bij-{len(self.jobs):08}" if wanted.output in self.datasets else wanted.output
            found = self.jobs[wanted.job] = MemoryJob(wanted, JobView(wanted.job, "VALIDATING", output=output))
        elif last_segment(found.wanted.dataset) != last_segment(wanted.dataset):
            raise ProviderFailed(_TAKEN)
        _fail(lost)
        return found.view

    async def job(self, job: str, *, credential: str | None) -> JobView:
        """See the port."""
        _fail(await self._called("job", job, credential))
        found = self.jobs.get(job)
        return gone(job) if found is None or found.is_gone else found.view

    async def stop(self, job: str, *, credential: str | None) -> None:
        """See the port. The job is cleaned up until `lose` (WIRE 3.7)."""
        lost = await self._called("stop", job, credential)
        if job in self.jobs and not self.jobs[job].is_gone:
            self.move(job, "DELETING_CLEANING_UP")
        _fail(lost)

    async def files(self, dataset: str, *, credential: str | None) -> AsyncGenerator[OutputFile, None]:
        """See the port."""
        _fail(await self._called("files", dataset, credential))
        found = self.datasets.get(last_segment(dataset))
        if found is None or not found.files:
            raise OutputUnavailable(dataset)
        for name in sorted(found.files):
            chunks = self._download(name, found.files[name], credential)
            try:
                yield OutputFile(name, chunks)
            finally:
                await chunks.aclose()

    async def close(self) -> None:
        """Refuse whatever is asked from now on."""
        self.closed = True

    # --------------------------------------------------------------------------------------------------------------

    async def _called(self, operation: Operation, name: str, credential: str | None) -> _Trouble | None:
        """Note the call and let it meet its script. Return what is still to come of that: after the work is done."""
        if self.closed:
            raise ProviderFailed(_CLOSED)
        self.calls.append(BatchCall(operation, name, credential))
        script = self._script[operation]
        step = script.popleft() if script else None
        if isinstance(step, Hold):
            step.reached.set()
            await step.go.wait()
            return None
        if step is not None and not step.late and not step.after:
            raise ProviderFailed(step.failure)
        return step

    async def _download(self, name: str, data: bytes, credential: str | None) -> AsyncGenerator[bytes, None]:
        self.open += 1
        try:
            trouble = await self._called("download", name, credential)
            end = len(data) if trouble is None else trouble.after
            for start in range(0, min(end, len(data)), self._piece_bytes):
                yield data[start : min(start + self._piece_bytes, end)]
            _fail(trouble)
        finally:
            self.open -= 1

    def _dataset(self, dataset: str) -> MemoryDataset:
        found = self.datasets.get(last_segment(dataset))
        if found is None:
            raise ProviderFailed(_NOT_FOUND)
        return found


async def _whole(rows: AsyncIterator[bytes], size: int, trouble: _Trouble | None) -> bytes:
    """Read an upload's rows, as far as it goes."""
    data = bytearray()
    try:
        async for chunk in rows:
            data += chunk
            if trouble is not None and trouble.after and len(data) >= trouble.after:
                raise ProviderFailed(trouble.failure)
            if len(data) > size:
                raise ValueError(f"the rows are {len(data)} bytes or more, {size} were announced")
    finally:
        if isinstance(rows, AsyncGenerator):
            await rows.aclose()
    if len(data) != size:
        raise ValueError(f"the rows are {len(data)} bytes, {size} were announced")
    return bytes(data)


def _fail(trouble: _Trouble | None) -> None:
    if trouble is not None:
        raise ProviderFailed(trouble.failure)


def _refused(why: str) -> Failure:
    return Failure(
        code="provider_bad_request", category="bad_request", at_fault="caller", message=why, provider_status=400
    )


_TAKEN: Final = Failure(
    code="batch_id_taken", category="bad_request", at_fault="us", message="the job exists, with another input"
)
_NOT_FOUND: Final = Failure(
    code="provider_not_found", category="not_found", at_fault="us", message="no such dataset", provider_status=404
)
