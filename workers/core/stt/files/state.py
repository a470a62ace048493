"""What a transcription knows: a fold over its journal, and nothing else."""

from dataclasses import dataclass

from api_contracts import runs, stt_files
from api_contracts.runs import EventData
from workers.core.runs.frame import later_id


@dataclass(slots=True)
class FileState:
    """See the module. `failures` counts attempts in a row that the provider let fail."""

    queued_at: float
    started_at: float | None = None
    cursor: str = "0"
    attempt: int = 0
    asking: bool = False
    failures: int = 0
    retry_at: float | None = None
    """Not sooner the provider is asked again."""
    cancelling: str | None = None
    reopened: bool = False
    """The journal has an end behind which no life has begun yet."""
    counts_from: float = 0.0
    """From when the run's time counts."""

    def __post_init__(self) -> None:
        self.counts_from = self.queued_at

    def fold(self, event: EventData, at: float) -> None:
        """Take one event written at `at`; types that mean nothing to a transcription are passed over."""
        if (letter := getattr(event, "inbox", None)) is not None:
            self.cursor = later_id(self.cursor, letter)
        match event:
            case runs.RunStarted() | runs.RunResumed():
                self.started_at = self.started_at or at
                self.counts_from = at if self.reopened else self.counts_from
                self.reopened = False
                self.retry_at = self.retry_at if event.inbox is None else None  # an operator waits no longer
            case runs.RunCancelling():
                self.cancelling = event.reason
            case runs.RunFailedEvent() | runs.RunCancelled() | runs.RunCompleted():
                self.reopened, self.cancelling, self.failures, self.retry_at = True, None, 0, None
            case stt_files.SttRequested():
                self.attempt, self.asking, self.retry_at = event.attempt, True, None
            case stt_files.SttReplaced():
                self.asking, self.retry_at = False, event.retry_at
                self.failures += event.failure is not None
            case stt_files.SttTranscribed():
                self.asking = False
            case _:
                pass
