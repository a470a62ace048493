"""Rows of a batch: what one may ask (WIRE 3.4), and what became of it.

A row is `{"custom_id": ..., "body": {...}}`. It is sent as it was given, so it is checked strictly: one row that the
provider would not take fails its whole job (WIRE 3.7).
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from api_contracts.chat import ChatRequest, Message, ToolName

RowState = Literal["pending", "succeeded", "failed", "quarantined"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RowFunction(_Value):
    """The function of a tool (WIRE 1.4)."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class RowTool(_Value):
    """A tool that the model may ask for. Nobody answers: the calls are the row's result."""

    type: Literal["function"]
    function: RowFunction


class RowPrompt(_Value):
    """What a row's body has beside the parameters that it shares with a chat. No `model`: that is the job's."""

    messages: list[Message] | None = Field(default=None, min_length=1)
    prompt_token_ids: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)
    tools: list[RowTool] | None = Field(default=None, max_length=128)
    n: int | None = Field(default=None, ge=1, le=128)
    logprobs: bool | Annotated[int, Field(ge=0, le=5)] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=5)
    echo: bool | None = None
    echo_last: int | None = Field(default=None, ge=0)
    speculation: str | list[int] | None = None
    prediction: str | dict[str, Any] | None = None
    perf_metrics_in_response: bool | None = None
    raw_output: bool | None = None
    return_token_ids: bool | None = None
    safe_tokenization: bool | None = None

    @model_validator(mode="after")
    def _is_one_prompt(self) -> "RowPrompt":
        if (self.messages is None) == (self.prompt_token_ids is None):
            raise ValueError("give 'messages' or 'prompt_token_ids', one of them (WIRE 3.4)")
        said = self.model_fields_set
        if {"max_tokens", "max_completion_tokens"} <= said:
            raise ValueError("'max_tokens' and 'max_completion_tokens' are one setting: give one of them")
        if {"thinking", "reasoning_effort"} <= said:
            raise ValueError("'thinking' and 'reasoning_effort' exclude each other")
        return self


_SHARED_WITH_CHAT: Final = (
    "tool_choice", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "typical_p",
    "frequency_penalty", "presence_penalty", "repetition_penalty", "mirostat_target", "mirostat_lr", "stop", "seed",
    "logit_bias", "ignore_eos", "context_length_exceeded_behavior", "prompt_truncate_len", "parallel_tool_calls",
    "response_format", "user", "prompt_cache_key", "prompt_cache_isolation_key", "metadata", "service_tier",
    "reasoning_effort", "reasoning_history", "thinking",
)  # fmt: skip


def _as_in_chat(name: str) -> Any:
    """Return the chat's own type and range of a field, unset unless the row sets it."""
    field = ChatRequest.model_fields[name]
    bounded: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return bounded | None, None


RowBody: Final = create_model(
    "RowBody",
    __base__=RowPrompt,
    __doc__="The body of a row: a chat request without a model. Validate it strictly: it is sent as it was given.",
    **{name: _as_in_chat(name) for name in _SHARED_WITH_CHAT},
)


class RowFault(_Read):
    """Why a row did not succeed."""

    code: str
    message: str = ""


class RowResult(_Read):
    """One row as SQL keeps it."""

    number: int
    """Its line in the input, from 1."""
    custom_id: str | None = None
    state: RowState
    attempts: int = 0
    response: dict[str, Any] | None = None
    """The provider's chat completion (WIRE 1.5); a failed row has one when the failure is its finish reason."""
    fault: RowFault | None = None
