"""The machine of a run that cannot be run: it says so and fails."""

from api_contracts.failure import Failure
from api_contracts.runs import EventData, Result, RunResumed, RunStarted
from workers.core.runs.frame import Action, Begin, Emit, Finish


class Refusal:
    """`Machine` that ends in `failure` at once."""

    cursor = "0"
    deadline: float | None = None

    def __init__(self, run_id: str, failure: Failure) -> None:
        self._run_id = run_id
        self._failure = failure
        self._started = False

    def fold(self, event: EventData, at: float) -> None:
        """See `Machine`."""
        self._started = self._started or isinstance(event, RunStarted)

    def receive(self, fact: object, now: float) -> list[Action]:
        """See `Machine`."""
        if not isinstance(fact, Begin):
            return []
        result = Result(run_id=self._run_id, status="failed", failure=self._failure)
        first = RunResumed(owner=fact.owner) if self._started else RunStarted(owner=fact.owner)
        return [Emit(first), Finish("failed", result.model_dump(mode="json", exclude_none=True), self._failure)]
