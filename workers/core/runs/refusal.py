"""The machines of runs whose end is known before they begin: they start, and end."""

from typing import Final

from api_contracts.failure import Failure
from api_contracts.names import Kind
from api_contracts.runs import EventData, Result, RunStarted
from workers.core.runs.frame import Action, Begin, Emit, Finish

JOURNAL_LOST: Final = Failure(
    code="journal_lost",
    category="internal",
    message="the run's journal is gone from Redis, and SQL has no result of it",
    at_fault="us",
)
KEYS_DAMAGED: Final = Failure(
    code="run_keys_damaged",
    category="internal",
    message="what Redis kept of the run was written over by somebody else; nothing can be built on what is left of it",
    at_fault="us",
)


class Foregone:
    """`Machine` that ends as `finish` says at once."""

    cursor = "0"
    deadline: float | None = None

    def __init__(self, finish: Finish) -> None:
        self._finish = finish
        self._started = False

    def fold(self, event: EventData, at: float) -> None:
        """See `Machine`."""
        self._started = self._started or isinstance(event, RunStarted)

    def receive(self, fact: object, now: float) -> list[Action]:
        """See `Machine`."""
        if not isinstance(fact, Begin):
            return []
        return [Emit(fact.told(resumed=self._started)), self._finish]


class Refusal(Foregone):
    """`Machine` of a run that cannot be run: it fails with `failure`."""

    def __init__(self, run_id: str, kind: Kind, failure: Failure) -> None:
        result = Result(run_id=run_id, kind=kind, status="failed", failure=failure)
        super().__init__(Finish("failed", result.model_dump(mode="json", exclude_none=True), failure))
