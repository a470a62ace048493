"""Speech sessions: the request, the audio stream, the result and the events of live speech-to-text.

A session has a timeline of its own: seconds (`_s`, `start`, `end`) from the first sample that the producer wrote,
whatever happens to connections and workers. Positions named `_at` count samples, 16 000 a second.

The audio stream (`keys.audio`) is a Redis stream that anyone may append to. An entry has exactly one of two fields:

    a   raw audio in the form that the request names, no header: as it is by default, signed 16-bit little-endian
        samples (low byte first), 16 000 a second, one channel, 0.1 s is 3 200 bytes. Any size does, 20 to 400 ms is
        sensible; the stream's order is the order of time. A sample may be cut in two by the end of an entry: its
        other bytes are the next entry's first.
    c   a control: one JSON object in UTF-8, `{"type": ...}` as `AudioControl` below.

So `XADD <key> * a <bytes>` speaks and `XADD <key> * c {"type":"end"}` hangs up. What follows the end is not heard.
Entries whose words are final and stored are trimmed by the service. Whoever bounds the stream (MAXLEN) may trim others
before they are read: that is an `stt.gap` of cause `lost`, as long as so many entries of the usual size.
"""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from api_contracts.audio import SAMPLE_RATE as SAMPLE_RATE
from api_contracts.audio import AudioMeters as AudioMeters
from api_contracts.audio import Coverage as Coverage
from api_contracts.audio import Encoding, SttSource
from api_contracts.audio import Gap as Gap
from api_contracts.audio import GapCause as GapCause
from api_contracts.audio import RepeatCause as RepeatCause
from api_contracts.failure import Failure
from api_contracts.options import AudioControl as AudioControl
from api_contracts.options import ChangeOptions as ChangeOptions
from api_contracts.options import Clear as Clear
from api_contracts.options import End as End
from api_contracts.options import Flush as Flush
from api_contracts.options import SttOptions as SttOptions
from api_contracts.options import Vad as Vad
from api_contracts.runs import EventData, Request, Result, UsageEvent

Granularity = Literal["word", "segment"]
EndReason = Literal["end", "idle", "max_duration", "cancelled", "failed"]
TroubleKind = Literal["error", "garbled", "unknown", "control"]


class SttRequest(SttOptions, Request):
    """A live session. It ends by the control `end`, by a signal, or by one of its limits."""

    sample_rate: int = Field(default=SAMPLE_RATE, ge=8_000, le=48_000, strict=True)
    """Of the audio stream, as are `encoding` and `channels`: see `SttSource`."""
    encoding: Encoding = "s16"
    channels: Literal[1, 2] = 1
    timestamps: list[Granularity] = Field(default_factory=lambda: list(get_args(Granularity)), max_length=2)
    """Which lists the result carries. The provider is always asked for both: words are told apart by their times."""
    idle_timeout_s: float = Field(default=60.0, ge=1, le=3600)
    """Without an entry in the audio stream for so long, the session closes as by `end`."""
    max_duration_s: float = Field(default=4 * 3600.0, ge=1, le=86_400)
    """From the session's start; then it closes as by `end`."""
    backlog_s: float = Field(default=300.0, ge=10, le=3600)
    """How much audio may be there that is neither final nor known to be silence or lost. Over it `stt.lag` is told and
    clients refuse to send more; at twice as much the session fails with `audio_backlog`."""
    keep_alive_s: float | None = Field(default=20.0, ge=1, le=3600)
    """A connection that was sent nothing for so long is shown that somebody is there; null: never. Pings of the
    websocket go out besides."""
    keep_alive: Literal["silence", "trace"] = "silence"
    """By 0.1 s of silence, which the provider may bill, and a trace; or by the trace alone. Which of the two counts for
    a provider that drops idle connections is not documented (WIRE 2.8)."""
    stall_timeout_s: float | None = Field(default=30.0, ge=1, le=3600)
    """A connection that was asked (by a trace, every 5 s of audio) and says nothing at all for so long is given up, and
    what it did not make final is sent to another; null: never."""
    rollover_s: float | None = Field(default=3300.0, ge=5, le=86_400)
    """At this age (55 min, FEAT D3) a connection is replaced at the next silence, in mid-speech when it is 5 % older:
    before a limit of the provider cuts it. The next one is open and fed before the old one closes. Null: never."""

    @field_validator("channels", mode="before")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        """To Python True is 1."""
        if isinstance(value, bool):
            raise ValueError("1 or 2")
        return value

    @property
    def source(self) -> SttSource:
        """The form of the audio stream."""
        return SttSource(sample_rate=self.sample_rate, encoding=self.encoding, channels=self.channels)


# -- the result --------------------------------------------------------------------------------------------------------


class SttWord(BaseModel):
    """A final word. Words never overlap in time, and never change."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    word: str
    start: float
    end: float
    segment: int
    """The provider's number of the segment, within its connection."""
    language: str | None = None
    probability: float | None = None
    hallucination_score: float | None = None


class SttSegment(BaseModel):
    """Words that the provider put together; cut in two where a connection was lost between them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: int
    """Counts from 0 over the whole session."""
    text: str
    start: float
    end: float
    language: str | None = None


class SttLatency(BaseModel):
    """How late a session was at worst since this was told before, in seconds; None where nothing was measured.

    Redis' clock says when audio was written. What waited for a worker, or is sent again after a reconnect, counts from
    its write too.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    audio_s: float | None = None
    """From the write of audio to its session."""
    final_s: float | None = None
    """From the write of a word's last sound to the word's final."""
    trace_s: float | None = None
    """From a probe (`stt.input.trace`, every 5 s of audio) to the provider's echo."""


class SttResult(Result):
    """What a session came to."""

    kind: str = "stt"
    text: str = ""
    segments: list[SttSegment] = Field(default_factory=list)
    words: list[SttWord] = Field(default_factory=list)
    language: str | None = None
    """The language of most words, as the provider says."""
    audio: AudioMeters = AudioMeters()
    coverage: Coverage = Coverage()
    repeated_s: float = 0.0
    """Audio that was sent to the provider again, each time counted (`stt.repeat`). No word is told twice for it."""
    connections: int = 0
    source: SttSource | None = None
    """The form that the audio came in; None in results of releases before it was recorded."""
    ended_by: EndReason = "end"
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds from the submit: `queued_s` to the first lease, `connected_s`, `first_text_s`, `first_final_s`,
    `total_s`."""


# -- events ------------------------------------------------------------------------------------------------------------


class SttConnected(EventData):
    """A connection is open. The audio from `start_at` on is (again) sent to it, and its ids and times begin anew."""

    TYPE = "stt.connected"
    conn: int
    """Counts the session's tries to connect, from 1."""
    start_at: int
    options: dict[str, Any] | None = None
    """The options in force, when the audio stream changed them."""
    options_entry: str | None = None
    """The entry of the audio stream that last changed them."""
    source: SttSource | None = None
    """What the audio is converted from; None when the provider gets it as it came."""


class SttStartOfSpeech(EventData):
    """The first words after silence."""

    TYPE = "stt.start_of_speech"
    start: float


class SttInterim(EventData):
    """All that is heard beyond the last final, as it looks now. It takes the place of the interim before it.

    A final, a retraction of its segments, a reconnect and a resumed run void it; what remains of it is told anew.
    """

    TYPE = "stt.interim"
    conn: int
    text: str
    start: float
    end: float
    segments: list[int]


class SttFinal(EventData):
    """Words that never change, later in time than all finals before."""

    TYPE = "stt.final"
    conn: int
    text: str
    start: float
    end: float
    segments: list[int]
    words: list[SttWord]
    language: str | None = None
    glued: bool | None = None
    """True when no space stands between this text and that of the final before (Chinese, Japanese)."""
    estimated: bool | None = None
    """True when the provider gave no times: those told here are the best that are known."""
    anchor_entry: str
    """The last entry of the audio stream that need not be sent again (`"0"`: none)."""
    anchor_at: int
    """Where that entry ends, in samples (rounded down)."""
    anchor_half: int | None = None
    """The entry's last byte, when it is the first half of a sample."""
    anchor_rest: str | None = None
    """Where the audio is converted: the entry's last bytes in hexadecimal, when they begin a frame."""
    anchor_phase: int | None = None
    """Where the audio is converted: how far into sample `anchor_at` the entry ends, in parts of `1 / sample_rate`."""
    after_s: float | None = None
    """Seconds from the write of its last sound to this final, by Redis' clock: end of speech to final."""


class SttRetracted(EventData):
    """The last interim's text of these segments is withdrawn."""

    TYPE = "stt.retracted"
    conn: int
    segments: list[int]
    text: str


class SttEndOfSpeech(EventData):
    """Silence after a final, or the end of the session. `end` is the end of the last word."""

    TYPE = "stt.end_of_speech"
    end: float


class SttUsage(UsageEvent):
    """The meters since the session's start; every 10 s while audio flows, at a hand-over, and at the end."""

    TYPE = "stt.usage"
    audio: AudioMeters
    settled_at: int
    """Everything before this sample is final words, silence or a gap."""
    anchor_entry: str
    anchor_at: int
    anchor_half: int | None = None
    anchor_rest: str | None = None
    anchor_phase: int | None = None
    latency: SttLatency | None = None
    sent_at: int | None = None
    """Audio before this sample was sent."""


class SttSettingsChanged(EventData):
    """A signal `update_settings` was taken: these options hold from the next connection on, which is opened at once."""

    TYPE = "stt.settings"
    changed: dict[str, Any]
    """Fields of `SttOptions`; null goes back to the provider's own."""
    inbox: str | None = None
    by: str | None = None


class SttGap(EventData):
    """Audio of the timeline that is not, and will not be, transcribed: from `start_at` up to `end_at`."""

    TYPE = "stt.gap"
    start: float
    end: float
    start_at: int
    end_at: int
    cause: GapCause
    after_entry: str | None = None
    """The last entry of the audio stream before it (`"0"`: none), where it lies between entries."""


class SttLag(EventData):
    """More audio waits than may (`SttRequest.backlog_s`), and whoever writes should pause; or, where `full` is false,
    half of that is left, and he may go on."""

    TYPE = "stt.lag"
    behind_s: float
    full: bool


class SttRepeat(EventData):
    """Audio that was sent before is sent again, from `start_at` up to `end_at`: to connection `conn` in place of one
    that was `lost`, or by plan (`planned`: options, age), or because it `cleared` its state, or by the worker that
    `resumed` the session. What a killed worker sent after its last event nobody knows, so here it counts as new."""

    TYPE = "stt.repeat"
    conn: int
    start: float
    end: float
    start_at: int
    end_at: int
    cause: RepeatCause


class SttLost(EventData):
    """An open connection ended before its time. `code` is the websocket's close code, if there was one."""

    TYPE = "stt.lost"
    conn: int
    code: int | None = None
    reason: str = ""


class SttReconnecting(EventData):
    """A connection is tried again after `wait_s`; audio that is not settled will be sent again.

    Where another connection takes over as planned (changed options, age), it is open already: `stt.connected` follows.
    """

    TYPE = "stt.reconnecting"
    conn: int
    """The try that came to nothing, or the connection that another takes over from."""
    failures: int
    """In a row; 0 where it was planned."""
    wait_s: float
    code: int | None = None
    """The websocket's close code, or the HTTP status that refused the connection."""
    reason: str = ""


class SttTrouble(EventData):
    """Something that cannot be acted on: an `error` of the provider, a `garbled` or `unknown` message, a bad `control`.

    Unknown messages are told once a connection.
    """

    TYPE = "stt.trouble"
    kind: TroubleKind
    message: str = ""
    conn: int | None = None
    entry: str | None = None


class SttClosed(EventData):
    """The session is over; the run's end follows."""

    TYPE = "stt.closed"
    ended_by: EndReason
    audio: AudioMeters
    coverage: Coverage
    failure: Failure | None = None


STT_EVENTS: tuple[type[EventData], ...] = (
    SttConnected, SttStartOfSpeech, SttInterim, SttFinal, SttRetracted, SttEndOfSpeech, SttUsage, SttLag, SttGap,
    SttRepeat, SttLost, SttReconnecting, SttTrouble, SttClosed, SttSettingsChanged,
)  # fmt: skip
