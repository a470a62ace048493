"""What every kind of run that is folded from its journal knows of its lives: when it began, what it has heard, and from
when its time counts. One fold for all of them.
"""

from dataclasses import dataclass
from typing import Final

from api_contracts import runs
from api_contracts.runs import EventData
from workers.core.runs.frame import later_id

_BEGINNINGS: Final = frozenset((runs.RunStarted, runs.RunResumed))
_ENDS: Final = frozenset((runs.RunCompleted, runs.RunFailedEvent, runs.RunCancelled))


@dataclass(slots=True)
class Living:
    """Times are seconds since 1970."""

    queued_at: float
    started_at: float | None = None
    cursor: str = "0"
    """The last letter that it has heard."""
    reopened: bool = False
    """The journal has an end behind which no life has begun yet."""
    counts_from: float = 0.0
    """From when the run's time counts."""

    def __post_init__(self) -> None:
        self.counts_from = self.queued_at

    def fold_life(self, event: EventData, at: float) -> None:
        """Take what an event written at `at` says of the run's lives; a kind of work folds the rest."""
        # Every event passes here, and pydantic's own `getattr` and `isinstance` take a microsecond each.
        if (letter := vars(event).get("inbox")) is not None:
            self.cursor = later_id(self.cursor, letter)
        if type(event) in _BEGINNINGS:
            self.started_at = self.started_at or at
            self.counts_from = at if self.reopened else self.counts_from
            self.reopened = False
        elif type(event) in _ENDS:
            self.reopened = True
