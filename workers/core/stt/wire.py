"""The way of a session's connections: open, feed, listen, lose, open again, ask for the end. Pure.

It owns the present connection and its times, and the one that is to take over from it (`takeover`). Whether the
session goes on is decided here only as far as the wire decides it (`Over`); what becomes of it then, `session` knows.
"""

from typing import Final

from api_contracts import stt
from api_contracts.stt import SttOptions, SttRequest
from workers.core.runs.frame import later_id
from workers.core.stt import acts, link, waiting
from workers.core.stt.connection import Connection
from workers.core.stt.controls import given_in
from workers.core.stt.ears import Ears, Manner, Over
from workers.core.stt.ledger import Ledger
from workers.core.stt.query import query_of
from workers.core.stt.takeover import CHANGED, ROLLED, Takeover
from workers.core.text import storable

_CLEAN_CLOSE: Final = (1000, 1005)

WireFact = acts.Said | acts.Garbled | acts.Connected | acts.Disconnected


class Wire:
    """One connection after another. `options` and `options_entry` are those of the next one."""

    def __init__(self, run_id: str, request: SttRequest, options: SttOptions, ledger: Ledger) -> None:
        self.options = options
        self.options_entry = "0"
        self.conn: Connection | None = None
        self._in_force = options
        """The options that the provider has taken, or that the session began with."""
        self._takeover: Takeover | None = None
        self._run_id = run_id
        self._request = request
        self._ledger = ledger
        self._ears = Ears(ledger)
        self._in_vain = 0
        self._tries = 0
        self._retry_at: float | None = None
        self._ending = False

    @property
    def is_asked(self) -> bool:
        """Whether audio was sent of which there may be more to hear."""
        return (conn := self._open_conn()) is not None and conn.is_fed

    # -- what the session wants ------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Connect, as the journal says."""
        state = self._ledger.state
        self._tries, self.options_entry = state.conn, state.options_entry
        self._ears.begin()
        self._in_force = state.options or self._in_force
        self.options = self._in_force.model_copy(update=given_in(SttOptions.model_validate(state.changed)))
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
            self._ears.listen(conn, now, self._manner)
            self._send_again(conn, now)
        conn.cleared = conn.sent

    def change_options(self, options: SttOptions, now: float, entry: str | None = None) -> None:
        """Have another connection take over if the options differ; what is not final then is sent again to it.

        `entry` of the audio stream asked for it. Where no connection stands, none is kept: the next takes them.
        """
        changed, self.options, self.options_entry = options != self.options, options, entry or self.options_entry
        if not changed or (conn := self.conn) is None:
            return
        if not conn.is_open:
            again = stt.SttReconnecting(conn=conn.number, failures=0, wait_s=0, reason=CHANGED)
            self._ledger.emit(again, now)
            self._ledger.act(acts.Disconnect(conn.number))
            self._drop(conn)
            self._connect(now)
            return
        before = self._takeover
        self.call_off()
        if options == self._in_force:
            self._ears.listen(conn, now, self._manner)
            return
        limit = before.limit if before is not None else None
        self._take_over(Takeover(CHANGED, self._ledger.timeline.end if limit is None else limit), now)

    def call_off(self) -> None:
        """Nothing takes over from the present connection."""
        if self._takeover is not None and self._takeover.conn is not None:
            self._ledger.act(acts.Disconnect(self._takeover.conn.number))
        self._takeover = None

    def hang_up(self, now: float) -> None:
        """Ask for the rest of the transcript, now or as soon as there is a connection.

        Other options that were asked for hold for the rest, so one try at a connection with them is waited for.
        """
        self._ending = True
        if self._takeover is not None and self._takeover.limit is not None:
            return
        self.call_off()
        if (conn := self._open_conn()) is not None:
            self._ledger.act(*conn.close(now))

    def stood_still(self, now: float) -> None:
        """Wait anew: while the process stood still it sent nothing, and what was said is not read yet."""
        if (conn := self._open_conn()) is not None:
            conn.patient_from = now
            if conn.closing_at is not None:
                conn.closing_at = now

    # -- what happens ----------------------------------------------------------------------------------------------

    def take(self, fact: WireFact, now: float) -> Over | None:
        """Take a fact; those of a connection that is gone change nothing."""
        conn = self.conn
        if (opening := self._opening) is not None and opening.number == fact.conn:
            self._hear_of_takeover(fact, now)
            return None
        if conn is None or conn.number != fact.conn:
            return None
        match fact:
            case acts.Connected() if not conn.is_open:
                self._opened(conn, now)
            case acts.Said(_, message) if conn.is_open:
                return self._ears.said(conn, message, now, self._manner)
            case acts.Garbled(_, why) if conn.is_open:
                return self._ears.error(conn, "garbled", storable(why)[:200], now)
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
        return self._disconnected(conn, self._given_up(conn, link.TOO_SLOW), now)

    def _given_up(self, conn: Connection, why: str) -> acts.Disconnected:
        """End a connection from this side; return that as what the provider might have done."""
        self._ledger.act(acts.Disconnect(conn.number))
        jitter = link.chance(self._run_id, conn.number)
        return acts.Disconnected(conn.number, None, why, True, jitter)

    def deadlines(self) -> list[float | None]:
        """Return when `tend` is due."""
        conn, hearing = self.conn, self._ledger.hearing
        if conn is None:
            return [self._retry_at]
        if not conn.is_open:
            return [conn.since + link.CONNECT_WITHIN_S]
        times = [hearing.ripe_at, self._silent_at(conn), waiting.give_up_at(conn, hearing)]
        return [*times, waiting.keep_alive_at(conn, self._request), self._stalled_at(conn), self._takeover_at(conn)]

    def _tend_open(self, conn: Connection, now: float) -> Over | None:
        hearing = self._ledger.hearing
        if (at := hearing.ripe_at) is not None and now >= at:
            self._ears.listen(conn, now, self._manner)
        if (at := self._silent_at(conn)) is not None and now >= at:
            self._ledger.end_of_speech(now)
        if (at := waiting.give_up_at(conn, hearing)) is not None and now >= at:
            return Over(heard_all=waiting.is_quiet_after_final(conn, hearing))
        if (at := waiting.keep_alive_at(conn, self._request)) is not None and now >= at:
            self._ledger.act(*conn.keep_alive(now, by_silence=self._request.keep_alive == "silence"))
        if (at := self._takeover_at(conn)) is not None and now >= at:
            self._tend_takeover(now)
        if (at := self._stalled_at(conn)) is not None and now >= at:
            self._in_vain += not self._ears.echoes
            return self._disconnected(conn, self._given_up(conn, link.STALLED), now)
        return None

    def _stalled_at(self, conn: Connection) -> float | None:
        return waiting.stalled_at(conn, self._request, echoes=self._ears.echoes, in_vain=self._in_vain)

    def _silent_at(self, conn: Connection) -> float | None:
        return waiting.silent_at(conn, self._ledger.state, self._ledger.hearing, self.options.text_timeout_s)

    # -- open and lose ---------------------------------------------------------------------------------------------

    def _open_conn(self) -> Connection | None:
        return self.conn if self.conn is not None and self.conn.is_open else None

    def _connect(self, now: float) -> None:
        self._retry_at = None
        self.conn = self._dial(now)

    def _dial(self, now: float) -> Connection:
        self._tries += 1
        self._ledger.act(acts.Connect(self._tries, query_of(self.options), self._request.credential))
        return Connection(self._tries, now)

    def _drop(self, conn: Connection) -> None:
        self._ledger.count_out(conn)
        self.conn = None

    def _opened(self, conn: Connection, now: float) -> None:
        start = self._ledger.state.replay_from
        conn.opened(now, start)
        state = self._ledger.state
        changed = self.options != self._in_force or self.options_entry != "0" or bool(state.options or state.changed)
        self._in_force = self.options
        connected = stt.SttConnected(
            conn=conn.number,
            start_at=start,
            options=self.options.model_dump(mode="json", exclude_none=True) if changed else None,
            options_entry=self.options_entry if self.options_entry != "0" else None,
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
        pause = link.pause_s(lost, failures)
        following, self._takeover = self._opening, None
        if following is not None and pause is not None:
            pause = 0.0  # it is under way
        elif following is not None:
            self._ledger.act(acts.Disconnect(following.number))
        elif pause is None and self._goes_back(conn, lost, now):
            pause = 0.0
        if pause is None:
            return Over(link.given_up(lost, was_connected=self._ledger.state.connections > 0))
        again = stt.SttReconnecting(
            conn=conn.number, failures=failures, wait_s=pause, code=lost.code, reason=reason
        )  # fmt: skip
        self._ledger.emit(again, now)
        self.conn = following
        self._retry_at = now + pause if following is None else None
        return None

    @property
    def _manner(self) -> Manner:
        return self.options.text_timeout_s, self._takeover.limit if self._takeover is not None else None

    # -- another takes over ----------------------------------------------------------------------------------------

    @property
    def _opening(self) -> Connection | None:
        return self._takeover.conn if self._takeover is not None else None

    def _takeover_at(self, conn: Connection) -> float | None:
        """Return when something is due about the connection that takes over, or the present one is too old."""
        if (takeover := self._takeover) is not None:
            opening = takeover.conn
            return takeover.retry_at if opening is None else opening.since + link.CONNECT_WITHIN_S
        is_silent = self._ledger.state.speech_start is None and not self._ledger.hearing.rest
        return None if self._ending else waiting.rollover_at(conn, self._request, is_silent=is_silent)

    def _tend_takeover(self, now: float) -> None:
        takeover = self._takeover or Takeover(ROLLED)
        if takeover.conn is None:
            self._take_over(takeover, now)
        else:
            self._takeover_failed(takeover, self._given_up(takeover.conn, link.TOO_SLOW), now)

    def _take_over(self, takeover: Takeover, now: float) -> None:
        self._takeover, takeover.conn, takeover.retry_at = takeover, self._dial(now), None

    def _hear_of_takeover(self, fact: WireFact, now: float) -> None:
        takeover = self._takeover
        match fact:
            case acts.Connected() if takeover is not None and takeover.conn is not None and self.conn is not None:
                self._switch(self.conn, takeover.conn, takeover.why, now)
            case acts.Disconnected() if takeover is not None:
                self._takeover_failed(takeover, fact, now)
            case _:
                pass

    def _switch(self, before: Connection, after: Connection, why: str, now: float) -> None:
        """Make before break: the one is open and fed, then the other closes."""
        self._takeover = None
        self._ledger.emit(stt.SttReconnecting(conn=before.number, failures=0, wait_s=0, reason=why), now)
        self._drop(before)
        self.conn = after
        self._opened(after, now)
        self._ledger.act(acts.Disconnect(before.number))

    def _takeover_failed(self, takeover: Takeover, lost: acts.Disconnected, now: float) -> None:
        """The present connection goes on. It is tried again, but for options that the provider does not take."""
        conn = takeover.conn
        takeover.conn, takeover.limit, takeover.failures = None, None, takeover.failures + 1
        if self._ending or (conn is not None and self._goes_back(conn, lost, now)):
            self._takeover = None
        else:
            takeover.retry_at = now + link.pause_beside_s(lost, takeover.failures)
        if self.conn is not None:
            if conn is not None and self._takeover is not None and takeover.failures == 1:
                code = f" ({lost.code})" if lost.code is not None else ""
                message = f"the connection that is to take over does not open{code}: it is tried again"
                self._ears.trouble(conn, "error", message, now)
            self._ears.listen(self.conn, now, self._manner)  # what was held back for it
            if self._ending:
                self._ledger.act(*self.conn.close(now))

    def _goes_back(self, conn: Connection, lost: acts.Disconnected, now: float) -> bool:
        """Return whether the provider refused options that were changed: then those before hold again."""
        if conn.is_open or not link.is_refusal(lost) or self.options == self._in_force:
            return False
        self.options = self._in_force
        entry = self.options_entry if self.options_entry != self._ledger.state.options_entry else None
        if entry is None or later_id(entry, self._ledger.state.control) != self._ledger.state.control:
            code = f" ({lost.code})" if lost.code is not None else ""
            message = f"the provider refused the connection with the changed options{code}: those before hold"
            self._ledger.emit(stt.SttTrouble(kind="control", message=message, conn=conn.number, entry=entry), now)
        return True
