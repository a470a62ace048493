"""What an answer took: tokens, time and money. Money is decimal, and a string in JSON: a float cannot hold a tenth."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from api_contracts.answers import Usage
from api_contracts.runs import EventData, UsageEvent

Money = Annotated[
    Decimal,
    Field(ge=0, allow_inf_nan=False),
    PlainSerializer(lambda amount: format(amount.normalize(), "f"), return_type=str, when_used="json"),
]
"""An amount in the currency of the price table."""
MoneyNumber = Annotated[Decimal, Field(ge=0), PlainSerializer(float, return_type=float, when_used="json")]
"""The same as a JSON number, which has its digits up to the fifteenth."""


class Price(BaseModel):
    """What a model costs, per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Money
    cached: Money | None = None
    """Tokens of the prompt that the provider had read before; default: as the others."""
    completion: Money
    priority: "Price | None" = None
    """The price of answers of the service tier `priority`; default: unknown."""


class Budget(BaseModel):
    """What runs may spend in each window of time; an operator sets it (`FW_BUDGETS`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=9, allow_inf_nan=False)]
    """In the currency of the price table."""
    window_s: int = Field(default=86_400, ge=10, le=30 * 86_400)
    """Windows lie end to end since 1970: one of 86 400 s is a day of UTC, one of 3 600 s an hour."""
    by: tuple[str, ...] = Field(default=("tenant",), max_length=8)
    """Labels: runs that have the same values of all of them share the limit, runs that lack one are not under it.
    `tenant` is the tenant, whatever label a run has of that name."""
    only: dict[str, str] = Field(default_factory=dict)
    """Labels and their values: only runs that have them are under it."""


class Timings(BaseModel):
    """How long one answer took, in seconds; what is not known is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    queued_s: float | None = None
    """The run waited so long for a worker before this answer could be asked for: from the submit, from the end of a
    pause, from the result that woke it."""
    connect_s: float | None = None
    """From asking to a usable connection; 0 where one was there."""
    first_byte_s: float | None = None
    """From asking to the first byte of the provider's answer."""
    first_token_s: float | None = None
    """From asking to the first text, thought or call."""
    processing_s: float | None = None
    """From asking to the end of the answer."""
    server: dict[str, float] = Field(default_factory=dict)
    """What the provider says of itself, when it does (WIRE 1.8): `server_time_to_first_token`,
    `server_processing_time` and, of dedicated deployments, further durations."""


class Turn(BaseModel):
    """One answer of the model, as the run's account has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    round: int
    attempt: int | None = None
    model: str | None = None
    usage: Usage = Usage()
    timings: Timings = Timings()
    cost: Money | None = None
    """None where the price table does not know the model: unknown is never zero."""


class ChatUsage(UsageEvent):
    """What one answer took."""

    TYPE = "chat.usage"
    round: int
    usage: Usage
    attempt: int | None = None
    model: str | None = None
    timings: Timings | None = None
    cost: Money | None = None
    """None where the price table does not know the model."""


class ChatTruncated(EventData):
    """The provider cut the prompt or the answer, because the request lets it (`prompt_truncate_len`,
    `context_length_exceeded_behavior`). It does not say so: see `core/chat/account.py` for how it is known."""

    TYPE = "chat.truncated"
    round: int
    attempt: int
    what: Literal["prompt", "answer"]
    asked_tokens: int
    """The size of the answer that was asked for; of the prompt that was sent, by a rough rule."""
    got_tokens: int
