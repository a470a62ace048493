"""What a batch asks of the world, and what the world tells it.

Every effect may be repeated, by this worker or by another after a crash, and comes to the same: rows are written under
their numbers, datasets and jobs have the ids that are given here. `life` counts the run's workers, from 1: SQL refuses
what comes with a smaller one than it has seen for this submit, so a worker that was replaced changes no row any more.

Each effect has one fact that settles it, or `StepFailed`. `shard` 0 stands for the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from api_contracts.batch import ResubmitCause, RowSample, ShardPlan
from api_contracts.batch_rows import RowState
from api_contracts.chat import Usage
from api_contracts.failure import Failure
from workers.core.batch.jobs import JobView
from workers.core.runs.frame import Effect

Step = Literal["read", "create", "upload", "ready", "submit", "look", "stop", "harvest", "cut", "count"]


class Counts(NamedTuple):
    """Rows by their state, as SQL has them."""

    succeeded: int = 0
    failed: int = 0
    quarantined: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the rows of a shard that no file speaks of. `pending` is for another attempt."""

    state: RowState
    code: str
    message: str


# -- effects -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadRows(Effect):
    """Read the request's rows, check them, cut them into shards and put all of it into SQL. Post `RowsRead`.

    Rows of an unfinished reading before are dropped first.
    """

    life: int


@dataclass(frozen=True, slots=True)
class CreateDataset(Effect):
    """Create the dataset with this many examples, or adopt the one that has the id. Post `DatasetSeen`."""

    shard: int
    dataset: str
    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Upload(Effect):
    """Send the shard's rows from SQL, as a stream. Post `RowsUploaded`.

    `signed`: by signed URLs and validateUpload, else by one direct upload (WIRE 3.3).
    """

    shard: int
    dataset: str
    bytes: int
    signed: bool


@dataclass(frozen=True, slots=True)
class LookAtDataset(Effect):
    """Post `DatasetSeen`."""

    shard: int
    dataset: str


@dataclass(frozen=True, slots=True)
class CreateJob(Effect):
    """Create the job, or adopt the one that has the id and the same input; have it polled. Post `JobSeen`.

    `parameters` is the wire's `inferenceParameters` (WIRE 3.5).
    """

    shard: int
    job: str
    name: str
    dataset: str
    output: str
    model: str
    parameters: Mapping[str, object]
    system_prompt: str | None


@dataclass(frozen=True, slots=True)
class LookAtJob(Effect):
    """Ask for the job's state. Post `JobSeen`; for a 404, with `jobs.gone`."""

    shard: int
    job: str


@dataclass(frozen=True, slots=True)
class StopJob(Effect):
    """Have the provider stop the job, by DELETE (WIRE 3.1). Post `JobStopped`, for a 404 too."""

    shard: int
    job: str


@dataclass(frozen=True, slots=True)
class HarvestJob(Effect):
    """Read the job's files (`output` None: there are none), settle rows in bulk, then give the others the verdict.

    The others are pending and have no fault of this attempt yet; `rest` None leaves them as they are. `last`: what
    failed is not tried again. Polling of the job ends. Post `JobHarvested`, or `OutputMissing` for files that are not
    there (404).
    """

    life: int
    shard: int
    job: str
    output: str | None
    last: bool
    rest: Verdict | None


@dataclass(frozen=True, slots=True)
class CutRows(Effect):
    """Cut `rows` pending rows into new shards of `attempt`, numbered from `first` on. Post `RowsCut`.

    `again`: all that are pending. `split`: those of shard `parent`, into two halves (`cutter.Halver`). Rows that the
    same cut has moved already, before a crash, to `first` or later, are among them and are cut with the others.
    """

    life: int
    cause: ResubmitCause
    parent: int
    rows: int
    attempt: int
    first: int


@dataclass(frozen=True, slots=True)
class CountRows(Effect):
    """Count the rows in SQL by their state. Post `RowsCounted`."""


@dataclass(frozen=True, slots=True)
class StopStep(Effect):
    """Stop this step of this shard; nothing it says counts any more."""

    shard: int
    step: Step


# -- facts -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowsRead:
    """The input is in SQL. `samples` are the first few rows that were set aside."""

    rows: int
    quarantined: int
    bytes: int
    shards: Sequence[ShardPlan]
    reasons: Mapping[str, int] = field(default_factory=dict)
    samples: Sequence[RowSample] = ()


@dataclass(frozen=True, slots=True)
class DatasetSeen:
    """The dataset is there; `ready` when it may be used (state READY)."""

    shard: int
    ready: bool


@dataclass(frozen=True, slots=True)
class RowsUploaded:
    """The dataset holds the shard's rows."""

    shard: int


@dataclass(frozen=True, slots=True)
class JobSeen:
    """The job as the provider shows it."""

    shard: int
    view: JobView


@dataclass(frozen=True, slots=True)
class JobStopped:
    """The provider was told, or does not know the job."""

    shard: int


@dataclass(frozen=True, slots=True)
class JobHarvested:
    """`counts` is what SQL now has of the shard's rows; the others are of the files. `reasons`: of the failed."""

    shard: int
    counts: Counts
    lines: int = 0
    duplicates: int = 0
    strangers: int = 0
    corrupt: int = 0
    usage: Usage | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputMissing:
    """The job's output is not there: not yet, or never. `jitter` is a random number from 0 to 1."""

    shard: int
    jitter: float


@dataclass(frozen=True, slots=True)
class RowsCut:
    """The new shards; together they have every row that was cut."""

    shards: Sequence[ShardPlan]


@dataclass(frozen=True, slots=True)
class RowsCounted:
    """What SQL has of the run."""

    counts: Counts


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step came to nothing. `jitter` is a random number from 0 to 1."""

    shard: int
    step: Step
    failure: Failure
    jitter: float
