"""What one answer took, and what of it was cut, for the run's account. Pure."""

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, Protocol

from api_contracts.answers import Usage
from api_contracts.chat import ChatRequest, ChatTruncated, ChatUsage
from api_contracts.metering import Price, Timings
from workers.core.chat.assembler import Answer
from workers.core.chat.body import bytes_of
from workers.core.runs.frame import SignalArrived

_PER_PRICE: Final = -6
"""Prices are per million tokens."""
USUAL_TOKENS: Final = 2048
"""`max_tokens` of a request that names none (WIRE 1.2)."""
_BYTES_PER_TOKEN: Final = 4

_NO_TIMES: Final = Timings()

SERVER_TIMES: Final = (
    "server-time-to-first-token", "server-processing-time", "tokenizer-queue-duration", "tokenizer-duration",
    "prefill-queue-duration", "prefill-duration", "generation-queue-duration", "generation-duration",
)  # fmt: skip
"""What the provider tells of its own times, in seconds: headers with the prefix `fireworks-`, or `perf_metrics`."""


class AskedRound(Protocol):
    """Which answer it is."""

    round: int
    attempt: int


def cost_of(usage: Usage, price: Price | None, tier: str | None = None) -> Decimal | None:
    """Return what an answer cost, None when its price is not known. Tokens that were thought are completion's."""
    if price is not None and tier == "priority":
        price = price.priority
    if price is None:
        return None
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    of_cached = price.prompt if price.cached is None else price.cached
    total = (usage.prompt_tokens - cached) * price.prompt + cached * of_cached
    total += usage.completion_tokens * price.completion
    return total.scaleb(_PER_PRICE)


class Meter:
    """What one life of a run knows of its answers beside the journal: the request under way, and waits for a worker."""

    def __init__(self, request: ChatRequest, prices: Mapping[str, Price], queued_at: float) -> None:
        self.body: Mapping[str, Any] = {}
        """The last request, in the provider's form."""
        self.request = request
        self.prices = prices
        self._queued_at = queued_at
        self._begun_at: float | None = None
        self._waited_s: float | None = None

    def begins(self, now: float, due: float | None, *, resumed: bool) -> None:
        """Note the beginning of the life, and since when it could have begun, if that is known."""
        self._begun_at = now if resumed else None
        self._waited_s = None if due is None else max(0.0, now - due)

    def heard(self, letter: SignalArrived) -> None:
        """A letter that was there before this life may be what woke the run: its id begins with its time (ms)."""
        sent = letter.id.partition("-")[0]
        if self._begun_at is not None and self._waited_s is None and sent.isdecimal():
            at = int(sent) / 1000
            self._waited_s = self._begun_at - at if self._queued_at <= at < self._begun_at else None

    def told(self, state: AskedRound, usage: Usage, timings: Timings = _NO_TIMES, tier: object = None) -> ChatUsage:
        """Return the account of the answer to the last request."""
        model = str(self.body.get("model", self.request.model))
        took = timings.model_copy(update={"queued_s": self._waited_s})
        self._waited_s = None
        return ChatUsage(
            round=state.round, attempt=state.attempt, model=model, usage=usage, timings=took,
            cost=cost_of(usage, self.prices.get(model), str(tier or self.body.get("service_tier"))),
            **self.request.account(),
        )  # fmt: skip

    def told_of_summary(self, model: str, usage: Usage) -> ChatUsage:
        """Return the account of a summary: it belongs to no round."""
        cost = cost_of(usage, self.prices.get(model))
        return ChatUsage(round=0, model=model, usage=usage, cost=cost, **self.request.account())


def truncations(body: Mapping[str, Any], answer: Answer, round_: int, attempt: int) -> Iterator[ChatTruncated]:
    """Yield what the provider cut because the request lets it (CHAT-14).

    It does not say so (WIRE 1.2, 7.5). An answer was cut when it ends for its length before it has the length that was
    asked for. A prompt was, by the rough rule of 4 bytes a token, when it was longer than the request has it made.
    """
    usage, endings = answer.usage, [answer.finish_reason, *(each.finish_reason for each in answer.others)]
    asked = (body.get("max_tokens") or body.get("max_completion_tokens") or USUAL_TOKENS) * len(endings)
    behaviour = body.get("context_length_exceeded_behavior")
    is_short = set(endings) == {"length"} and usage.completion_tokens < asked
    if behaviour == "truncate" and is_short and not usage.estimated:
        yield ChatTruncated(
            round=round_, attempt=attempt, what="answer", asked_tokens=asked, got_tokens=usage.completion_tokens
        )
    longest, sent = body.get("prompt_truncate_len"), bytes_of(body["messages"]) // _BYTES_PER_TOKEN
    if isinstance(longest, int) and sent > longest:
        yield ChatTruncated(
            round=round_, attempt=attempt, what="prompt", asked_tokens=sent, got_tokens=usage.prompt_tokens
        )


def server_times(told: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the provider's own times of `told`, its headers (lower-case names) or `perf_metrics`."""
    found: dict[str, float] = {}
    for name in SERVER_TIMES:
        try:
            seconds = float(told.get(prefix + name, "nan"))
        except (TypeError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            found[name.replace("-", "_")] = seconds
    return found
