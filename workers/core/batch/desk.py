"""What the parts of the machine share: the state, what is under way in this life, and what was decided."""

from typing import Final

from api_contracts.batch import BatchTrouble
from api_contracts.failure import Failure
from api_contracts.runs import EventData
from workers.core.batch import acts
from workers.core.batch.acts import Step
from workers.core.batch.plan import Hand
from workers.core.batch.state import BatchState
from workers.core.runs.frame import Action, Effect, Emit

RUN: Final = 0
"""The number that stands for the run where a shard's is asked for."""

_IN_VAIN: Final[frozenset[Step]] = frozenset({"read", "create", "upload", "ready", "cut", "count"})
"""Steps that a run which is being ended has no use for."""

_STEP_OF: Final[dict[type[Effect], Step]] = {
    acts.ReadRows: "read", acts.CreateDataset: "create", acts.Upload: "upload", acts.LookAtDataset: "ready",
    acts.CreateJob: "submit", acts.LookAtJob: "look", acts.StopJob: "stop", acts.HarvestJob: "harvest",
    acts.CutRows: "cut", acts.CountRows: "count",
}  # fmt: skip


class Desk:
    """One step of a shard, or of the run, is under way at a time."""

    def __init__(self, queued_at: float) -> None:
        self.state = BatchState(queued_at)
        self.hands: dict[int, Hand] = {}
        self.doing: dict[int, Effect] = {}
        self.counted: acts.Counts | None = None
        """What SQL says at the end."""
        self._decided: list[Action] = []

    def take(self) -> list[Action]:
        """Return what was decided, and begin anew."""
        decided, self._decided = self._decided, []
        return decided

    def hand(self, shard: int) -> Hand:
        """Return what this life knows of a shard."""
        return self.hands.setdefault(shard, Hand())

    def emit(self, event: EventData, now: float) -> None:
        """Append an event; it is known from here on."""
        self.state.fold(event, now)
        self._decided.append(Emit(event))

    def act(self, action: Action) -> None:
        """Decide on what is no event and no step."""
        self._decided.append(action)

    def begin(self, shard: int, effect: Effect) -> None:
        """Begin a step."""
        self.doing[shard] = effect
        self._decided.append(effect)

    def settle(self, shard: int, steps: tuple[Step, ...]) -> Effect | None:
        """Return the step of one of these kinds that is settled; None when none is under way: the news is too late."""
        effect = self.doing.get(shard)
        if effect is None or _STEP_OF[type(effect)] not in steps:
            return None
        return self.doing.pop(shard)

    def fail(self, failure: Failure, now: float) -> None:
        """Begin to end the run as failed."""
        if self.state.ending is None:
            self.emit(BatchTrouble(kind="fatal", failure=failure), now)
            self.drop_what_is_in_vain()

    def drop_what_is_in_vain(self) -> None:
        """Stop the steps that only lead on. The others are waited for: a job that is being created must be known."""
        for shard, effect in list(self.doing.items()):
            if (step := _STEP_OF[type(effect)]) in _IN_VAIN:
                del self.doing[shard]
                self._decided.append(acts.StopStep(shard, step))
