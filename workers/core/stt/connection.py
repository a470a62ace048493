"""One connection, as far as the core knows it: what it was sent, what it has proven to have heard. Pure.

Its clock begins at 0 with its first sample (WIRE 2.7). Where that lies on the session's timeline is noted here, and
every later jump: over a gap, over silence that filled a frame.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from api_contracts.stt import SAMPLE_RATE
from workers.core.runs.frame import Effect
from workers.core.stt.acts import SendAudio, SendText
from workers.core.stt.course import Course
from workers.core.stt.frames import FRAME_BYTES, SAMPLE_BYTES, Framer
from workers.core.stt.segments import SegmentMap

TRACE_EVERY: Final = 5 * SAMPLE_RATE * SAMPLE_BYTES
"""A trace follows every 5 s of audio (FEAT D3), in bytes."""

_MOST_MARKS: Final = 64
"""Traces that wait for their echo: a provider need not echo any."""

_BYTES_A_SECOND: Final = SAMPLE_RATE * SAMPLE_BYTES


@dataclass(frozen=True, slots=True)
class _Mark:
    """A trace: where it stands in what was sent (`server`) and on the timeline (`at`); `done_by` says how late a
    provider that hears as fast as one speaks has heard what is before it."""

    id: str
    server: int
    at: int
    done_by: float
    sent_at: float
    is_sign: bool = False
    """Whether it was only sent to show that somebody is there."""


class Connection:
    """The pure half of a websocket. `number` names it in facts and effects."""

    def __init__(self, number: int, since: float) -> None:
        self.number = number
        self.since = since
        """When it was tried; from `opened` on, when it opened."""
        self.is_open = False
        self.sent = 0
        """Bytes, silence that filled frames included."""
        self.heard = 0
        """Samples of its own clock that it has provably heard."""
        self.busy_until = since
        """When a provider that hears as fast as one speaks is through with what was sent."""
        self.caught_up_at = since
        """The same for what was sent when it opened."""
        self.is_fed = False
        """Whether it was given any audio of the timeline."""
        self.sent_at = since
        """When it was last sent audio, or asked whether it is there."""
        self.said_at: float | None = None
        """When it last said anything that makes sense."""
        self.patient_from = since
        """From when on its silence counts: while this side stood still, nobody listened."""
        self.changed_at: float | None = None
        """When it last changed a word."""
        self.closing_at: float | None = None
        """When it was asked for the end of the transcript."""
        self.final_since_closing = False
        self.errors = 0
        """In a row."""
        self.is_further = False
        """Whether it heard a word further on than any connection before it."""
        self.told_unknown = False
        self.lists_segments = False
        """Whether it ever said which segments it tells."""
        self.cleared = 0
        """Bytes sent when it was last asked to forget: until more is, there is nothing to forget."""
        self.awaits_cleared = False
        """Whether it was asked to forget, and what it says until it has is of before."""
        self._begin_books()

    def _begin_books(self) -> None:
        self.course = Course()
        self.segments = SegmentMap(self.course.place_s)
        self._framer = Framer()
        self._from = 0
        self._next: int | None = None
        self._marks: deque[_Mark] = deque(maxlen=_MOST_MARKS)
        self._echoed: deque[_Mark] = deque()
        self._marked = self._asked = 0
        self._silent = 0

    def opened(self, now: float, start: int) -> None:
        """Count from now. It is sent nothing before sample `start`."""
        self.is_open, self.since, self.busy_until, self._from = True, now, now, start * SAMPLE_BYTES
        self.sent_at = self.patient_from = now

    def is_healthy(self, now: float, said_after_s: float, open_for_s: float) -> bool:
        """Return whether it said anything so long after it opened, or was open for so long."""
        if not self.is_open:
            return False
        return now >= self.since + open_for_s or (self.said_at or 0.0) >= self.since + said_after_s

    # -- out -------------------------------------------------------------------------------------------------------

    def feed(self, start: int, pcm: bytes, now: float) -> list[Effect]:
        """Take audio of the timeline, its first byte at `start`; return what is to be sent."""
        if start < self._from:
            start, pcm = self._from, pcm[self._from - start :]
            if not pcm:
                return []
        if start != self._next:
            self._jump(start)
        self._next, self.is_fed = start + len(pcm), self.is_fed or bool(pcm)
        effects: list[Effect] = []
        for frame in self._framer.feed(pcm):
            effects += self._send(frame, now)
        return effects

    def flush(self, now: float) -> list[Effect]:
        """Send what is held for a frame."""
        frame, padding = self._framer.flush()
        if not frame:
            return []
        effects = self._send(frame, now)
        if padding and self._next is not None:
            self.course.stay(self._next // SAMPLE_BYTES)
        return effects

    def probe(self, now: float) -> list[Effect]:
        """Ask how far it has come (`stt.input.trace`, WIRE 2.5)."""
        return [] if self.sent == self._marked else self._ask(f"{self.number}-{self.sent // SAMPLE_BYTES}", now)

    def keep_alive(self, now: float, *, by_silence: bool) -> list[Effect]:
        """Show that somebody is there, and ask whether it is: by a frame of silence and a trace, or a trace alone.

        What is held for a frame goes out before it. Silence takes no place on the timeline.
        """
        effects, self.sent_at = self.flush(now), now
        if by_silence:
            effects += self._send(bytes(FRAME_BYTES), now)
            if self._next is not None:
                self.course.stay(self._next // SAMPLE_BYTES)
        self._asked += 1
        return effects + self._ask(f"{self.number}-{self.sent // SAMPLE_BYTES}-{self._asked}", now, is_sign=True)

    def _ask(self, name: str, now: float, *, is_sign: bool = False) -> list[Effect]:
        self._marked = self.sent
        mark = _Mark(name, self.sent // SAMPLE_BYTES, self.sent_upto(), self.busy_until, now, is_sign)
        self._marks.append(mark)
        message = {"event_id": f"trace-{mark.id}", "object": "stt.input.trace", "trace_id": mark.id}
        return [SendText(self.number, message)]

    def clear(self, entry: str, now: float) -> list[Effect]:
        """Ask it to forget what was said (WIRE 2.5)."""
        message = {"event_id": f"clear-{entry}", "object": "stt.state.clear", "reset_id": entry}
        return [*self.flush(now), SendText(self.number, message)]

    def close(self, now: float) -> list[Effect]:
        """Ask for the end of the transcript: flush, then the final checkpoint."""
        self.closing_at = now
        return [*self.flush(now), SendText(self.number, {"checkpoint_id": "final"})]

    def forgot(self) -> None:
        """It forgets what was said up to here: its ids may begin anew (WIRE 2.7)."""
        self.segments = SegmentMap(self.course.place_s, self.sent / _BYTES_A_SECOND)

    # -- in --------------------------------------------------------------------------------------------------------

    def echoed(self, trace_id: object) -> float | None:
        """Take the echo of a trace: everything before it has arrived there. Return when it was asked for, if it was."""
        known = str(trace_id)
        asked = next((mark for mark in self._marks if mark.id == known), None)
        if asked is None:
            return None
        while self._marks:
            mark = self._marks.popleft()
            self._echoed.append(mark)
            if mark.id == known:
                break
        self.prove(asked.server)
        return asked.sent_at

    def prove(self, server: int) -> None:
        """Take note that the provider has heard so many samples of this connection."""
        self.heard = max(self.heard, min(server, self.sent // SAMPLE_BYTES))

    def prove_s(self, seconds: float) -> None:
        """Take note that it knows of a word that ends there."""
        self.prove(round(seconds * SAMPLE_RATE))

    def prove_all(self) -> None:
        """Take the echo of the final checkpoint."""
        self.prove(self.sent // SAMPLE_BYTES)

    def silent_upto(self, now: float, settle_s: float) -> int:
        """Return the sample of the timeline up to which nothing more will be heard than is known.

        An echo alone only proves arrival (WIRE 7.23). What is before it counts as heard when a provider at the speed
        of speech would have been through for `settle_s`, and none of its messages has changed a word for as long:
        one that is behind with its work goes on saying things.
        """
        quiet_since = self.since if self.changed_at is None else self.changed_at
        if now >= quiet_since + settle_s:
            while self._echoed and now >= self._echoed[0].done_by + settle_s:
                self._silent = self._echoed.popleft().at
        return self._silent

    def unanswered_since(self, *, signs: bool) -> float | None:
        """Return when a provider at the speed of speech would have echoed the oldest trace that it has not; None for
        none. `signs`: those of `keep_alive` count as well."""
        return next((mark.done_by for mark in self._marks if signs or not mark.is_sign), None)

    @property
    def awaits_silence(self) -> bool:
        """Whether an echo waits to be counted by `silent_upto`."""
        return bool(self._echoed)

    # -- its clock -------------------------------------------------------------------------------------------------

    def sent_upto(self) -> int:
        """Return the sample of the timeline up to which audio was sent."""
        return self.course.place(self.course.sent)

    def forget(self, sample: int) -> None:
        """Let go of what is only needed for times before this sample."""
        self.course.forget(sample)
        while self._echoed and self._echoed[0].at <= sample:
            self._echoed.popleft()

    def _jump(self, start: int) -> None:
        self._framer.drop_half()
        until = None if self._next is None else self._next // SAMPLE_BYTES
        self.course.jump((self.sent + self._framer.held) // SAMPLE_BYTES, -(-start // SAMPLE_BYTES), until)

    def _send(self, frame: bytes, now: float) -> list[Effect]:
        self.sent, self.sent_at = self.sent + len(frame), now
        self.course.sent = self.sent // SAMPLE_BYTES
        self.busy_until = max(self.busy_until, now) + len(frame) / _BYTES_A_SECOND
        effects: list[Effect] = [SendAudio(self.number, frame)]
        return effects + self.probe(now) if self.sent - self._marked >= TRACE_EVERY else effects
