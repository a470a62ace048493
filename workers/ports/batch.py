"""Batches: the provider's control plane, and the rows in SQL."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from api_contracts.batch_rows import RowFault, RowResult
from workers.core.batch.acts import Counts, CreateJob, CutRows, Verdict
from workers.core.batch.cutter import Cutter
from workers.core.batch.jobs import JobView
from workers.core.batch.outputs import RowOutcome


class OutputUnavailable(Exception):
    """A dataset is not there (404): a job's output before it ends, or never (WIRE 3.7)."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file of a dataset: its base name, and its bytes as they come. `chunks` is read before the next file is."""

    name: str
    chunks: AsyncGenerator[bytes, None]


class BatchService(Protocol):
    """The provider's control plane for batches (WIRE 3). Every call raises `ProviderFailed`.

    Each may be repeated, whether or not an earlier one arrived: what exists under the same id is adopted.
    """

    async def create_dataset(self, dataset: str, name: str, rows: int, *, credential: str | None) -> bool:
        """Create a dataset for so many rows, or adopt it; return whether it is READY."""
        ...

    async def dataset_is_ready(self, dataset: str, *, credential: str | None) -> bool:
        """Return whether the dataset may be used."""
        ...

    async def upload(
        self,
        dataset: str,
        chunks: Callable[[], AsyncIterator[bytes]],
        size: int,
        *,
        signed: bool,
        credential: str | None,
    ) -> None:
        """Send `size` bytes of JSONL, never held as a whole: directly, or `signed` by URLs and validateUpload."""
        ...

    async def create_job(self, wanted: CreateJob, *, credential: str | None) -> JobView:
        """Create the job, or adopt it when it has the same input."""
        ...

    async def job(self, job: str, *, credential: str | None) -> JobView:
        """Return the job as it is now; `jobs.gone` when the provider does not know it."""
        ...

    async def stop(self, job: str, *, credential: str | None) -> None:
        """Have the job stopped; nothing happens to one that is not there."""
        ...

    def files(self, dataset: str, *, credential: str | None) -> AsyncGenerator[OutputFile, None]:
        """Yield the dataset's files, by name; downloads that break are resumed. Raise `OutputUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row to be kept: one that waits in a shard (`fault` None), or one that was set aside."""

    number: int
    custom_id: str | None
    shard: int = 0
    size: int = 0
    """Bytes of its line, as it is uploaded."""
    body: bytes = b""
    fault: RowFault | None = None


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """A job whose turn it is to be looked at. Times are seconds since 1970; `seen` is what was last seen of it."""

    run_id: str
    shard: int
    job: str
    credential: str | None
    submitted_at: float
    changed_at: float
    seen: JobView


class RowStore(Protocol):
    """The rows of batches. Every call raises `StoreUnavailable`; those with `life` raise `LeaseLost` under an old one.

    `life` is larger for each later worker of a run, up to 2**62: once one has written, nothing comes from an earlier
    one any more, be it on its way already.
    """

    async def restart(self, run_id: str, life: int) -> None:
        """Drop the rows of a reading that came to no end."""
        ...

    async def add(self, run_id: str, life: int, rows: Sequence[NewRow]) -> set[int]:
        """Keep rows; return the numbers of those whose custom id another row of the run has: they are not kept."""
        ...

    def lines(self, run_id: str, shard: int) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a shard's pending rows, in the order of the input, a few hundred at a time."""
        ...

    async def ids(self, run_id: str, shard: int) -> dict[str, int]:
        """Return the custom ids of a shard, each with its row's number."""
        ...

    async def settle(self, run_id: str, life: int, outcomes: Sequence[RowOutcome]) -> None:
        """Write what became of rows that are pending; the others stay as they are."""
        ...

    async def give_verdict(self, run_id: str, life: int, shard: int, verdict: Verdict) -> None:
        """Settle the shard's pending rows that have no fault of this attempt."""
        ...

    async def cut(self, run_id: str, life: int, wanted: CutRows, cutter: Cutter) -> None:
        """Move pending rows to the shards that the cutter says, and forget their faults and answers; all or none."""
        ...

    async def page(self, run_id: str, after: int, limit: int) -> list[RowResult]:
        """Return the next rows of a run after number `after`, in the order of the input, `limit` at most."""
        ...

    async def counts(self, run_id: str, shard: int | None = None) -> Counts:
        """Count the rows of the run, or of a shard, by their state."""
        ...

    async def reasons(self, run_id: str, shard: int) -> dict[str, int]:
        """Count the failed rows of a shard by their code."""
        ...

    async def watch(self, job: WatchedJob, look_at: float) -> None:
        """Have a job looked at from then on; one that is watched already keeps its time."""
        ...

    async def unwatch(self, run_id: str, shard: int) -> None:
        """Have a job looked at no more."""
        ...

    async def claim_jobs(self, now: float, again_at: float, limit: int) -> list[WatchedJob]:
        """Return jobs whose time has come, each to one caller; if nothing is `noted`, they come again at `again_at`."""
        ...

    async def noted(self, run_id: str, shard: int, view: JobView, changed_at: float, look_at: float) -> None:
        """Remember what was seen of a job, and when to look again."""
        ...


class Inputs(Protocol):
    """Files that a request names."""

    def read(self, source: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a path or URL. Raise `ProviderFailed`, code `input_unreadable`."""
        ...
