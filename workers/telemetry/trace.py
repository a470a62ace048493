"""The trace that a message belongs to, by the W3C's Trace Context: read for the logs, and for nothing else yet."""

import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def trace_id_of(traceparent: object) -> str | None:
    """Return the trace id of a `traceparent` header, or None when there is none or it breaks the format."""
    found = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return found[1] if found and found[1].strip("0") else None
