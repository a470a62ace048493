"""What all kinds of work share: the request's frame, the journal's entries, the result's frame, signals.

An event is `seq, type, at, epoch, data`. Each type of event has one class here or beside its kind; `writer` in its
docstring says who appends it. Only the holder of the run's lease appends (`run.queued` excepted).
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api_contracts import SCHEMA_VERSION
from api_contracts.failure import Failure
from api_contracts.names import Kind, Lane

Label = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Status = Literal["completed", "failed", "cancelled"]
SignalType = Literal["cancel", "tool_result"]


class Request(BaseModel):
    """What every request takes. Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: Label = "default"
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=32)
    lane: Lane = "interactive"
    deadline_s: float | None = Field(default=None, gt=0, le=30 * 86400)
    """Seconds from the submit to the end; then the run fails with `deadline_exceeded`."""
    credential: Label | None = None
    """Name of a provider key that the worker resolves (`FW_CREDENTIALS`); never the key itself."""
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None


class Result(BaseModel):
    """What every result carries."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    kind: str
    """A `Kind`, or what a newer writer calls its own."""
    status: Status
    failure: Failure | None = None
    schema_version: int = SCHEMA_VERSION


class EventData(BaseModel):
    """The `data` of one type of event."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    TYPE: ClassVar[str]

    def to_json(self) -> str:
        """Return the JSON that is stored: fields that are unset or None are left out."""
        return self.model_dump_json(exclude_none=True)


class Event(BaseModel):
    """One entry of a run's journal. Its stream id is `<seq>-0`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seq: int = Field(ge=1)
    type: str
    at: int
    """Milliseconds since 1970 on Redis' clock."""
    epoch: int = Field(ge=0)
    data: dict[str, Any]

    @classmethod
    def from_fields(cls, fields: Mapping[Any, Any]) -> Self:
        """Read the fields of a stream entry, bytes or text."""
        text = {_text(k): _text(v) for k, v in fields.items()}
        return cls(
            seq=int(text["seq"]), type=text["type"], at=int(text["at"]), epoch=int(text["epoch"]),
            data=json.loads(text["data"]),
        )  # fmt: skip

    @property
    def terminal(self) -> bool:
        """Whether the run's journal ends here."""
        return self.type in TERMINAL


class RunQueued(EventData):
    """Writer: the submit script, as seq 1 under epoch 0."""

    TYPE = "run.queued"
    kind: Kind
    digest: str
    version: int = SCHEMA_VERSION
    writer: str = ""
    tenant: str = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    lane: Lane = "interactive"
    request: dict[str, Any] | None = None
    request_blob: int | None = None
    """Number of the blob that holds the request when it is over 64 KB."""


class RunStarted(EventData):
    """Writer: the first lease holder."""

    TYPE = "run.started"
    owner: str


class RunResumed(EventData):
    """Writer: each later lease holder, as its first event."""

    TYPE = "run.resumed"
    owner: str


class RunParked(EventData):
    """Writer: the driver, as the last event of a life. The run holds no worker, slot or lease; `run.resumed` follows.

    `until` is when it wakes by itself (seconds since 1970); None: only a signal wakes it.
    """

    TYPE = "run.parked"
    why: str
    until: float | None = None


class RunCancelling(EventData):
    """A cancel signal was taken; what runs is being stopped."""

    TYPE = "run.cancelling"
    inbox: str
    reason: str = ""


class RunConflicted(EventData):
    """A message with the same id and another request came in; it was dropped."""

    TYPE = "run.conflict"
    inbox: str
    digest: str


class _Ended(EventData):
    result: dict[str, Any] | None = None
    result_blob: int | None = None


class RunCompleted(_Ended):
    """The run's result; SQL had it before this event."""

    TYPE = "run.completed"


class RunFailedEvent(_Ended):
    """The run failed: `failure` says why, `result` what there was."""

    TYPE = "run.failed"
    failure: Failure


class RunCancelled(_Ended):
    """The run was cancelled; `result` keeps what was already said."""

    TYPE = "run.cancelled"
    reason: str = ""


TERMINAL: dict[str, Status] = {
    RunCompleted.TYPE: "completed", RunFailedEvent.TYPE: "failed", RunCancelled.TYPE: "cancelled",
}  # fmt: skip

RUN_EVENTS: tuple[type[EventData], ...] = (
    RunQueued, RunStarted, RunResumed, RunParked, RunCancelling, RunConflicted, RunCompleted, RunFailedEvent,
    RunCancelled,
)  # fmt: skip


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
