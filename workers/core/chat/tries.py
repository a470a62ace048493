"""What has become of the attempts at an answer, and which comes next: the same model later, the next one, or none.

Pure. `Tries` is a fold over the journal; a way once round the route counts as one failure of the answer, since each
model deserves its pause. A model that nobody was sent to, because its circuit is open or the fleet is at its limits,
costs no try (OPS-10, OPS-11).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from api_contracts.chat import ChatReplaced
from api_contracts.failure import Category, Failure
from workers.core.circuit import is_refusal
from workers.core.limits.costs import is_held_back
from workers.core.retry import pause_s, spread_s

MOST_REFUSALS: Final = 20
"""Ways round the route without anybody asked, in a row: at most 5 minutes apart, so over an hour of an outage."""
_REFUSED_S: Final = 1.0
"""Those that one circuit refused come back over at least so long."""

_ANOTHER_MAY_HELP: Final[frozenset[Category]] = frozenset({"account", "authentication", "not_found"})
"""Failures that last, but belong to a model or an account, not to the request."""


class Next(NamedTuple):
    """The next attempt: the place of its model in the route, and how long to wait (seconds)."""

    place: int
    pause_s: float


@dataclass(slots=True)
class Tries:
    """`place` is where in the route the next attempt goes. The first three counts begin anew with each answer."""

    place: int = 0
    failures: int = 0
    """Ways round the route that came to nothing."""
    refusals: int = 0
    """Ways round the route, in a row, in which nobody was asked."""
    around: list[Failure] = field(default_factory=list)
    """Failures of this way round."""
    spent: int = 0
    """Failed attempts of the whole run: what its budget of retries counts (CHAT-10)."""

    def fold(self, event: ChatReplaced) -> None:
        """Take the end of an attempt; a lost worker is no failure of the provider."""
        if event.failure is None:
            return
        self.around.append(event.failure)
        self.spent += _was_made(event.failure)
        self.place = event.next or 0
        if self.place == 0:
            asked = any(map(_was_made, self.around))
            self.failures += asked
            self.refusals = 0 if asked or any(map(is_held_back, self.around)) else self.refusals + 1
            self.around = []

    def answered(self) -> None:
        """Take a whole answer: the next one begins at the head of the route, with tries of its own."""
        self.place, self.failures, self.refusals, self.around = 0, 0, 0, []

    def after(self, failure: Failure, places: int, retries: int, jitter: float) -> Next | None:
        """Return what comes after a failed attempt, None to give up.

        `places` is the length of the route, `retries` the run's budget, `jitter` a random number from 0 to 1.
        """
        spent = self.spent + _was_made(failure)
        passes = failure.retryable or failure.category in _ANOTHER_MAY_HELP
        if spent > retries or not passes:
            return None
        if self.place + 1 < places:
            return Next(self.place + 1, 0.0)
        pause = self._pause_s([*self.around, failure], jitter)
        return None if pause is None else Next(0, pause)

    def _pause_s(self, around: Sequence[Failure], jitter: float) -> float | None:
        """Return the pause before the next way round: as long as the least patient of those that may recover wants."""
        hopes = [each for each in around if each.retryable]
        if not hopes:
            return None
        soonest = min(hopes, key=lambda each: each.retry_after_s or 0.0)
        if any(map(_was_made, around)):
            return pause_s(soonest, self.failures + 1, jitter)
        if self.refusals + 1 >= MOST_REFUSALS and not any(map(is_held_back, around)):
            return None
        return spread_s(_REFUSED_S, soonest.retry_after_s or 0.0, jitter)


def _was_made(failure: Failure) -> bool:
    """Whether somebody was asked: no circuit was open, and it was not held back."""
    return not is_refusal(failure) and not is_held_back(failure)
