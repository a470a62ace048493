"""Times, durations and names as the control plane spells them (WIRE 3). Pure."""

import re
from datetime import UTC, datetime

_DURATION = re.compile(r"(\d{1,10}(?:\.\d{1,9})?)s")


def stamp(seconds: float) -> str:
    """A time in RFC 3339 with microseconds, as on later reads (WIRE 3.2)."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def fresh_stamp(seconds: float) -> str:
    """The same with nanoseconds, as in the answer to a create (WIRE 3.2); the last three digits are made up."""
    return f"{stamp(seconds)[:-1]}{int(seconds * 1e6) * 7 % 1000:03d}Z"


def optional_stamp(seconds: float | None) -> str | None:
    """A time, or null."""
    return None if seconds is None else stamp(seconds)


def read_duration(text: str) -> float:
    """Seconds of a proto3 JSON duration, `86400s`. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"not a duration: {text!r}")
    return float(found[1])


def last_segment(name: str) -> str:
    """The id at the end of a resource name; an id is its own."""
    return name.rpartition("/")[2]
