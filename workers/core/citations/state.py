"""What a cited answer knows: a fold over its journal, and nothing else."""

from dataclasses import dataclass, field

from api_contracts import chat, citations, runs
from api_contracts.chat import Usage
from api_contracts.citations import Revision
from api_contracts.runs import EventData
from workers.core.runs.frame import later_id


@dataclass(slots=True)
class CiteState:
    """See the module. `generated` is the answer that waits for its judgement, or has passed it."""

    queued_at: float
    started_at: float | None = None
    first_delta_at: float | None = None
    cursor: str = "0"
    resolved: str | None = None
    attempt: int = 0
    failures: int = 0
    asking: bool = False
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
        if (letter := getattr(event, "inbox", None)) is not None:
            self.cursor = later_id(self.cursor, letter)
        match event:
            case runs.RunStarted():
                self.started_at = at
            case runs.RunCancelling():
                self.cancelling = event.reason
            case citations.CiteResolved():
                self.resolved = event.grammar
            case citations.CiteGenerated():
                self.generated, self.asking, self.failures, self.said = event, False, 0, []
            case citations.CiteChecked():
                self.checked = True
            case citations.CiteRepaired():
                text = self.generated.text if self.generated else "".join(self.said)
                self.revisions.append(Revision(attempt=event.attempt, reason=event.reason, text=text))
                self.generated = None
            case _:
                self._fold_attempt(event, at)

    def _fold_attempt(self, event: EventData, at: float) -> None:
        match event:
            case chat.ChatRequested():
                self.attempt, self.asking, self.said = event.attempt, True, []
            case chat.ChatDelta():
                self.said.append(event.text)
                self.first_delta_at = self.first_delta_at or at
            case chat.ChatReplaced():
                self.asking, self.said = False, []
                self.failures += event.failure is not None
            case chat.ChatUsage():
                self.usage = self.usage + event.usage
            case _:
                pass
