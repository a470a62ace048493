"""What the head of an answer says of the provider's limits (WIRE 5.2)."""

import math
from collections.abc import Mapping
from typing import Final

from workers.core.limits.meters import NOT_STATED, Stated, Word

_NAMES: Final = ("requests", "tokens-prompt", "tokens-cache-adjusted-prompt", "tokens-generated")
"""In the order of METERS."""
_RATE_LIMITED: Final = 429


def word_of(status: int, headers: Mapping[str, str]) -> Word | None:
    """Return what was said, None if nothing was. `headers` find names in any case.

    Which meter it is that is `over-limit` is not said: unless one of them runs short, all do.
    """
    stated = tuple(_stated(headers, name) for name in _NAMES)
    if headers.get("x-ratelimit-over-limit", "").strip().lower() == "yes" and not Word(stated=stated).is_urgent:
        stated = tuple(each and each._replace(left=0.0) for each in stated)
    if status != _RATE_LIMITED and stated == NOT_STATED:
        return None
    return Word(stated=stated, refused=status == _RATE_LIMITED)


def _stated(headers: Mapping[str, str], name: str) -> Stated | None:
    limit = _number(headers.get(f"x-ratelimit-limit-{name}"))
    if not limit:
        return None
    left = _number(headers.get(f"x-ratelimit-remaining-{name}"))
    return Stated(limit, None if left is None else min(1.0, left / limit))


def _number(text: str | None) -> float | None:
    """Return a figure of at least 0; what is none is as good as unsaid."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
