"""The tools of a chat: how a request names them, the ledger of their calls, and every event of a call."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api_contracts.messages import ToolName
from api_contracts.runs import EventData

OnInterrupt = Literal["cancel", "finish"]
Shown = Literal["result", "state"]
Effect = Literal["pure", "idempotent", "keyed", "at_most_once"]
CallState = Literal["reserved", "running", "succeeded", "failed", "cancelled", "timed_out", "outcome_unknown"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolSpec(_Value):
    """A tool that is a Celery task of another service, or a registered tool with changed settings."""

    name: ToolName
    description: str = Field(default="", max_length=8192)
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON schema of the arguments: an object."""
    task: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    queue: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    effect: Effect = "at_most_once"
    """What a repeat would do: nothing (pure), the same (idempotent), nothing under the same key (keyed), harm."""
    timeout_s: float = Field(default=60.0, gt=0, le=86400)
    on_interrupt: OnInterrupt | None = None
    """What an `interrupt` does to a call that runs or waits. Unset: `cancel` for a pure tool, else `finish`. A call
    that is cancelled after it may have taken effect is `outcome_unknown`."""
    show: Shown = "result"
    """What the model reads of a call that succeeded: its result, or only that it succeeded."""
    wait: bool = True
    """False: its calls run in the background. The model is asked again at once, told that they run, and once more when
    one is over, with what came of it; the run does not complete before, and parks while it waits. They
    take no place of `parallel_tools`."""
    cancellable: bool | None = None
    """Whether the model may cancel a call that runs in the background: while one does it has the tool
    `fw_cancel_call`. Unset: calls of a pure tool. Another, cancelled after it may have taken effect, is
    `outcome_unknown`."""
    approval: bool = False
    """Each call waits until somebody signals `approve` or `reject`; the run is parked meanwhile."""
    approval_timeout_s: float = Field(default=7 * 86400.0, gt=0, le=14 * 86400)
    """A call that nobody approved by then has timed out. The call's own time begins when it is approved."""

    @model_validator(mode="after")
    def _parameters_are_an_object(self) -> "ToolSpec":
        if self.parameters.get("type") != "object":
            raise ValueError('\'parameters\' must be a JSON schema with "type": "object"')
        return self


class SettledCall(BaseModel):
    """One line of the run's ledger of tool calls."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    call_id: str
    name: str
    arguments: str
    state: CallState
    effect: Effect
    content: str | None = None
    """What the model was told."""


class BatchStarted(EventData):
    """The tool calls of one answer, before any of them is reserved.

    After a retry there may be another for the same round: calls that the end interrupted are made again under new ids
    (`1.0`, then `1.0.2`) and their old keys.
    """

    TYPE = "tool.batch_started"
    round: int
    calls: list[str]


class CallReserved(EventData):
    """A call is about to be made; written before its effect can begin."""

    TYPE = "tool.call_reserved"
    call_id: str
    provider_id: str
    name: str
    arguments: str
    effect: Effect
    where: Literal["worker", "task", "nowhere"]
    task_id: str | None = None
    token: str | None = None
    deadline_at: float
    """Seconds since 1970."""
    show: Shown | None = None
    """`state`: the model is not to read its result."""
    wait: bool | None = None
    """False: it runs in the background, and its batch is joined without it."""
    approval: bool | None = None
    """True: it is not made before somebody approves it, and given up at `deadline_at`."""


class CallApproved(EventData):
    """Somebody let a call that waited be made. Written before its effect can begin."""

    TYPE = "tool.call_approved"
    call_id: str
    deadline_at: float
    """From here on the call's deadline, in seconds since 1970."""
    inbox: str
    by: str | None = None
    reason: str | None = None


class CallStarted(EventData):
    """In the worker: written before the tool runs. In another service: written after its message was sent."""

    TYPE = "tool.call_started"
    call_id: str


class CallProgress(EventData):
    """News of a call that goes on; it changes nothing, its deadline either."""

    TYPE = "tool.call_progress"
    call_id: str
    content: str
    """What the tool said of itself: text, or JSON; at most 4096 characters."""
    inbox: str | None = None
    by: str | None = None


class CallResult(EventData):
    """The call succeeded; `content` is what the model is told."""

    TYPE = "tool.call_result"
    call_id: str
    content: str
    run_llm: bool | None = None
    """False: the tool wants no answer to this result. When every call of an answer says so, the run ends with them."""
    inbox: str | None = None
    by: str | None = None
    """Who sent the result, where that was said; of the next two events as well."""


class CallFailed(EventData):
    """The call failed: the model reads the neutral `content`, the operator the `detail`."""

    TYPE = "tool.call_failed"
    call_id: str
    content: str
    detail: str = ""
    code: str | None = None
    """Why it was not made at all: `not_available`, `invalid_arguments`, `over_limit`, `repeated`, `rejected`."""
    inbox: str | None = None
    by: str | None = None


class CallCancelled(EventData):
    """The call was stopped with the run, by an interrupt or by the model, or never begun."""

    TYPE = "tool.call_cancelled"
    call_id: str
    content: str
    inbox: str | None = None
    by: str | None = None
    """Who interrupted it; `call 2.0`: the model, by that call."""


class CallTimedOut(EventData):
    """The call's deadline passed."""

    TYPE = "tool.call_timed_out"
    call_id: str
    content: str


class CallOutcomeUnknown(EventData):
    """Nobody can say whether the effect happened; it is not repeated."""

    TYPE = "tool.call_outcome_unknown"
    call_id: str
    content: str
    inbox: str | None = None
    by: str | None = None
    """As of `tool.call_cancelled`."""


class CallLateResult(EventData):
    """A result that came after the call was settled: recorded, not applied."""

    TYPE = "tool.call_late_result"
    call_id: str
    inbox: str
    by: str | None = None
    ok: bool | None = None
    """Whether the call succeeded after all."""
    content: str | None = None
    """What the model would have been told."""


class BatchJoined(EventData):
    """Every call of the round is settled, or runs in the background; the model is asked next."""

    TYPE = "tool.batch_joined"
    round: int


TOOL_EVENTS: tuple[type[EventData], ...] = (
    BatchStarted, CallReserved, CallApproved, CallStarted, CallProgress, CallResult, CallFailed, CallCancelled,
    CallTimedOut, CallOutcomeUnknown, CallLateResult, BatchJoined,
)  # fmt: skip
