"""The books of a session: what was decided, what is settled, what may be trimmed, how it all adds up at the end.

It owns state, timeline, meters and what is told of words; `session` owns connections and time.
"""

from collections.abc import Iterable
from typing import Final

from api_contracts import stt
from api_contracts.audio import SttSource
from api_contracts.failure import Failure
from api_contracts.runs import EventData, Status
from api_contracts.stt import SAMPLE_RATE, EndReason, GapCause, RepeatCause, SttRequest
from workers.core.runs.frame import Action, Effect, Emit, Finish
from workers.core.stt import acts
from workers.core.stt.connection import Connection
from workers.core.stt.hearing import Hearing
from workers.core.stt.latency import Latency
from workers.core.stt.meters import Meters
from workers.core.stt.result import coverage_of, result_of, uncovered
from workers.core.stt.state import SttState, samples
from workers.core.stt.timeline import Anchor, Hole, Timeline

_STATUS: dict[EndReason, Status] = {
    "end": "completed", "idle": "completed", "max_duration": "completed", "cancelled": "cancelled", "failed": "failed",
}  # fmt: skip
_SETTLE_S: Final = 10.0
"""Silence is silence when nothing was said of it for so long. Generous: it only makes what is sent again longer."""

_TRIM_EVERY: Final = 5 * SAMPLE_RATE
"""Samples that are of no more use before they are trimmed: words come final one by one, and each trim is a command."""


class Ledger:
    """`open` comes after the fold and before all else; again, it does nothing."""

    def __init__(self, run_id: str, request: SttRequest, queued_at: float) -> None:
        self.state = SttState(queued_at)
        self.timeline = _timeline(self.state.anchor, [], request.source)
        self.hearing = Hearing()
        self.latency = Latency()
        self._meters = Meters(self.state.meters)
        self.source = None if request.source.is_wire else request.source
        """What the audio is converted from, if it is."""
        self._run_id = run_id
        self._request = request
        self._acts: list[Action] = []
        self._is_open = False
        self._trimmed_at = 0
        self._sent_upto = 0
        self._settled_before = 0
        self._again: RepeatCause = "resumed"

    def open(self) -> None:
        """Go on from where the journal ends."""
        if self._is_open:
            return
        self._is_open, self._trimmed_at = True, self.state.anchor.at
        holes = [Hole(gap.start, gap.end, gap.after) for gap in self.state.gaps if gap.after is not None]
        self.timeline = _timeline(self.state.anchor, holes, self._request.source)
        self._meters = Meters(self.state.meters)
        self._sent_upto = max(self.state.sent_upto, self.state.final_upto)
        self._settled_before = self.state.settled

    def emit(self, event: EventData, now: float) -> None:
        """Tell, and know."""
        self.state.fold(event, now)
        if isinstance(event, stt.SttReconnecting):
            self._again = "lost" if event.failures else "planned"
        self._acts.append(Emit(event))

    def act(self, *effects: Effect | Action) -> None:
        """Do, after what was told before."""
        self._acts += effects

    def take(self) -> list[Action]:
        """Return what was decided since the last time."""
        taken, self._acts = self._acts, []
        return taken

    @property
    def heard_upto(self) -> int:
        """The end of the last word that the present connection has told."""
        rest = self.hearing.rest
        return max(self.state.final_upto, rest[-1].end) if rest else self.state.final_upto

    # -- words and silence -----------------------------------------------------------------------------------------

    def listen(self, conn: Connection, now: float, text_timeout_s: float, limit: int | None = None) -> bool:
        """Tell what a connection said, or what time made final; return whether there is a final. See `Hearing`."""
        told = self.hearing.listen(conn, self.state, self.timeline, now, text_timeout_s, limit)
        return self._tell(told, conn, now)

    def last_words(self, conn: Connection | None, now: float) -> None:
        """Make final what was heard: by this connection, or without one, by the last that said anything."""
        self._tell(self.hearing.last_words(conn, self.state, self.timeline), conn, now)

    def end_of_speech(self, now: float) -> None:
        """Tell that nobody speaks."""
        if (start := self.state.speech_start) is not None:
            self.emit(stt.SttEndOfSpeech(end=max(start, self.state.final_upto / SAMPLE_RATE)), now)

    def usage(self, conn: Connection | None, now: float, text_timeout_s: float) -> None:
        """Read the meters, count silence; tell if anything changed."""
        settled = self.state.settled
        if conn is not None:
            silent = conn.silent_upto(now, max(_SETTLE_S, text_timeout_s + 3.0))
            if rest := self.hearing.rest:
                silent = min(silent, rest[0].start)
            settled = max(settled, silent)
        self._tell_usage(conn, self.state.through_gaps(settled), now)

    def missing(self, samples: int, now: float) -> None:
        """Leave out audio that is gone. What the journal knows, as a gap or as settled, is not lost."""
        if samples > 0 and (hole := self.timeline.miss(samples)) is not None:
            start = max(hole.start, self.state.settled)
            if hole.end > start:
                self._tell_gap(start, hole.end, "lost", now, hole.after)

    def weigh(self, bound_s: float, now: float) -> bool:
        """Hold the producer while too much waits; return whether it is twice that. What is final is the journal's."""
        behind, bound = self.state.open_upto(self.timeline.end), bound_s * SAMPLE_RATE
        full = behind > bound
        if self.state.lagging:  # a life that has settled nothing has not read all that waits
            full = behind > bound / 2 or self.state.settled == self._settled_before
        if full is not self.state.lagging:
            self.emit(stt.SttLag(behind_s=behind / SAMPLE_RATE, full=full), now)
            self.act(acts.HoldAudio(full))
        return behind > 2 * bound

    def count_out(self, conn: Connection) -> None:
        """Take a connection that is over into the meters; what it said and is not final will be said again."""
        self._meters.close(conn)
        self._sent_upto = self._sent_by(conn)
        self.hearing.void()

    def repeat(self, conn: Connection, now: float) -> None:
        """Tell which part of what is about to be sent was sent before, and why again."""
        self._sent_upto = self._sent_by(conn)
        start, end = self.state.replay_from, min(self._sent_upto, self.timeline.end)
        if end > start:
            again = stt.SttRepeat(
                conn=conn.number,
                start=start / SAMPLE_RATE,
                end=end / SAMPLE_RATE,
                start_at=start,
                end_at=end,
                cause="cleared" if conn.sent else self._again,
            )
            self.emit(again, now)

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(
        self,
        conn: Connection | None,
        ended_by: EndReason,
        now: float,
        *,
        cause: GapCause | None = None,
        failure: Failure | None = None,
    ) -> None:
        """Make the last words final, account for all audio, and finish. Without a `cause` all of it was heard."""
        self.last_words(None if cause else conn, now)
        self.end_of_speech(now)
        self.timeline.drain()  # nobody sends it any more, but it was taken
        received = max(self.timeline.end, self.state.settled, *(gap.end for gap in self.state.gaps))
        if cause is not None:
            for start, end in uncovered(self.state, received):
                self._tell_gap(start, end, cause, now)
        elif conn is not None:
            conn.prove_all()
        self._tell_usage(conn, max(self.state.settled, received), now)
        closed = stt.SttClosed(
            ended_by=ended_by, audio=self.state.meters, coverage=coverage_of(self.state, received), failure=failure
        )
        self.emit(closed, now)
        if conn is not None:
            self.act(acts.Disconnect(conn.number))
        self.conclude(closed, now)

    def conclude(self, closed: stt.SttClosed, now: float) -> None:
        """Finish a session that is closed, in this life or one before."""
        status, failure = _STATUS[closed.ended_by], closed.failure
        result = result_of(self._run_id, self._request, self.state, status, closed.ended_by, failure, now)
        self.act(Finish(status, result, failure, self.state.cancelling or ""))

    def _tell(self, events: list[EventData], conn: Connection | None, now: float) -> bool:
        for event in events:
            if isinstance(event, stt.SttFinal):
                after_s = self.latency.final(self.timeline.entry_of(samples(event.end)), now)
                event = event.model_copy(update={"after_s": after_s})
            self.emit(event, now)
        self._trim(conn)
        return any(isinstance(event, stt.SttFinal) for event in events)

    def _sent_by(self, conn: Connection | None) -> int:
        """Return the sample up to which any connection was sent audio."""
        return max(self._sent_upto, conn.sent_upto() if conn is not None else 0)

    def _tell_gap(self, start: int, end: int, cause: GapCause, now: float, after: str | None = None) -> None:
        gap = stt.SttGap(
            start=start / SAMPLE_RATE, end=end / SAMPLE_RATE, start_at=start, end_at=end, cause=cause, after_entry=after
        )
        self.emit(gap, now)

    def _tell_usage(self, conn: Connection | None, settled: int, now: float) -> None:
        audio, anchor = self._meters.read(conn, self.state, settled), self.state.anchor_for(settled, self.timeline)
        if (audio, settled, anchor) == (self.state.meters, self.state.settled, self.state.anchor):
            return
        usage = stt.SttUsage(
            audio=audio,
            settled_at=settled,
            **anchor.told(),
            latency=self.latency.take(),
            sent_at=self._sent_by(conn),
            **self._request.account(),
        )
        self.emit(usage, now)
        self._trim(conn)

    def _trim(self, conn: Connection | None) -> None:
        """Let go of what the last event told to be settled. The effect comes after the event's commit."""
        anchor = self.state.anchor
        if anchor != self.timeline.anchor:
            self.timeline.forget(anchor)
            if conn is not None:
                conn.forget(anchor.at)
        if anchor.at >= self._trimmed_at + _TRIM_EVERY:
            self._trimmed_at = anchor.at
            self.act(acts.TrimAudio(anchor.entry))


def _timeline(anchor: Anchor, holes: Iterable[Hole], source: SttSource) -> Timeline:
    if source.is_wire:
        return Timeline(anchor, holes)
    from workers.core.stt.converted import ConvertedTimeline  # 20 MB of numpy, for those who need it

    return ConvertedTimeline(anchor, holes, source)
