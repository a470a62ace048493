"""A transcription's effects and facts."""

from dataclasses import dataclass

from api_contracts.failure import Failure
from workers.core.runs.frame import Effect
from workers.core.stt.files.answer import Transcript


@dataclass(frozen=True, slots=True)
class AskTranscript(Effect):
    """Send the file, or its URL, and wait for the answer. Done twice it costs twice, and does nothing else."""

    attempt: int


@dataclass(frozen=True, slots=True)
class StopAsking(Effect):
    """Stop what is under way."""


@dataclass(frozen=True, slots=True)
class TranscriptCame:
    """The answer of an attempt."""

    attempt: int
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class TranscriptFailed:
    """An attempt came to nothing. `jitter` is a random number from 0 to 1."""

    attempt: int
    failure: Failure
    jitter: float
