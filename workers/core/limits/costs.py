"""What a request will take of the meters, by what those before it took; and the failure of one that must wait. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api_contracts.chat import Usage
from api_contracts.failure import Failure
from workers.core.limits.budgets import WAITS
from workers.core.limits.meters import Amounts

HELD_BACK: Final = "held_back"
"""`code` of an attempt that was not made, because the fleet is at the provider's limits."""

_CHARS_PER_TOKEN: Final = 4.0
"""Of English in the tokenisers of today; corrected by what the provider counts."""
_ANSWER: Final = 512.0
"""Tokens of an answer, while none is known."""
_NEWEST: Final = 0.1
"""Weight of the newest answer in an average."""


@dataclass(slots=True)
class Average:
    """What the answers of one model took lately."""

    scale: float = 1.0
    """The prompt's tokens as counted, over those that its length promised."""
    uncached: float = 1.0
    """The share of a prompt that was not in the provider's cache."""
    generated: float = _ANSWER

    def of(self, chars: int, body: Mapping[str, Any]) -> Amounts:
        """Return what a request will take that has `chars` characters of text.

        An answer is taken for twice as long as they are on average, and never for longer than it may be.
        """
        prompt = max(1.0, self.scale * chars / _CHARS_PER_TOKEN)
        most = body.get("max_completion_tokens") or body.get("max_tokens") or float("inf")
        return Amounts(1.0, prompt, prompt * self.uncached, min(float(most), 2 * self.generated) * (body.get("n") or 1))

    def learn(self, chars: int, n: int, usage: Usage) -> Amounts:
        """Take the usage of an answer; return what the request took."""
        taken = Amounts(
            1.0, usage.prompt_tokens, max(0, usage.prompt_tokens - usage.cached_tokens), usage.completion_tokens
        )
        if not usage.estimated and usage.prompt_tokens and chars:
            self.scale += _NEWEST * (taken.prompt * _CHARS_PER_TOKEN / chars - self.scale)
            self.uncached += _NEWEST * (taken.uncached / taken.prompt - self.uncached)
        self.generated += _NEWEST * (taken.generated / n - self.generated)
        return taken


def held_back(wait_s: float) -> Failure:
    """Return the failure of an attempt that has to wait for so long. It is no failure of anybody's."""
    return Failure(
        code=HELD_BACK,
        category="rate_limit",
        message="the fleet is at the provider's limits for this model: the request waits for its turn",
        retryable=True,
        at_fault="us",
        retry_after_s=max(0.0, wait_s),
    )


def is_held_back(failure: Failure) -> bool:
    """Whether an attempt was not made, and only has to wait for its turn or for its budget."""
    return failure.code == HELD_BACK or failure.code in WAITS
