"""The way of a session's connections: open, feed, listen, lose, open again, ask for the end. Pure.

It owns the present connection and its times. Whether the session goes on is decided here only as far as the wire
decides it (`Over`); what becomes of the session then, `session` knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api_contracts import stt
from api_contracts.failure import Failure
from api_contracts.stt import SttOptions, TroubleKind
from workers.core.stt import acts, link, waiting
from workers.core.stt.connection import Connection
from workers.core.stt.ledger import Ledger
from workers.core.stt.messages import SaidSegment, error_in, is_update, lists_segments, segments_in
from workers.core.stt.query import query_of
from workers.core.text import storable

MOST_ERRORS: Final = 5
"""Errors of a connection in a row that end the session instead of letting it go silent (STT-16). One that ends with
its error counts as lost."""

_CLEAN_CLOSE: Final = (1000, 1005)
_TRACE, _CLEARED = "stt.output.trace", "stt.state.cleared"

WireFact = acts.Said | acts.Garbled | acts.Connected | acts.Disconnected


@dataclass(frozen=True, slots=True)
class Over:
    """There is nothing more to come: by a failure, or because the transcript is at its end.

    `heard_all` says that the provider has confirmed the end.
    """

    failure: Failure | None = None
    heard_all: bool = False


class Wire:
    """One connection after another. `options` and `options_entry` are those of the next one."""

    def __init__(self, run_id: str, credential: str | None, options: SttOptions, ledger: Ledger) -> None:
        self.options = options
        self.options_entry = "0"
        self.conn: Connection | None = None
        self._run_id = run_id
        self._credential = credential
        self._ledger = ledger
        self._tries = 0
        self._frontier = 0
        self._retry_at: float | None = None
        self._ending = False

    @property
    def is_asked(self) -> bool:
        """Whether audio was sent of which there may be more to hear."""
        return (conn := self._open_conn()) is not None and conn.sent > 0

    # -- what the session wants ------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Connect, as the journal says."""
        state = self._ledger.state
        self._tries, self.options_entry = state.conn, state.options_entry
        self.options, self._frontier = state.options or self.options, state.final_upto
        self._connect(now)

    def feed(self, start: int, pcm: bytes, now: float) -> bool:
        """Send audio of the timeline; return False when there is no connection to send it to."""
        if (conn := self._open_conn()) is None:
            return False
        self._ledger.act(*conn.feed(start, pcm, now))
        return True

    def flush(self, now: float) -> None:
        """Send what is held for a frame, and ask how far the provider is."""
        if (conn := self._open_conn()) is not None:
            self._ledger.act(*conn.flush(now), *conn.probe(now))

    def clear(self, entry: str, now: float) -> None:
        """Let the provider forget what was said; a connection that was sent nothing knows nothing.

        It may forget what it has heard and not told (WIRE 2.5), so all that is not final is sent again, as to a new
        connection. Only where no times tell words apart, what was told when it has forgotten must do.
        """
        if (conn := self._open_conn()) is None or conn.sent == conn.cleared:
            return
        self._ledger.act(*conn.clear(entry, now))
        if self._ledger.state.estimated:
            conn.awaits_cleared = True
        else:
            conn.forgot()
            self._listen(conn, now)
            self._send_again(conn, now)
        conn.cleared = conn.sent

    def change_options(self, options: SttOptions, entry: str, now: float) -> None:
        """Connect again if the options differ; what is not final is sent again."""
        changed = options != self.options
        self.options, self.options_entry = options, entry
        if changed and self.conn is not None:
            number = self.conn.number
            again = stt.SttReconnecting(conn=number, failures=0, wait_s=0, reason="the options were changed")
            self._ledger.emit(again, now)
            self._ledger.act(acts.Disconnect(number))
            self._drop(self.conn)
            self._connect(now)

    def hang_up(self, now: float) -> None:
        """Ask for the rest of the transcript, now or as soon as there is a connection."""
        self._ending = True
        if (conn := self._open_conn()) is not None:
            self._ledger.act(*conn.close(now))

    def stood_still(self, now: float) -> None:
        """Wait anew for the end: while the process stood still it sent nothing, and what was said is not read yet."""
        if (conn := self._open_conn()) is not None and conn.closing_at is not None:
            conn.closing_at = now

    # -- what happens ----------------------------------------------------------------------------------------------

    def take(self, fact: WireFact, now: float) -> Over | None:
        """Take a fact; those of a connection that is gone change nothing."""
        conn = self.conn
        if conn is None or conn.number != fact.conn:
            return None
        match fact:
            case acts.Connected() if not conn.is_open:
                self._opened(conn, now)
            case acts.Said(_, message) if conn.is_open:
                return self._said(conn, message, now)
            case acts.Garbled(_, why) if conn.is_open:
                return self._error(conn, "garbled", storable(why)[:200], now)
            case acts.Disconnected():
                return self._disconnected(conn, fact, now)
            case _:
                pass
        return None

    def tend(self, now: float) -> Over | None:
        """Do what time has made due; each step takes its own deadline away."""
        conn = self.conn
        if conn is None:
            if self._retry_at is not None and now >= self._retry_at:
                self._connect(now)
            return None
        if conn.is_open:
            return self._tend_open(conn, now)
        if now < conn.since + link.CONNECT_WITHIN_S:
            return None
        self._ledger.act(acts.Disconnect(conn.number))
        jitter = link.chance(self._run_id, conn.number)
        return self._disconnected(conn, acts.Disconnected(conn.number, None, link.TOO_SLOW, True, jitter), now)

    def deadlines(self) -> list[float | None]:
        """Return when `tend` is due."""
        conn, hearing = self.conn, self._ledger.hearing
        if conn is None:
            return [self._retry_at]
        if not conn.is_open:
            return [conn.since + link.CONNECT_WITHIN_S]
        return [hearing.ripe_at, self._silent_at(conn), waiting.give_up_at(conn, hearing)]

    def _tend_open(self, conn: Connection, now: float) -> Over | None:
        hearing = self._ledger.hearing
        if (at := hearing.ripe_at) is not None and now >= at:
            self._listen(conn, now)
        if (at := self._silent_at(conn)) is not None and now >= at:
            self._ledger.end_of_speech(now)
        if (at := waiting.give_up_at(conn, hearing)) is not None and now >= at:
            return Over(heard_all=waiting.is_quiet_after_final(conn, hearing))
        return None

    def _silent_at(self, conn: Connection) -> float | None:
        return waiting.silent_at(conn, self._ledger.state, self._ledger.hearing, self.options.text_timeout_s)

    # -- open and lose ---------------------------------------------------------------------------------------------

    def _open_conn(self) -> Connection | None:
        return self.conn if self.conn is not None and self.conn.is_open else None

    def _connect(self, now: float) -> None:
        self._retry_at = None
        self._tries += 1
        self.conn = Connection(self._tries, now)
        self._ledger.act(acts.Connect(self._tries, query_of(self.options), self._credential))

    def _drop(self, conn: Connection) -> None:
        self._ledger.count_out(conn)
        self.conn = None

    def _opened(self, conn: Connection, now: float) -> None:
        start = self._ledger.state.replay_from
        conn.opened(now, start)
        changed = self.options_entry != "0"
        connected = stt.SttConnected(
            conn=conn.number,
            start_at=start,
            options=self.options.model_dump(mode="json", exclude_none=True) if changed else None,
            options_entry=self.options_entry if changed else None,
            source=self._ledger.source,
        )
        self._ledger.emit(connected, now)
        self._send_again(conn, now)
        if self._ending:
            self._ledger.act(*conn.close(now))

    def _send_again(self, conn: Connection, now: float) -> None:
        self._ledger.repeat(conn, now)
        for at, pcm in self._ledger.timeline.since(self._ledger.state.replay_from):
            self._ledger.act(*conn.feed(at, pcm, now))
        conn.caught_up_at = conn.busy_until

    def _disconnected(self, conn: Connection, lost: acts.Disconnected, now: float) -> Over | None:
        if conn.closing_at is not None and lost.code in _CLEAN_CLOSE:
            return Over(heard_all=True)  # it closed instead of an echo (WIRE 2.8)
        reason = storable(lost.reason)[:200]
        if conn.is_open:
            self._ledger.emit(stt.SttLost(conn=conn.number, code=lost.code, reason=reason), now)
        lasted = not self._ending and conn.is_healthy(now, link.HEALTHY_AFTER_S, link.HEALTHY_FOR_S)
        failures = 1 if lasted or conn.is_further else self._ledger.state.failures + 1
        self._drop(conn)
        if (pause := link.pause_s(lost, failures)) is None:
            return Over(link.given_up(lost, was_connected=self._ledger.state.connections > 0))
        again = stt.SttReconnecting(
            conn=conn.number, failures=failures, wait_s=pause, code=lost.code, reason=reason
        )  # fmt: skip
        self._ledger.emit(again, now)
        self._retry_at = now + pause
        return None

    # -- listen ----------------------------------------------------------------------------------------------------

    def _said(self, conn: Connection, message: Mapping[str, Any], now: float) -> Over | None:
        segments, checkpoint, about = self._segments(conn, message), message.get("checkpoint_id"), message.get("object")
        if (error := error_in(message)) is not None:
            if segments:
                self._update(conn, segments, now)
            return self._error(conn, "error", error, now)
        if segments is None and checkpoint is None and about not in (_TRACE, _CLEARED):
            if not conn.told_unknown:
                conn.told_unknown = True
                self._trouble(conn, "unknown", "a message of no known kind: it is passed over", now)
            return None
        conn.errors, conn.said_at = 0, now
        if segments is not None:
            self._update(conn, segments, now)
        if about == _TRACE:
            if (sent_at := conn.echoed(message.get("trace_id"))) is not None:
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

    def _update(self, conn: Connection, segments: list[SaidSegment], now: float) -> None:
        if not conn.segments.apply(segments, now, conn.sent_upto()):
            return
        conn.changed_at = now
        ends = [word.end for each in segments for word in each.words if word.end is not None]
        conn.prove_s(max(ends, default=0.0))
        self._listen(conn, now)

    def _listen(self, conn: Connection, now: float) -> None:
        if self._ledger.listen(conn, now, self.options.text_timeout_s) and conn.closing_at is not None:
            conn.final_since_closing = True
        if (heard := self._ledger.heard_upto) > self._frontier:
            self._frontier, conn.is_further = heard, True

    def _error(self, conn: Connection, kind: TroubleKind, message: str, now: float) -> Over | None:
        conn.errors += 1
        self._trouble(conn, kind, message, now)
        return Over(link.TOO_MANY_ERRORS) if conn.errors >= MOST_ERRORS else None

    def _trouble(self, conn: Connection, kind: TroubleKind, message: str, now: float) -> None:
        self._ledger.emit(stt.SttTrouble(kind=kind, message=message, conn=conn.number), now)
