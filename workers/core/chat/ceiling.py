"""The most that one answer can take, before it is asked for: what a budget is charged until it is known. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from api_contracts.answers import Usage
from api_contracts.failure import Failure
from api_contracts.metering import Price
from workers.core.chat.account import USUAL_TOKENS, cost_of
from workers.core.limits.budgets import to_units, unbounded, unpriced

_TEMPLATE: Final = 1024
"""Tokens that a model's template adds of its own: what it says of tools, of the date, of how to think."""
_PICTURE: Final = 16_384
"""Tokens of one picture: the most that the processors of Qwen's models make of one, more than the others known."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The body to send, and the most that its answer costs, in units of `core.limits.budgets`."""

    body: Mapping[str, Any]
    units: int


def ceiling_of(body: Mapping[str, Any], prices: Mapping[str, Price]) -> Ceiling | Failure:
    """Return the most that an answer costs, or why it may not be asked for under a budget.

    No token is shorter than a byte of UTF-8, so a prompt has no more tokens than bytes. A body without a bound of the
    answer gets the provider's own: what is sent says what was reserved.
    """
    if not (body.get("max_completion_tokens") or body.get("max_tokens")):
        body = {**body, "max_tokens": USUAL_TOKENS}
    most = _most_of(body)
    if most is None:
        return unbounded()
    price, tier = prices.get(str(body["model"])), body.get("service_tier")
    fresh = cost_of(most, price, tier)
    cached = cost_of(most.model_copy(update={"cached_tokens": most.prompt_tokens}), price, tier)
    if fresh is None or cached is None:
        return unpriced(str(body["model"]))
    return Ceiling(body, to_units(max(fresh, cached)))


def units_of(usage: Usage, price: Price | None, tier: object) -> int | None:
    """Return what an answer did cost, None where nobody knows: its tokens are a guess, or have no price."""
    cost: Decimal | None = None if usage.estimated else cost_of(usage, price, None if tier is None else str(tier))
    return None if cost is None else to_units(cost)


def _most_of(body: Mapping[str, Any]) -> Usage | None:
    pictures, prompt = 0, _TEMPLATE + _bytes({name: value for name, value in body.items() if name != "messages"})
    for message in body["messages"]:
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        if any(part["type"] in ("video_url", "audio_url") for part in parts):
            return None
        pictures += sum(part["type"] == "image_url" for part in parts)
        texts = [part for part in parts if part["type"] != "image_url"]
        prompt += _bytes({**message, "content": texts} if parts else message)
    answer = int(body.get("max_completion_tokens") or body["max_tokens"])
    return Usage(prompt_tokens=prompt + _PICTURE * pictures, completion_tokens=answer * (body.get("n") or 1))


def _bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
