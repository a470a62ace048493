"""Rows of a batch: what one may ask (WIRE 3.4), and what became of it.

A row is `{"custom_id": ..., "body": {...}}`. It is sent as it was given, so it is checked strictly: one row that the
provider would not take fails its whole job (WIRE 3.7).
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api_contracts.messages import Message, ToolName, check_pictures
from api_contracts.sampling import Sampling

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


class RowMessage(Message):
    """A message as the provider takes it: a row is sent as it was given, and `developer` is not known there."""

    role: Literal["system", "user", "assistant", "tool"]


class RowBody(Sampling):
    """The body of a row: a chat request without a model, which is the job's. Validate it strictly."""

    messages: Annotated[list[RowMessage], Field(min_length=1), AfterValidator(check_pictures)] | None = None
    prompt_token_ids: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)
    tools: list[RowTool] | None = Field(default=None, max_length=128)

    @model_validator(mode="after")
    def _is_one_prompt(self) -> "RowBody":
        if (self.messages is None) == (self.prompt_token_ids is None):
            raise ValueError("give 'messages' or 'prompt_token_ids', one of them (WIRE 3.4)")
        return self


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
