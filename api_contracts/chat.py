"""Chat: the request, the result and the events of a run that talks to a model and calls tools.

Field names and ranges of the request are the provider's (WIRE 1.2); what it does not type goes through `extra`.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api_contracts.answers import Choice as Choice
from api_contracts.answers import FinishReason as FinishReason
from api_contracts.answers import Usage as Usage
from api_contracts.conversations import ChatOpened, ChatSettingsChanged, ChatSummarised, ChatToolsChanged, TakesPart
from api_contracts.failure import Failure
from api_contracts.messages import Message, ToolName, check_pictures
from api_contracts.metering import ChatTruncated as ChatTruncated
from api_contracts.metering import ChatUsage as ChatUsage
from api_contracts.metering import Money, MoneyNumber, Turn
from api_contracts.runs import EventData, Label, Request, Result
from api_contracts.sampling import Sampling, named_tool
from api_contracts.tools import (
    TOOL_EVENTS,
    BatchJoined,
    BatchStarted,
    CallApproved,
    CallCancelled,
    CallFailed,
    CallLateResult,
    CallOutcomeUnknown,
    CallProgress,
    CallReserved,
    CallResult,
    CallStarted,
    CallState,
    CallTimedOut,
    Effect,
    OnInterrupt,
    SettledCall,
    Shown,
    ToolSpec,
)

__all__ = [
    "BatchJoined", "BatchStarted", "CallApproved", "CallCancelled", "CallFailed", "CallLateResult",
    "CallOutcomeUnknown", "CallProgress", "CallReserved", "CallResult", "CallStarted", "CallState", "CallTimedOut",
    "Effect", "OnInterrupt", "SettledCall", "Shown", "ToolSpec",
]  # fmt: skip
"""Of `tools`: they are read here."""

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=512)]

_OWN_FIELDS = {"stream", "stream_options"}
_TYPED_LATER = {
    *("logprobs", "top_logprobs", "echo", "echo_last", "speculation", "prediction", "perf_metrics_in_response"),
    *("raw_output", "return_token_ids", "safe_tokenization"),
}
"""Since 0.1.0, whose runs carry them in `extra` and go on under this release (RUN-24)."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Value):
    """What a run may use before it must answer without tools. Defaults: FEAT D3."""

    rounds: int = Field(default=16, ge=1, le=1000)
    """Model calls of the run, the last of them without tools."""
    calls: int = Field(default=64, ge=0, le=10_000)
    """Tool calls of the run."""
    repeats: int = Field(default=3, ge=1, le=1000)
    """How often the run makes the same call: the same tool with the same arguments, in whatever order and spacing. One
    more is refused, and the model has to answer without tools."""
    spend: Money | None = Field(default=None, gt=0)
    """What the run's answers may cost together, in the currency of the price table (`FW_PRICES`): once they cost as
    much, the next answer is the last. A model without a price is not asked (`price_unknown`)."""
    retries: int = Field(default=10, ge=0, le=1000)
    """Failed attempts at answers that the run makes good by asking again; one answer is tried at most 5 times, a route
    at most 5 times round."""


class RouteEntry(_Value):
    """A place in a route: a model, perhaps under an account of its own."""

    model: ModelName
    credential: Label | None = None
    """Name of the provider key; default: the request's."""


class ChatRequest(Request, Sampling):
    """A chat completion with tool dispatch. Sampling ranges: WIRE 1.2; unset means the model's own default."""

    model: ModelName = ""
    """Either this, or `route`, or, in a conversation, the model of its settings."""
    route: list[ModelName | RouteEntry] = Field(default_factory=list, max_length=8)
    """Models in the order of preference. Where one fails in a way that another may not, the next is asked for the same
    answer at once; each answer begins at the first again. `model` is the first of them."""
    messages: Annotated[list[Message], AfterValidator(check_pictures)] = Field(default_factory=list)
    """Empty in a conversation: nothing is added to it."""
    conversation: TakesPart | None = None
    """The run is a turn of it: its messages are asked with the request's, and what was said is kept there."""
    answer: bool = True
    """False: the model is not asked; the conversation gets the request's messages and settings."""
    tools: list[ToolName | ToolSpec] = Field(default_factory=list, max_length=128)
    parallel_tools: int = Field(default=8, ge=1, le=64)
    """Tool calls of one answer that run at the same time; 1 keeps the model's order."""
    on_mismatch: Literal["fail", "repair"] = "fail"
    """An answer that is not of the `response_format`: the run fails with `answer_mismatch`, or the model is told once
    what is wrong and asked again."""
    limits: Limits = Limits()
    context_length_exceeded_behavior: Literal["truncate", "error"] = "error"
    """The provider's own default silently shortens the answer; ours is an error (WIRE 7.5)."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Body fields that are not typed here, sent as they are; the provider refuses what it does not know."""

    @model_validator(mode="before")
    @classmethod
    def _begins_with_its_route(cls, given: Any) -> Any:
        if (
            not isinstance(given, dict)
            or given.get("model")
            or not isinstance(route := given.get("route"), list | tuple)
        ):
            return given
        first = route[0] if route else ""
        name = first.get("model") if isinstance(first, dict) else getattr(first, "model", first)
        return {**given, "model": name} if name else given

    @property
    def places(self) -> tuple[RouteEntry, ...]:
        """Return the route, which has one place for a single model, and none where the conversation names it."""
        if not self.model:
            return ()
        entries = [RouteEntry(model=each) if isinstance(each, str) else each for each in self.route or [self.model]]
        return tuple(each.model_copy(update={"credential": each.credential or self.credential}) for each in entries)

    @model_validator(mode="after")
    def _has_a_model(self) -> "ChatRequest":
        if not self.model and self.conversation is None:
            raise ValueError("'model' or 'route' is needed")
        if self.places and self.places[0].model != self.model:
            raise ValueError("'model' and 'route' do not go together: the first of the route is the model")
        return self

    def conversation_id(self) -> str | None:
        """See `Request`."""
        return self.conversation.id if self.conversation else None

    @model_validator(mode="after")
    def _says_what_the_conversation_does_not(self) -> "ChatRequest":
        if self.conversation is None:
            if not self.messages:
                raise ValueError("'messages' must be given where there is no 'conversation'")
            if not self.answer:
                raise ValueError("'answer' false goes with a 'conversation' only: else nothing comes of the run")
        elif (self.n or 1) > 1:
            raise ValueError("'n' above 1 goes without a 'conversation': it can go on with one answer only")
        return self

    @model_validator(mode="after")
    def _is_one_request(self) -> "ChatRequest":
        if (self.n or 1) > 1 and self.tools:
            raise ValueError("'n' above 1 goes without 'tools': only one answer can be gone on with")
        names = [tool if isinstance(tool, str) else tool.name for tool in self.tools]
        if len(set(names)) != len(names):
            raise ValueError("two tools have the same name")
        if (chosen := named_tool(self.tool_choice)) is not None and chosen not in names:
            raise ValueError(f"'tool_choice' names {chosen!r}, which is none of the request's tools")
        if self.tool_choice in ("any", "required") and not names:
            raise ValueError(f"'tool_choice' {self.tool_choice!r} needs 'tools'")
        ours = _OWN_FIELDS | (set(type(self).model_fields) - _TYPED_LATER) | self.model_fields_set
        if taken := ours & set(self.extra):
            raise ValueError(
                f"'extra' may not carry {sorted(taken)}: they are fields of the request or set by the service"
            )
        return self


class ChatResult(Result):
    """What a chat came to."""

    kind: str = "chat"
    message: dict[str, Any] | None = None
    finish_reason: FinishReason | None = None
    reasoning: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    """What else the provider told: `service_tier`, `perf_metrics`, `prompt_token_ids`, and as in `Choice`."""
    choices: list[Choice] = Field(default_factory=list)
    """The answers beside `message`, in the provider's order, when `n` asked for more than one."""
    rounds: int = 0
    tool_calls: list[SettledCall] = Field(default_factory=list)
    interrupted: bool = False
    """An interrupt ended the turn: `message` is what had been said by then."""
    usage: Usage = Usage()
    cost: MoneyNumber | None = None
    """What all answers cost by the operator's price table (`FW_PRICES`), None where one of them has no price: unknown
    is never zero. A number, as the first release has it; in `turns` it stands to the last digit."""
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds from the submit: `queued_s` to the first lease, `first_delta_s`, `total_s`."""
    turns: list[Turn] = Field(default_factory=list)
    """Each answer of the model: its tokens, times and cost."""
    settings_version: int = 1
    """Of the conversation's settings, or the run's, with which it was answered last."""
    conversation_version: int | None = None
    """The version that a completed turn left behind."""


class ChatRequested(EventData):
    """The provider is about to be asked. `attempt` counts model calls of the run from 1."""

    TYPE = "chat.requested"
    round: int
    attempt: int
    model: str
    settings_version: int | None = None
    """Set where there are settings: in a conversation, or once they were changed."""


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
    """The deltas of `attempt` are void: that answer was lost or is of no use, and the model is asked again.

    `retry_at` is when (seconds since 1970), and not sooner, whoever asks; None: at once, or no more. `mismatch` is why
    an answer that was whole is not of the form that was asked for: the model is told so.
    """

    TYPE = "chat.replaced"
    attempt: int
    reason: str
    failure: Failure | None = None
    retry_at: float | None = None
    next: int | None = None
    """The place in the request's `route` of the model that is asked next; None: the first, as without a route."""
    mismatch: str | None = None


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
    details: dict[str, Any] | None = None
    choices: list[Choice] | None = None
    """See `ChatResult`."""
    interrupted: bool | None = None
    """True: it is no whole answer, but what had been said when somebody interrupted it."""
    inbox: str | None = None
    by: str | None = None
    """Who did."""


CHAT_EVENTS: tuple[type[EventData], ...] = (
    ChatRequested, ChatOpened, ChatSettingsChanged, ChatToolsChanged, ChatSummarised, ChatDelta, ChatReasoning,
    ChatReplaced, ChatMessage, ChatUsage, ChatTruncated, *TOOL_EVENTS,
)  # fmt: skip
