"""What shapes an answer, for all that asks a model: the provider's parameters and their ranges (WIRE 1.2).

Unset means the model's own default. Values whose form is richer than JSON Schema can say are plain here, and checked.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from api_contracts.messages import ToolName, checked_as

UpToFive = Annotated[int, Field(ge=0, le=5)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# -- values with a form of their own -----------------------------------------------------------------------------------


class _Plain(_Value):
    type: Literal["text"]


class _JsonObject(_Value):
    type: Literal["json_object"]
    schema_: dict[str, Any] | str | None = Field(default=None, alias="schema")


class _JsonSchema(_Value):
    type: Literal["json_schema"]
    json_schema: dict[str, Any] | str


class _Grammar(_Value):
    type: Literal["grammar"]
    grammar: Annotated[str, Field(min_length=1)]


class _Named(_Value):
    name: ToolName


class _Choice(_Value):
    type: Literal["function"]
    function: _Named | None = None
    name: ToolName | None = None

    @model_validator(mode="after")
    def _names_one(self) -> "_Choice":
        if (self.function is None) == (self.name is None):
            raise ValueError("name the tool: {'type': 'function', 'function': {'name': ...}}")
        return self


class _Thinking(_Value):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(default=None, ge=1024)


class _Prediction(_Value):
    type: Literal["content"]
    content: str


_Format = Annotated[_Plain | _JsonObject | _JsonSchema | _Grammar, Field(discriminator="type")]


ResponseFormat = Annotated[dict[str, Any], AfterValidator(checked_as(_Format))]
"""`text`, `json_object` (with a `schema`), `json_schema` or `grammar`; no other keys (WIRE 4.1)."""
ToolChoice = Literal["auto", "none", "any", "required"] | Annotated[dict[str, Any], AfterValidator(checked_as(_Choice))]
"""`any` and `required` are one; a tool is named as `{"type": "function", "function": {"name": ...}}` (WIRE 1.2)."""
Effort = str | int | bool


def named_tool(choice: Any) -> str | None:
    """Return the tool that a choice names, in either spelling."""
    if not isinstance(choice, dict):
        return None
    return str(choice["function"]["name"] if choice.get("function") else choice["name"])


class Sampling(BaseModel):
    """Sampling and control parameters, named and bounded as the provider does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool_choice: ToolChoice | None = None
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
    mirostat_target: FiniteFloat | None = None
    mirostat_lr: FiniteFloat | None = None
    n: int | None = Field(default=None, ge=1, le=128)
    """Answers to the same question, for each of which tokens are paid."""
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    logprobs: bool | UpToFive | None = None
    """True, or the older form: how many alternatives."""
    top_logprobs: UpToFive | None = None
    """Alternatives of each token."""
    echo: bool | None = None
    echo_last: int | None = Field(default=None, ge=0)
    ignore_eos: bool | None = None
    context_length_exceeded_behavior: Literal["truncate", "error"] | None = None
    prompt_truncate_len: int | None = Field(default=None, ge=1)
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_isolation_key: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    reasoning_effort: Effort | None = None
    reasoning_history: Literal["disabled", "interleaved", "preserved"] | None = None
    thinking: Annotated[dict[str, Any], AfterValidator(checked_as(_Thinking))] | None = None
    speculation: str | list[int] | None = None
    prediction: str | Annotated[dict[str, Any], AfterValidator(checked_as(_Prediction))] | None = None
    perf_metrics_in_response: bool | None = None
    raw_output: bool | None = None
    return_token_ids: bool | None = None
    safe_tokenization: bool | None = None

    @model_validator(mode="after")
    def _says_nothing_twice(self) -> "Sampling":
        for one, other, rule in _EXCLUDE:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"{one!r} and {other!r} {rule}")
        return self


_EXCLUDE: Final = (
    ("max_tokens", "max_completion_tokens", "are one setting: give one of them (WIRE 1.7 R12)"),
    ("thinking", "reasoning_effort", "exclude each other (WIRE 1.7 R11)"),
)
