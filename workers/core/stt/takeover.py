"""A connection that is to take over from the present one (make before break): opened beside it, then fed, then alone.

While it opens, the present connection is fed and heard as before. Two things can call for one: options that changed
(STT-12), and an age at which providers cut connections (STT-13). What fails here costs the session nothing: it is
tried again, or left. Pure.
"""

from dataclasses import dataclass
from typing import Final

from workers.core.stt.connection import Connection

CHANGED: Final = "the options were changed"
ROLLED: Final = "the connection was replaced before it is too old"


@dataclass(slots=True)
class Takeover:
    """`conn` is being opened; None while the next try waits for `retry_at`."""

    why: str
    limit: int | None = None
    """Sample of the timeline from which on other options hold: words from there on are not made final by the present
    connection, as long as the first try is under way."""
    conn: Connection | None = None
    retry_at: float | None = None
    failures: int = 0
    """In a row."""
