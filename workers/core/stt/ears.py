"""What connections say, and what is made of it: words, echoes, errors, messages of no known kind. Pure.

`wire` owns the connections; whether the session goes on after a message is told by `Over`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api_contracts import stt
from api_contracts.failure import Failure
from api_contracts.stt import TroubleKind
from workers.core.stt import link
from workers.core.stt.connection import Connection
from workers.core.stt.ledger import Ledger
from workers.core.stt.messages import SaidSegment, error_in, is_update, lists_segments, segments_in

MOST_ERRORS: Final = 5
"""Errors of a connection in a row that end the session instead of letting it go silent (STT-16). One that ends with
its error counts as lost."""

_TRACE, _CLEARED = "stt.output.trace", "stt.state.cleared"


@dataclass(frozen=True, slots=True)
class Over:
    """There is nothing more to come: by a failure, or because the transcript is at its end.

    `heard_all` says that the provider has confirmed the end.
    """

    failure: Failure | None = None
    heard_all: bool = False


Manner = tuple[float, int | None]
"""The text timeout in seconds, and the sample from which on words are not made final by the present connection, if
there is one."""


class Ears:
    """Hears one connection after another. It is told the manner each time: it must not hold whoever has it."""

    def __init__(self, ledger: Ledger) -> None:
        self.echoes = False
        """Whether the provider is known to echo traces."""
        self._ledger = ledger
        self._frontier = 0

    def begin(self) -> None:
        """Go on from where the journal ends."""
        self._frontier = self._ledger.state.final_upto

    def said(self, conn: Connection, message: Mapping[str, Any], now: float, manner: Manner) -> Over | None:
        """Take a message."""
        segments, checkpoint, about = self._segments(conn, message), message.get("checkpoint_id"), message.get("object")
        if (error := error_in(message)) is not None:
            if segments:
                self._update(conn, segments, now, manner)
            return self.error(conn, "error", error, now)
        if segments is None and checkpoint is None and about not in (_TRACE, _CLEARED):
            if not conn.told_unknown:
                conn.told_unknown = True
                self.trouble(conn, "unknown", "a message of no known kind: it is passed over", now)
            return None
        conn.errors, conn.said_at = 0, now
        if segments is not None:
            self._update(conn, segments, now, manner)
        if about == _TRACE:
            if (sent_at := conn.echoed(message.get("trace_id"))) is not None:
                self.echoes = True
                self._ledger.latency.echoed(sent_at, now)
        elif about == _CLEARED and conn.awaits_cleared:
            self._ledger.last_words(conn, now)
            conn.forgot()
            conn.awaits_cleared = False
        return Over(heard_all=True) if checkpoint == "final" and conn.closing_at is not None else None

    def _segments(self, conn: Connection, message: Mapping[str, Any]) -> list[SaidSegment] | None:
        """Return the segments that a message tells. Where they have ids, a text without one belongs to none."""
        if lists_segments(message):
            conn.lists_segments = True
        elif conn.lists_segments and is_update(message):
            return []
        return segments_in(message, conn.segments.said, conn.segments.is_over)

    def _update(self, conn: Connection, segments: list[SaidSegment], now: float, manner: Manner) -> None:
        if not conn.segments.apply(segments, now, conn.sent_upto()):
            return
        conn.changed_at = now
        ends = [word.end for each in segments for word in each.words if word.end is not None]
        conn.prove_s(max(ends, default=0.0))
        self.listen(conn, now, manner)

    def listen(self, conn: Connection, now: float, manner: Manner) -> None:
        """Tell what there is to tell of it."""
        text_timeout_s, limit = manner
        if self._ledger.listen(conn, now, text_timeout_s, limit) and conn.closing_at is not None:
            conn.final_since_closing = True
        if (heard := self._ledger.heard_upto) > self._frontier:
            self._frontier, conn.is_further = heard, True

    def error(self, conn: Connection, kind: TroubleKind, message: str, now: float) -> Over | None:
        """Take one more error."""
        conn.errors += 1
        self.trouble(conn, kind, message, now)
        return Over(link.TOO_MANY_ERRORS) if conn.errors >= MOST_ERRORS else None

    def trouble(self, conn: Connection, kind: TroubleKind, message: str, now: float) -> None:
        """Tell of it; nothing follows."""
        self._ledger.emit(stt.SttTrouble(kind=kind, message=message, conn=conn.number), now)
