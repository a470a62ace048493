"""What a model's answer is told and counted with. Pure."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["stop", "tool_calls", "length", "content_filter"]


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


class Choice(BaseModel):
    """One of several answers (n > 1) to the same question."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    message: dict[str, Any]
    finish_reason: FinishReason
    reasoning: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    """What else the provider told of it when it was asked to: `logprobs`, `token_ids`, `prompt_token_ids`, `raw_output`
    (WIRE 1.5)."""
