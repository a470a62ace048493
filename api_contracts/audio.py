"""The forms in which audio comes, the one in which the provider takes it, and what became of it."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SAMPLE_RATE: Final = 16_000
"""Samples a second of every session's timeline, and of the provider's wire (WIRE 2.4)."""

GapCause = Literal["lost", "cancelled", "failed", "unconfirmed"]
RepeatCause = Literal["lost", "planned", "cleared", "resumed"]
Encoding = Literal["s16", "f32", "mulaw", "alaw"]


class SttSource(BaseModel):
    """The producer's audio. The default is what the provider takes (WIRE 2.4); all else is made into it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sample_rate: int = Field(default=SAMPLE_RATE, ge=8_000, le=48_000)
    """Frames a second."""
    encoding: Encoding = "s16"
    """`s16` and `f32` (-1 to 1) low byte first; `mulaw` and `alaw` are G.711, one byte a sample."""
    channels: Literal[1, 2] = 1
    """Two are interleaved, left first, and mixed into one: half of each."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return {"s16": 2, "f32": 4, "mulaw": 1, "alaw": 1}[self.encoding] * self.channels

    def samples_in(self, size: int) -> int:
        """Return how many samples of the timeline so many bytes are, rounded down."""
        return size // self.frame_bytes * SAMPLE_RATE // self.sample_rate

    @property
    def is_wire(self) -> bool:
        """Whether the provider takes it as it is."""
        return self == _WIRE


_WIRE: Final = SttSource()


class Gap(BaseModel):
    """Audio that was not transcribed: `lost` before it could be read, or not confirmed before the session ended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    start: float
    end: float
    cause: GapCause


class AudioMeters(BaseModel):
    """Three meters. `sent_s` was written to connections, repeats included; `acked_s` of the session's timeline was
    provably heard; `billable_s` was provably heard by any connection, repeats included: the bill to expect."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sent_s: float = 0.0
    acked_s: float = 0.0
    billable_s: float = 0.0


class Coverage(BaseModel):
    """What became of the audio: `audio_s` is the sum of the three others, to the sample."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    audio_s: float = 0.0
    words_s: float = 0.0
    silence_s: float = 0.0
    gaps_s: float = 0.0
    share: float = 1.0
    """From 0 to 1: all but the gaps."""
    gaps: list[Gap] = Field(default_factory=list)
