"""Batches: the request, the rows, the result and the events of a run that has many prompts answered by provider jobs.

A **row** is one prompt: `{"custom_id": ..., "body": {...}}` (WIRE 3.4). A **shard** is a share of the rows: one dataset
and one job of the provider. Shards count from 1 over the whole run, those of later attempts included; rows are
numbered by their line in the input, from 1. At every moment

    total = succeeded + failed + quarantined + pending

The rows themselves live in SQL; events carry counts, and a few samples without content.
"""

import json
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from api_contracts.chat import Usage
from api_contracts.failure import Failure
from api_contracts.runs import EventData, Request, Result, UsageEvent

MOST_INLINE_ROWS: Final = 10_000
MOST_INLINE_BYTES: Final = 8 * 1024 * 1024
"""Rows inside the request travel through Redis: no more than this as JSON. More go by `file`."""

JobGroup = Literal["waiting", "active", "ending", "usable", "void", "unknown"]
FailingReason = Literal["length", "content_filter"]
TroubleKind = Literal["step", "unknown_state", "no_output", "abandoned", "fatal", "letter", "stale"]
ResubmitCause = Literal["again", "split"]

_NOT_YET: Final = {
    "on_complete": "put a Celery link on the message, or follow the run until its end",
    "webhook": "put a Celery link on the message, or follow the run until its end",
}


_NOT_A_PARAMETER: Final = {"model", "messages", "prompt_token_ids", "stream", "stream_options"}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _json_bytes(value: Any) -> int:
    """Return the length of a value as JSON; raise ValueError for what JSON cannot say."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return len(text.encode())
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"cannot be said in JSON ({type(exc).__name__})") from None


# -- the request -------------------------------------------------------------------------------------------------------


class BatchParameters(_Value):
    """Parameters of the jobs, for rows that do not set them (WIRE 3.5)."""

    max_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=100)
    n: int | None = Field(default=None, ge=1, le=128)
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further body fields, sent as `extraBody`."""

    @field_validator("extra")
    @classmethod
    def _is_sendable(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if taken := (_NOT_A_PARAMETER | set(cls.model_fields)) & set(extra):
            raise ValueError(f"may not carry {sorted(taken)}: they are fields of the request, of rows, or ours")
        _json_bytes(extra)
        return extra


class OnComplete(_Value):
    """A Celery task that is to be sent when the run has ended."""

    task: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    queue: Annotated[str, StringConstraints(min_length=1, max_length=255)]


class BatchRequest(Request):
    """Many prompts for one model. Bad rows are set aside with a reason, the others are answered. Defaults: FEAT D3."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    rows: list[Any] | None = Field(default=None, min_length=1, max_length=MOST_INLINE_ROWS)
    """Rows inside the request; each is checked by the worker, as the lines of a file are."""
    file: Annotated[str, StringConstraints(min_length=1, max_length=8192)] | None = None
    """JSONL that the worker can read: an absolute path on its machine, or an http(s) URL."""
    dataset: Annotated[str, StringConstraints(pattern=r"^(accounts/[^/]+/datasets/)?[A-Za-z0-9._-]{1,128}$")] | None = (
        None
    )
    """A dataset of the account, READY: its id or full name. Its rows are read, checked and cut into shards anew."""
    parameters: BatchParameters = BatchParameters()
    system_prompt: str | None = Field(default=None, min_length=1)
    """Put before rows that do not begin with a system message (WIRE 3.5)."""
    extra_fields: list[Annotated[str, StringConstraints(min_length=1, max_length=128)]] = Field(
        default_factory=list, max_length=64
    )
    """Body fields that rows may carry although they are not typed here; the provider has to know them."""
    mode: Literal["api"] = "api"
    promise_s: float | None = Field(default=None, gt=0, le=30 * 86400)
    """Seconds from the submit in which the results are wanted; `batch.at_risk` says when that looks unlikely."""
    attempts: int = Field(default=3, ge=1, le=10)
    """How often a row is submitted, at most, when it fails, is missing, or its job expires."""
    fail_on: list[FailingReason] = Field(default_factory=lambda: list(get_args(FailingReason)), max_length=2)
    """Finish reasons that count as a failure of the row."""
    shard_rows: int = Field(default=10_000, ge=1, le=1_000_000)
    shard_bytes: int = Field(default=50_000_000, ge=1_000, le=8_000_000_000)
    """A shard ends before the row that would take it over one of these; 150 MB and more go up by signed URLs."""
    on_complete: OnComplete | None = None
    webhook: str | None = None

    @field_validator("mode", mode="before")
    @classmethod
    def _is_built(cls, value: Any) -> Any:
        if value in ("workers", "auto"):
            raise ValueError(f"{value!r} is not built yet: use 'api', the provider's batch service")
        return value

    @field_validator("on_complete", "webhook", mode="before")
    @classmethod
    def _is_not_built(cls, value: Any, info: Any) -> Any:
        if value is not None:
            raise ValueError(f"is not built yet: {_NOT_YET[info.field_name]}")
        return value

    @field_validator("rows")
    @classmethod
    def _fit_into_a_request(cls, rows: list[Any] | None) -> list[Any] | None:
        size = _json_bytes(rows)
        if size > MOST_INLINE_BYTES:
            raise ValueError(f"are {size} bytes of JSON, {MOST_INLINE_BYTES} are taken: give them as 'file'")
        return rows

    @field_validator("file")
    @classmethod
    def _can_be_read_anywhere(cls, file: str | None) -> str | None:
        if file is None or (file.startswith("/") and "\0" not in file):
            return file
        try:
            url = urlsplit(file)
            named = url.scheme in ("http", "https") and bool(url.hostname)
        except ValueError:
            named = False
        if not named:
            raise ValueError(
                "must be an absolute path on the worker's machine, or an http(s) URL; a relative path means another "
                "file there than here, and bytes are given as 'rows'"
            )
        if url.username is not None or url.password is not None:
            raise ValueError("must not carry a user or password: requests are stored; use a signed URL")
        return file

    @model_validator(mode="after")
    def _is_one_source(self) -> "BatchRequest":
        given = [name for name in ("rows", "file", "dataset") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of 'rows', 'file' and 'dataset', not {' and '.join(given) or 'none'}")
        return self


# -- the result --------------------------------------------------------------------------------------------------------


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RowCounts(_Read):
    """The rows of a run by what became of them. `pending` is 0 when the run is completed."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    quarantined: int = 0
    pending: int = 0


class JobSummary(_Read):
    """What a job of the provider came to. Rows that it left open were moved to later shards, or stayed pending."""

    shard: int
    attempt: int
    job: str
    state: str
    """The provider's word for it; empty when it was never seen."""
    rows: int
    succeeded: int = 0
    failed: int = 0
    usage: Usage | None = None
    """None: its output was never read."""


class BatchResult(Result):
    """What a batch came to. The rows are read from SQL."""

    kind: str = "batch"
    rows: RowCounts = RowCounts()
    jobs: list[JobSummary] = Field(default_factory=list)
    reasons: dict[str, int] = Field(default_factory=dict)
    """Rows that failed or were set aside, by the code of the reason; the most frequent ones."""
    usage: Usage = Usage()
    cost: float | None = None
    """Always None until a price table exists; unknown is never zero."""
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds from the submit: `queued_s` to the first lease, `validated_s`, `submitted_s` to the last job's start,
    `harvested_s` to the last output read, `total_s`."""


# -- events ------------------------------------------------------------------------------------------------------------


class ShardPlan(_Read):
    """A share of the rows that becomes one dataset and one job."""

    shard: int
    rows: int
    bytes: int


class RowSample(_Read):
    """A bad row: where it is and what is wrong, without its content."""

    number: int
    custom_id: str | None = None
    code: str
    message: str = ""


class BatchValidated(EventData):
    """The input is read: the rows are in SQL, and cut into shards."""

    TYPE = "batch.validated"
    rows: int
    """All of them, those set aside included."""
    quarantined: int
    bytes: int
    shards: list[ShardPlan]


class BatchQuarantined(EventData):
    """Rows were set aside: by our check of the input, or (with `shard`) because the provider would not take them."""

    TYPE = "batch.quarantined"
    rows: int
    reasons: dict[str, int]
    samples: list[RowSample] = Field(default_factory=list)
    """The first few."""
    shard: int | None = None


class BatchUploaded(EventData):
    """A shard's dataset holds its rows."""

    TYPE = "batch.uploaded"
    shard: int
    dataset: str
    rows: int
    bytes: int


class BatchSubmitted(EventData):
    """A shard's job exists at the provider."""

    TYPE = "batch.submitted"
    shard: int
    attempt: int
    """Which submission of these rows it is, from 1."""
    job: str
    output: str
    """Id of the dataset that takes the results."""
    expires_at: float | None = None
    """Seconds since 1970."""
    inbox: str | None = None


class BatchState(EventData):
    """A job's state changed. `state` is the provider's word, or `GONE` for a job that is not there any more."""

    TYPE = "batch.state"
    shard: int
    state: str
    group: JobGroup
    code: str = ""
    message: str = ""
    inbox: str | None = None


class BatchProgress(EventData):
    """A job's counters moved; as the provider counts, while it works."""

    TYPE = "batch.progress"
    shard: int
    rows: int
    """Of the shard, as we count."""
    processed: int
    succeeded: int
    failed: int
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    inbox: str | None = None


class BatchHarvested(EventData):
    """A job's output is in SQL, or is known to be unavailable.

    `succeeded + failed + quarantined + again` are the shard's rows; `again` are not settled yet. The lines of both
    files are those that settled a row or left it for another attempt, the duplicates, the strangers and the corrupt.
    """

    TYPE = "batch.harvested"
    shard: int
    available: bool
    succeeded: int
    failed: int
    quarantined: int = 0
    again: int = 0
    lines: int = 0
    duplicates: int = 0
    strangers: int = 0
    """Lines with a custom id that is not of this shard."""
    corrupt: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    """Rows that failed for good, by code; the most frequent ones."""


class BatchResubmitted(EventData):
    """Rows without an end were cut into new shards: for another attempt, or (`split`) to find the row that a provider
    would not take."""

    TYPE = "batch.resubmitted"
    cause: ResubmitCause
    parents: list[int]
    attempt: int
    rows: int
    shards: list[ShardPlan]


class BatchAtRisk(EventData):
    """`promise_s` will probably not be kept. Said once."""

    TYPE = "batch.at_risk"
    promise_at: float
    expected_at: float | None = None
    """Seconds since 1970; None when there is nothing yet to tell it from."""


class BatchCost(UsageEvent):
    """What a job used, once, after its output was read."""

    TYPE = "batch.cost"
    shard: int
    job: str
    usage: Usage
    cost: float | None = None


class BatchTrouble(EventData):
    """Something went wrong, and what is done about it.

    `step`: it is tried again at `retry_at`. `unknown_state`: the job's state is none that we know; told once a state.
    `no_output`: the job's output is not there. `abandoned`: the shard cannot be submitted, its rows fail. `fatal`: the
    run ends. `letter`, `stale`: a signal that makes no sense, or tells of what is over.
    """

    TYPE = "batch.trouble"
    kind: TroubleKind
    shard: int | None = None
    step: str | None = None
    message: str = ""
    failure: Failure | None = None
    failures: int | None = None
    """In a row, of this step."""
    retry_at: float | None = None
    inbox: str | None = None


BATCH_EVENTS: tuple[type[EventData], ...] = (
    BatchValidated, BatchQuarantined, BatchUploaded, BatchSubmitted, BatchState, BatchProgress, BatchHarvested,
    BatchResubmitted, BatchAtRisk, BatchCost, BatchTrouble,
)  # fmt: skip
