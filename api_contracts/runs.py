"""What all kinds of work share: the request's frame, the journal's entries, the result's frame, signals.

An event is `seq, type, at, epoch, data`. Each type of event has one class here or beside its kind; `writer` in its
docstring says who appends it. Only the holder of the run's lease appends (`run.queued` excepted).
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, WithJsonSchema, model_validator

from api_contracts import SCHEMA_VERSION
from api_contracts.failure import Failure
from api_contracts.names import Kind, Lane

Label = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Status = Literal["completed", "failed", "cancelled"]
SignalType = Literal["cancel", "interrupt", "tool_result", "approve", "reject", "update_settings"]


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

    def conversation_id(self) -> str | None:
        """Return the conversation of which the run is a turn."""
        return None

    def account(self) -> dict[str, Any]:
        """Return for whom the run counts, as events of usage say it (`UsageEvent`)."""
        return {"tenant": self.tenant, "labels": self.labels or None, "idempotency_key": self.idempotency_key}


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


class UsageEvent(EventData):
    """What was used, and for whom it counts: who only reads these need not have seen `run.queued`."""

    tenant: str = "default"
    labels: dict[str, str] | None = None
    idempotency_key: str | None = None


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

    @classmethod
    def from_entry(cls, entry_id: Any, fields: Mapping[Any, Any] | None) -> Self | None:
        """Read a stream entry; None for one that is none of ours. Any Redis client can write into a journal, but only
        the service gives an entry the id `<seq>-0` of its own seq.
        """
        try:
            event = cls.from_fields(fields or {})
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
        return event if _text(entry_id) == f"{event.seq}-0" else None

    @property
    def needs(self) -> int:
        """Schema version that a worker must have to go on with a run in which this stands: `needs` in the data, or 1.

        A release writes it into what the release before it must not pass over.
        """
        needed = self.data.get("needs")
        return needed if isinstance(needed, int) else 1

    @property
    def terminal(self) -> bool:
        """Whether the run's journal ends here."""
        return self.type in TERMINAL


_FILE, _SESSION = "stt_file", "stt"
_WrittenKind = Annotated[
    Kind,
    PlainSerializer(lambda kind: _SESSION if kind == _FILE else kind, return_type=str),
    WithJsonSchema({"type": "string", "enum": ["chat", "stt", "batch", "cite"]}),
]


class RunQueued(EventData):
    """Writer: the submit script, as seq 1 under epoch 0.

    A file's transcription is written as `stt` with `file`, and read as the kind `stt_file`: readers of the first
    release know four kinds.
    """

    TYPE = "run.queued"
    kind: _WrittenKind
    file: bool | None = None
    """True for speech that is a whole file."""
    digest: str
    version: int = SCHEMA_VERSION
    writer: str = ""
    tenant: str = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    lane: Lane = "interactive"
    idempotency_key: str | None = None
    deadline_s: float | None = None
    conversation: str | None = None
    request: dict[str, Any] | None = None
    request_blob: int | None = None
    """Number of the blob that holds the request when it is over 64 KB."""

    @model_validator(mode="before")
    @classmethod
    def _is_of_a_kind(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        kind = kind_of(given)
        return {**given, "kind": kind, "file": True if kind == _FILE else None}


def kind_of(queued: Mapping[str, Any]) -> Any:
    """Return the kind of run that the data of a `run.queued` says."""
    kind = queued.get("kind")
    return _FILE if kind == _SESSION and queued.get("file") is True else kind


class _Begun(EventData):
    owner: str
    version: int = SCHEMA_VERSION
    """Of the contracts, as this life writes them."""
    inbox: str | None = None
    """The letter by which an operator retried the run; the other two are set with it."""
    by: str | None = None
    reason: str | None = None


class RunStarted(_Begun):
    """Writer: the first lease holder."""

    TYPE = "run.started"


class RunResumed(_Begun):
    """Writer: each later lease holder, as its first event.

    After `run.failed` or `run.cancelled` it says that an operator reopened the run: the journal goes on, and ends anew.
    """

    TYPE = "run.resumed"


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
    by: str | None = None
    """Who asked, where the sender said so."""


class RunConflicted(EventData):
    """A message with the same id and another request came in; it was dropped."""

    TYPE = "run.conflict"
    inbox: str
    digest: str


class RunIgnored(EventData):
    """A signal came in that changes nothing: `reason` says why. The run goes on."""

    TYPE = "run.ignored"
    inbox: str
    signal: str
    reason: str
    by: str | None = None


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
    RunQueued, RunStarted, RunResumed, RunParked, RunCancelling, RunConflicted, RunIgnored, RunCompleted,
    RunFailedEvent, RunCancelled,
)  # fmt: skip


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
