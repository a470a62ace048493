"""What a transcription knows: a fold over its journal, and nothing else."""

from dataclasses import dataclass

from api_contracts import runs, stt_files
from api_contracts.runs import EventData
from workers.core.runs.living import Living


@dataclass(slots=True)
class FileState(Living):
    """See the module. `failures` counts attempts in a row that the provider let fail."""

    attempt: int = 0
    asking: bool = False
    failures: int = 0
    retry_at: float | None = None
    """Not sooner the provider is asked again."""
    cancelling: str | None = None

    def fold(self, event: EventData, at: float) -> None:
        """Take one event written at `at`; types that mean nothing to a transcription are passed over."""
        self.fold_life(event, at)
        match event:
            case runs.RunStarted() | runs.RunResumed():
                self.retry_at = self.retry_at if event.inbox is None else None  # an operator waits no longer
            case runs.RunCancelling():
                self.cancelling = event.reason
            case runs.RunFailedEvent() | runs.RunCancelled() | runs.RunCompleted():
                self.cancelling, self.failures, self.retry_at = None, 0, None
            case stt_files.SttRequested():
                self.attempt, self.asking, self.retry_at = event.attempt, True, None
            case stt_files.SttReplaced():
                self.asking, self.retry_at = False, event.retry_at
                self.failures += event.failure is not None
            case stt_files.SttTranscribed():
                self.asking = False
            case _:
                pass
