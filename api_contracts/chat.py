"""Chat: the request, the result and the events of a run that talks to a model and calls tools.

Field names and ranges of the request are the provider's (WIRE 1.2); what it does not type goes through `extra`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api_contracts.failure import Failure
from api_contracts.runs import EventData, Request, Result

ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Effect = Literal["pure", "idempotent", "keyed", "at_most_once"]
CallState = Literal["reserved", "running", "succeeded", "failed", "cancelled", "timed_out", "outcome_unknown"]
FinishReason = Literal["stop", "tool_calls", "length", "content_filter"]

_OWN_FIELDS = {
    "model",
    "messages",
    "tools",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FunctionCall(_Value):
    """The function of a tool call in a message; `arguments` is JSON text (WIRE 1.3)."""

    name: str
    arguments: str = "{}"


class ToolCall(_Value):
    """A tool call in an assistant message."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(_Value):
    """One message in the provider's closed form (WIRE 1.3): no `name`, no stray keys."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Message":
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message with role 'tool' needs 'tool_call_id'")
        if self.role != "assistant" and self.tool_calls is not None:
            raise ValueError(f"'tool_calls' belong to role 'assistant', not {self.role!r}")
        if self.content is None and not self.tool_calls:
            raise ValueError(f"a message with role {self.role!r} needs 'content'")
        return self


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

    @model_validator(mode="after")
    def _parameters_are_an_object(self) -> "ToolSpec":
        if self.parameters.get("type") != "object":
            raise ValueError('\'parameters\' must be a JSON schema with "type": "object"')
        return self


class Limits(_Value):
    """What a run may use before it must answer without tools. Defaults: FEAT D3."""

    rounds: int = Field(default=16, ge=1, le=1000)
    """Model calls of the run, the last of them without tools."""
    calls: int = Field(default=64, ge=0, le=10_000)
    """Tool calls of the run."""


class ChatRequest(Request):
    """A chat completion with tool dispatch. Sampling ranges: WIRE 1.2; unset means the model's own default."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    messages: list[Message] = Field(min_length=1)
    tools: list[ToolName | ToolSpec] = Field(default_factory=list, max_length=128)
    tool_choice: Literal["auto", "none", "any", "required"] | dict[str, Any] | None = None
    parallel_tools: int = Field(default=8, ge=1, le=64)
    """Tool calls of one answer that run at the same time; 1 keeps the model's order."""
    limits: Limits = Limits()

    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=100)
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, ge=0, le=2)
    mirostat_target: float | None = None
    mirostat_lr: float | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    ignore_eos: bool | None = None
    context_length_exceeded_behavior: Literal["truncate", "error"] = "error"
    """The provider's own default silently shortens the answer; ours is an error (WIRE 7.5)."""
    prompt_truncate_len: int | None = Field(default=None, ge=1)
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_isolation_key: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    reasoning_effort: str | int | bool | None = None
    reasoning_history: Literal["disabled", "interleaved", "preserved"] | None = None
    thinking: dict[str, Any] | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    """Body fields that are not typed here, sent as they are; the provider refuses what it does not know."""

    @model_validator(mode="after")
    def _is_one_request(self) -> "ChatRequest":
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError(
                "'max_tokens' and 'max_completion_tokens' are one setting: give one of them (WIRE 1.7 R12)"
            )
        if self.thinking is not None and self.reasoning_effort is not None:
            raise ValueError("'thinking' and 'reasoning_effort' exclude each other (WIRE 1.7 R11)")
        names = [tool if isinstance(tool, str) else tool.name for tool in self.tools]
        if len(set(names)) != len(names):
            raise ValueError("two tools have the same name")
        if taken := (_OWN_FIELDS | set(type(self).model_fields)) & set(self.extra):
            raise ValueError(
                f"'extra' may not carry {sorted(taken)}: they are fields of the request or set by the service"
            )
        return self


class Usage(BaseModel):
    """Tokens of one answer, or of the run. `estimated` when the provider sent no count."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            estimated=self.estimated or other.estimated,
        )


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


class ChatResult(Result):
    """What a chat came to."""

    kind: str = "chat"
    message: dict[str, Any] | None = None
    finish_reason: FinishReason | None = None
    reasoning: str | None = None
    rounds: int = 0
    tool_calls: list[SettledCall] = Field(default_factory=list)
    usage: Usage = Usage()
    cost: float | None = None
    """Always None until a price table exists; unknown is never zero."""
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds from the submit: `queued_s` to the first lease, `first_delta_s`, `total_s`."""
    settings_version: int = 1


class ChatRequested(EventData):
    """The provider is about to be asked. `attempt` counts model calls of the run from 1."""

    TYPE = "chat.requested"
    round: int
    attempt: int
    model: str


class ChatDelta(EventData):
    """Text that the model said, coalesced."""

    TYPE = "chat.delta"
    attempt: int
    text: str


class ChatReasoning(EventData):
    """Text that the model thought, coalesced."""

    TYPE = "chat.reasoning"
    attempt: int
    text: str


class ChatReplaced(EventData):
    """The deltas of `attempt` are void: that answer was lost, and the model is asked again."""

    TYPE = "chat.replaced"
    attempt: int
    reason: str
    failure: Failure | None = None


class ChatMessage(EventData):
    """A whole answer of the model."""

    TYPE = "chat.message"
    round: int
    attempt: int
    message: dict[str, Any]
    """In the provider's form, ready to be sent back."""
    reasoning: str | None = None
    finish_reason: FinishReason
    provider_request_id: str | None = None


class ChatUsage(EventData):
    """Tokens of one answer."""

    TYPE = "chat.usage"
    round: int
    usage: Usage


class BatchStarted(EventData):
    """The tool calls of one answer, before any of them is reserved."""

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


class CallStarted(EventData):
    """In the worker: written before the tool runs. In another service: written after its message was sent."""

    TYPE = "tool.call_started"
    call_id: str


class CallResult(EventData):
    """The call succeeded; `content` is what the model is told."""

    TYPE = "tool.call_result"
    call_id: str
    content: str
    inbox: str | None = None


class CallFailed(EventData):
    """The call failed: the model reads the neutral `content`, the operator the `detail`."""

    TYPE = "tool.call_failed"
    call_id: str
    content: str
    detail: str = ""
    inbox: str | None = None


class CallCancelled(EventData):
    """The call was stopped with the run, or never begun."""

    TYPE = "tool.call_cancelled"
    call_id: str
    content: str


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


class CallLateResult(EventData):
    """A result that came after the call was settled: recorded, not applied."""

    TYPE = "tool.call_late_result"
    call_id: str
    inbox: str


class BatchJoined(EventData):
    """Every call of the round is settled; the model is asked next."""

    TYPE = "tool.batch_joined"
    round: int


CHAT_EVENTS: tuple[type[EventData], ...] = (
    ChatRequested, ChatDelta, ChatReasoning, ChatReplaced, ChatMessage, ChatUsage, BatchStarted, CallReserved,
    CallStarted, CallResult, CallFailed, CallCancelled, CallTimedOut, CallOutcomeUnknown, CallLateResult, BatchJoined,
)  # fmt: skip
