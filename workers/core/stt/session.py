"""A speech session as a machine: audio in, frames out; messages in, finals out; and nothing lost in between.

What is final stands in the journal, and with it the anchor: the last entry of the audio stream that need not be sent
again. Everything after it is still in the stream, so a session survives its connections and its workers in one way:

    connection lost      wait, connect, send again what lies after the anchor (at most 4 s of it already settled)
    worker killed        fold the journal, read the stream after the anchor, connect, send it
    hand-over            let go at once; the next worker does the same

Words heard twice are dropped by their time. Entries are trimmed after the event that settles them is committed. What
becomes of audio is told by three words: `final`, silence (the provider has passed it and said nothing), or a gap.

This file owns the way of a run: its stream, its signals, its limits, its ends. `wire` owns the connections, `ledger`
what is settled and how it adds up.
"""

from collections.abc import Mapping
from typing import Any

from api_contracts import stt
from api_contracts.failure import Failure
from api_contracts.runs import EventData
from api_contracts.stt import EndReason, SttOptions, SttRequest
from workers.core.runs import signals
from workers.core.runs.deadline import DEADLINE_EXCEEDED, deadline_of, soonest
from workers.core.runs.frame import Action, Begin, Draining, Release, SignalArrived, Woke, later_id
from workers.core.stt import acts, waiting
from workers.core.stt.controls import control_in, given_in, options_in
from workers.core.stt.ears import Over
from workers.core.stt.ledger import Ledger
from workers.core.stt.state import SttState
from workers.core.stt.wire import Wire, WireFact

StreamFact = acts.AudioArrived | acts.ControlArrived | acts.AudioMissing


class SttSession:
    """`Machine` of a session."""

    def __init__(self, run_id: str, request: SttRequest, queued_at: float) -> None:
        options = SttOptions(**{name: getattr(request, name) for name in SttOptions.model_fields})
        self._request = request
        self._source = request.source
        self._ledger = Ledger(run_id, request, queued_at)
        self._wire = Wire(run_id, request, options, self._ledger)
        self._late_at = deadline_of(queued_at, request.deadline_s)
        self._usage_at: float | None = None
        self._began_at: float | None = None
        self._audio_at = 0.0
        self._ending: EndReason | None = None
        self._over = False
        self._due: float | None = None
        self._due_stands = False

    @property
    def state(self) -> SttState:
        """What the journal says."""
        return self._ledger.state

    @property
    def cursor(self) -> str:
        """See `Machine`."""
        return self.state.cursor

    @property
    def deadline(self) -> float | None:
        """See `Machine`. After audio alone it may be early by what that put off: it is not reckoned for each chunk."""
        if not self._due_stands:
            self._due, self._due_stands = self._soonest(), True
        return self._due

    def _soonest(self) -> float | None:
        if self._over:
            return None
        return soonest(self._late_at, self._usage_at, *self._wire.deadlines(), *self._limits().values())

    def fold(self, event: EventData, at: float) -> None:
        """See `Machine`."""
        self.state.fold(event, at)

    def receive(self, fact: object, now: float) -> list[Action]:
        """See `Machine`. Facts of a connection that is gone change nothing."""
        if not self._over:
            self._ledger.open()
            self._take(fact, now)
        if not self._over and self._ending is None and self._ledger.weigh(self._request.backlog_s, now):
            self._failed(waiting.AUDIO_BACKLOG, now)
        actions = self._ledger.take()
        if not isinstance(fact, acts.AudioArrived) or any(type(each) is not acts.SendAudio for each in actions):
            self._due_stands = False
        return actions

    def _take(self, fact: object, now: float) -> None:
        match fact:
            case acts.AudioArrived() | acts.ControlArrived() | acts.AudioMissing():
                if self._began_at is not None and self._ending is None:  # what follows the end is not heard
                    self._stream(fact, now)
            case acts.Said() | acts.Garbled() | acts.Connected() | acts.Disconnected():
                self._hear(fact, now)
            case Begin():
                self._begin(fact, now)
            case SignalArrived():
                self._signal(fact, now)
            case Draining():
                self._hand_over(now)
            case Woke():
                self._woke(now)
            case _:
                pass

    # -- the way of a session --------------------------------------------------------------------------------------

    def _begin(self, begin: Begin, now: float) -> None:
        state = self.state
        self._ledger.emit(begin.told(resumed=state.started_at is not None), now)
        self._began_at = self._audio_at = now
        if state.closed is not None:
            self._over = True
            self._ledger.conclude(state.closed, now)
        elif state.cancelling is not None:
            self._cancelled(now)
        elif self._is_late(now):
            self._failed(DEADLINE_EXCEEDED, now)
        else:
            if state.lagging:
                self._ledger.act(acts.HoldAudio(full=True))  # the word of the worker before is void
            self._ledger.act(acts.ReadAudio(state.anchor.entry))
            self._wire.begin(now)

    def _hear(self, fact: WireFact, now: float) -> None:
        over = self._wire.take(fact, now)
        self._expect_usage(now)
        self._end_if(over, now)

    def _woke(self, now: float) -> None:
        """Do whatever time has made due. Each step takes its own deadline away."""
        if self._is_late(now):
            self._failed(DEADLINE_EXCEEDED, now)
            return
        if (due := self.deadline) is not None and now >= due + waiting.STALLED_S:
            self._wire.stood_still(now)
        for why, at in self._limits().items():
            if now >= at and self._ending is None:
                self._hang_up(why, now)
        if not self._over:
            self._end_if(self._wire.tend(now), now)
        if not self._over and self._usage_at is not None and now >= self._usage_at:
            self._report_usage(now)

    def _signal(self, letter: SignalArrived, now: float) -> None:
        if letter.type == "cancel":
            self._ledger.emit(signals.cancelling(letter), now)
            self._cancelled(now)
        elif letter.type == "update_settings":
            self._update_settings(letter, now)
        else:
            self._ledger.emit(signals.passed_over(letter, "stt"), now)

    def _update_settings(self, letter: SignalArrived, now: float) -> None:
        """Change the options. What is heard from now on is heard under them, wherever in the stream that is."""
        given = "the session is at its end" if self._ending else options_in(letter.data.get("settings"))
        if isinstance(given, str):
            self._ledger.emit(signals.ignored(letter, f"the options stay as they are: {given}"), now)
            return
        changed = SttOptions.model_validate(given).model_dump(mode="json", include=set(given))
        told = stt.SttSettingsChanged(changed=changed, inbox=letter.id, by=signals.sender(letter))
        self._ledger.emit(told, now)
        self._wire.change_options(self._wire.options.model_copy(update=given), now)

    # -- the audio stream ------------------------------------------------------------------------------------------

    def _stream(self, fact: StreamFact, now: float) -> None:
        """Take the next of the stream; what comes again is passed over."""
        timeline = self._ledger.timeline
        if isinstance(fact, acts.AudioMissing):
            most = int(self._request.max_duration_s * stt.SAMPLE_RATE)  # ids that are no times make any guess
            gone = fact.samples - self._source.samples_in(fact.followed_by)
            if fact.size is not None:
                gone = self._source.samples_in(fact.size)
            self._ledger.missing(min(max(0, gone), most), now)
        elif timeline.is_new(fact.entry_id):
            self._audio_at = now
            if isinstance(fact, acts.ControlArrived):
                self._control(fact.entry_id, fact.data, now)
            else:
                self._ledger.latency.arrived(fact.entry_id, now)
                self._speak(timeline.take(fact.entry_id, fact.pcm), now)

    def _speak(self, pieces: list[tuple[int, bytes]], now: float) -> None:
        for at, pcm in pieces:
            if self._wire.feed(at, pcm, now):
                self._expect_usage(now)

    def _control(self, entry: str, data: Mapping[str, Any], now: float) -> None:
        control = control_in(data)
        if isinstance(control, str):
            if later_id(entry, self.state.control) != self.state.control:  # else a worker before this one told it
                message = f"a control is passed over: {control}"
                self._ledger.emit(stt.SttTrouble(kind="control", message=message, entry=entry), now)
            return
        match control:
            case stt.End():
                self._hang_up("end", now)
            case stt.Flush():
                self._wire.flush(now)
            case stt.Clear():
                self._wire.clear(entry, now)
            case stt.ChangeOptions():
                self._change_options(entry, control, now)

    def _change_options(self, entry: str, change: stt.ChangeOptions, now: float) -> None:
        """An entry that a worker before this one took is read again when audio before it is: it changes nothing."""
        if later_id(entry, self._wire.options_entry) != self._wire.options_entry:
            self._wire.change_options(self._wire.options.model_copy(update=given_in(change)), now, entry)

    # -- ends ------------------------------------------------------------------------------------------------------

    def _hang_up(self, why: EndReason, now: float) -> None:
        """Ask for the rest of the transcript; when there is nothing to ask for, be done."""
        self._ending = why
        self._speak(self._ledger.timeline.drain(), now)
        if self._ledger.timeline.end <= self.state.settled and not self._wire.is_asked:
            self._end_if(Over(heard_all=True), now)
        else:
            self._wire.hang_up(now)

    def _end_if(self, over: Over | None, now: float) -> None:
        if over is None:
            return
        if over.failure is not None:
            self._failed(over.failure, now)
            return
        self._be_over()
        cause: stt.GapCause | None = None if over.heard_all else "unconfirmed"
        self._ledger.close(self._wire.conn, self._ending or "end", now, cause=cause)

    def _be_over(self) -> None:
        self._over = True
        self._wire.call_off()

    def _cancelled(self, now: float) -> None:
        self._be_over()
        self._ledger.close(self._wire.conn, "cancelled", now, cause="cancelled")

    def _failed(self, failure: Failure, now: float) -> None:
        self._be_over()
        self._ledger.close(self._wire.conn, "failed", now, cause="failed", failure=failure)

    def _hand_over(self, now: float) -> None:
        """Let go at once: whatever is not final, the next worker hears again."""
        self._be_over()
        if self._began_at is not None:
            self._report_usage(now)
        if self._wire.conn is not None:
            self._ledger.act(acts.Disconnect(self._wire.conn.number))
        self._ledger.act(Release())

    # -- time ------------------------------------------------------------------------------------------------------

    def _report_usage(self, now: float) -> None:
        conn = self._wire.conn
        self._ledger.usage(conn, now, self._wire.options.text_timeout_s)
        waits = conn is not None and conn.awaits_silence
        self._usage_at = now + waiting.USAGE_EVERY_S if waits else None

    def _expect_usage(self, now: float) -> None:
        if self._usage_at is None:
            self._usage_at, self._due_stands = now + waiting.USAGE_EVERY_S, False

    def _limits(self) -> dict[EndReason, float]:
        if self._ending is not None or self._began_at is None:
            return {}
        return waiting.limits(self._request, self.state, self._began_at, self._audio_at)

    def _is_late(self, now: float) -> bool:
        return self._late_at is not None and now >= self._late_at
