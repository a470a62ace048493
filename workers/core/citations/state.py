"""What a cited answer knows: a fold over its journal, and nothing else."""

from dataclasses import dataclass, field

from api_contracts import chat, citations, runs
from api_contracts.chat import Usage
from api_contracts.citations import Revision
from api_contracts.runs import EventData
from workers.core.chat.tries import Tries
from workers.core.runs.living import Living


@dataclass(slots=True)
class CiteState(Living):
    """See the module. `generated` is the answer that waits for its judgement, or has passed it."""

    first_delta_at: float | None = None
    resolved: str | None = None
    attempt: int = 0
    tries: Tries = field(default_factory=Tries)
    asking: bool = False
    retry_at: float | None = None
    """Not sooner the model is asked again."""
    said: list[str] = field(default_factory=list)
    generated: citations.CiteGenerated | None = None
    checked: bool = False
    revisions: list[Revision] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    cancelling: str | None = None

    @property
    def tight(self) -> bool:
        """Whether the tighter form is the one that counts."""
        return bool(self.revisions)

    @property
    def round(self) -> int:
        """1, or 2 when the model was asked again."""
        return 1 + len(self.revisions)

    def fold(self, event: EventData, at: float) -> None:
        """Take one event written at `at`; types that mean nothing to a cited answer are passed over."""
        self.fold_life(event, at)
        match event:
            case runs.RunStarted() | runs.RunResumed():
                self.retry_at = self.retry_at if event.inbox is None else None  # an operator waits no longer
            case runs.RunCancelling():
                self.cancelling = event.reason
            case runs.RunFailedEvent() | runs.RunCancelled() | runs.RunCompleted():
                self._fold_end(event)
            case citations.CiteResolved():
                self.resolved = event.grammar
            case citations.CiteGenerated():
                self.generated, self.asking, self.said = event, False, []
                self.tries.answered()
            case citations.CiteChecked():
                self.checked = True
            case citations.CiteRepaired():
                text = self.generated.text if self.generated else "".join(self.said)
                self.revisions.append(Revision(attempt=event.attempt, reason=event.reason, text=text))
                self.generated = None
            case _:
                self._fold_attempt(event, at)

    def _fold_end(self, event: EventData) -> None:
        """Whoever folds an end was reopened: it has its tries again. An answer that failed it is asked for anew."""
        self.cancelling, self.tries, self.retry_at = None, Tries(), None
        if isinstance(event, runs.RunFailedEvent):
            self.generated, self.checked = None, False

    def _fold_attempt(self, event: EventData, at: float) -> None:
        match event:
            case chat.ChatRequested():
                self.attempt, self.asking, self.said, self.retry_at = event.attempt, True, [], None
            case chat.ChatDelta():
                self.said.append(event.text)
                self.first_delta_at = self.first_delta_at or at
            case chat.ChatReplaced():
                self.asking, self.said = False, []
                self.tries.fold(event)
                self.retry_at = event.retry_at
            case chat.ChatUsage():
                self.usage = self.usage + event.usage
            case _:
                pass
