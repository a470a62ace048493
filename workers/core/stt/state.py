"""What a session knows: a fold over its journal, and nothing else.

Whatever a successor must know is here: what is final, what is settled, from where audio must be sent again. What was
heard but is not final is not here; it is heard again. So interims mean nothing: whoever reads a journal for a session
may leave them out.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from api_contracts import runs, stt
from api_contracts.runs import EventData
from api_contracts.stt import SAMPLE_RATE, AudioMeters, GapCause, SttOptions
from workers.core.runs.living import Living
from workers.core.stt.segments import Told
from workers.core.stt.timeline import Anchor, Timeline
from workers.core.stt.transcript import Transcript

OVERLAP: Final = 4 * SAMPLE_RATE
"""Samples before what must be heard that are sent again with it: words at the seam are heard whole, and with what was
said before them. With 2 s (FEAT D3) Whisper misheard clear words behind a seam; more than 4 s gain nothing
(decision 46)."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A stretch of the timeline, in samples."""

    start: int
    end: int
    cause: GapCause
    after: str | None = None


@dataclass(slots=True)
class SttState(Living):
    """See the module. Positions are samples of the timeline, times seconds since 1970."""

    connected_at: float | None = None
    first_text_at: float | None = None
    first_final_at: float | None = None
    cancelling: str | None = None
    conn: int = 0
    connections: int = 0
    failures: int = 0
    options: SttOptions | None = None
    options_entry: str = "0"
    changed: dict[str, Any] = field(default_factory=dict)
    """What signals changed of the options since a connection last had them all."""
    final_upto: int = 0
    told: Told | None = None
    """The last final word; None where its place is an estimate."""
    settled: int = 0
    anchor: Anchor = field(default_factory=Anchor)
    estimated: bool = False
    speech_start: float | None = None
    """Where the present speech began (seconds of the timeline); None in silence."""
    transcript: Transcript = field(default_factory=Transcript)
    word_samples: int = 0
    lagging: bool = False
    """Whether more audio waits than may."""
    gaps: list[Missing] = field(default_factory=list)
    repeated: int = 0
    """Samples that were sent again."""
    sent_upto: int = 0
    """Audio before this was sent, as far as the journal knows."""
    meters: AudioMeters = field(default_factory=AudioMeters)
    control: str = "0"
    """The last control of which trouble was told."""
    closed: stt.SttClosed | None = None

    @property
    def replay_from(self) -> int:
        """Where a new connection begins. Times that are estimates tell no words apart: then nothing overlaps."""
        return max(self.anchor.at, self.settled - (0 if self.estimated else OVERLAP))

    def fold(self, event: EventData, at: float) -> None:
        """Take one event written at `at`; types that mean nothing to a session are passed over."""
        if type(event) is stt.SttInterim:  # most of all events, and it leaves nothing behind
            return
        self.fold_life(event, at)
        match event:
            case stt.SttFinal():
                self._fold_final(event, at)
            case stt.SttUsage():
                self.meters = event.audio
                self.sent_upto = max(self.sent_upto, event.sent_at or 0)
                self._settle(event.settled_at)
                self._anchor(event)
            case stt.SttGap():
                self.gaps.append(Missing(event.start_at, event.end_at, event.cause, event.after_entry))
                self._settle(self.settled)
            case stt.SttLag():
                self.lagging = event.full
            case stt.SttRepeat():
                self.repeated += event.end_at - event.start_at - self._missing(event.start_at, event.end_at)
            case stt.SttStartOfSpeech():
                self.first_text_at = self.first_text_at or at
                self.speech_start = event.start
            case stt.SttEndOfSpeech():
                self.speech_start = None
            case _:
                self._fold_way(event, at)

    def anchor_for(self, upto: int, timeline: Timeline) -> Anchor:
        """Return the anchor once everything before `upto` is settled: as late as the overlap allows."""
        return timeline.anchor_at(self.through_gaps(max(self.settled, upto)) - OVERLAP)

    def through_gaps(self, sample: int) -> int:
        """Return `sample`, or the end of the gap that it stands in."""
        for gap in self.gaps:
            if gap.start <= sample < gap.end:
                sample = gap.end
        return sample

    def open_upto(self, sample: int) -> int:
        """Return how many samples up to this one are neither settled nor gone."""
        return sample - self.settled - (self._missing(self.settled, sample) if self.gaps else 0)

    def _fold_way(self, event: EventData, at: float) -> None:
        match event:
            case runs.RunCancelling():
                self.cancelling = event.reason
            case stt.SttConnected():
                self.conn, self.connections = event.conn, self.connections + 1
                self.connected_at = self.connected_at or at
                if event.options is not None:
                    known = {name: value for name, value in event.options.items() if name in SttOptions.model_fields}
                    self.options = SttOptions.model_validate(known)
                    self.options_entry = event.options_entry or self.options_entry
                    self.changed = {}
            case stt.SttSettingsChanged():
                self.changed = {**self.changed, **event.changed}
            case stt.SttReconnecting():
                self.conn, self.failures = max(self.conn, event.conn), event.failures
            case stt.SttTrouble(entry=str(entry)):
                self.control = entry
            case stt.SttClosed():
                self.closed = event
            case _:
                pass

    def _fold_final(self, event: stt.SttFinal, at: float) -> None:
        self.first_final_at = self.first_final_at or at
        self.transcript.add(event)
        self.estimated = bool(event.estimated)
        for word in event.words:
            start, end = samples(word.start), samples(word.end)
            self.word_samples += end - start - self._missing(start, end)
            self.final_upto = max(self.final_upto, end)
            self.told = None if self.estimated else Told(word.word, start, end)
        self.failures = 0
        self._settle(self.final_upto)
        self._anchor(event)

    def _settle(self, upto: int) -> None:
        self.settled = self.through_gaps(max(self.settled, upto))

    def _anchor(self, event: stt.SttFinal | stt.SttUsage) -> None:
        self.anchor = Anchor(
            event.anchor_entry, event.anchor_at, event.anchor_half, event.anchor_rest, event.anchor_phase
        )

    def _missing(self, start: int, end: int) -> int:
        return sum(max(0, min(end, gap.end) - max(start, gap.start)) for gap in self.gaps)


def samples(seconds: float) -> int:
    """Return the position of a time on the timeline."""
    return round(seconds * SAMPLE_RATE)
