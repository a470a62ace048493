"""What the machines that ask the model share: which facts there are, how an attempt fails, what lateness is. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from api_contracts import chat
from api_contracts.failure import Failure
from api_contracts.metering import Timings
from api_contracts.runs import EventData, Status
from workers.core.chat import acts
from workers.core.chat.assembler import Answer
from workers.core.chat.tries import Tries
from workers.core.retry import RUN_BUDGET
from workers.core.runs.deadline import DEADLINE_EXCEEDED, deadline_of, soonest
from workers.core.runs.frame import Action, Begin, Draining, Emit, Release, SignalArrived, Woke


class AskedState(Protocol):
    """What such a machine knows of its run, by fold over the journal."""

    cursor: str
    attempt: int
    tries: Tries
    asking: bool
    retry_at: float | None
    counts_from: float

    def fold(self, event: EventData, at: float) -> None:
        """Take one event written at `at`."""
        ...


class Asking(ABC):
    """Base of such a machine. `state` is what it knows, `deadline_s` the request's; what is decided goes to `_acts`.

    `places` is the length of the route of models, `retries` the run's budget of failed attempts.
    """

    def __init__(
        self, state: AskedState, deadline_s: float | None, *, places: int = 1, retries: int = RUN_BUDGET
    ) -> None:
        self._places = places
        self._retries = retries
        self._asked = state
        self._deadline_s = deadline_s
        self._acts: list[Action] = []
        self._emit = _emitter(state, self._acts)
        self._force_at: float | None = None
        self._over = False

    @property
    def cursor(self) -> str:
        """See `Machine`."""
        return self._asked.cursor

    @property
    def deadline(self) -> float | None:
        """See `Machine`."""
        return soonest(self._asked.retry_at, self._force_at, self._run_deadline(), *self._alarms())

    def fold(self, event: EventData, at: float) -> None:
        """See `Machine`."""
        self._asked.fold(event, at)

    def receive(self, fact: object, now: float) -> list[Action]:
        """See `Machine`. Facts of an attempt or a call that is over change nothing."""
        self._acts.clear()
        if not self._over:
            self._take(fact, now)
        return list(self._acts)

    def _take(self, fact: object, now: float) -> None:
        match fact:
            case Begin():
                self._begin(fact, now)
            case acts.ModelSaid(attempt, text, reasoning) if self._is_present(attempt):
                self._said(text, reasoning, now)
            case acts.ModelAnswered(attempt, answer, timings) if self._is_present(attempt):
                self._answered(answer, timings, now)
            case acts.ModelFailed(attempt, failure, jitter) if self._is_present(attempt):
                self._attempt_failed(failure, jitter, now)
            case SignalArrived():
                self._signal(fact, now)
            case Draining(force_at):
                self._force_at = force_at
                self._rest(now)
            case Woke() if self._is_late(now):
                self._end("failed", DEADLINE_EXCEEDED, now)
            case Woke() if self._force_at is not None and now >= self._force_at:
                self._release()
            case Woke():
                self._woke(now)
            case _:
                self._take_other(fact, now)

    # -- what each kind of work says -------------------------------------------------------------------------------

    @abstractmethod
    def _begin(self, begin: Begin, now: float) -> None:
        """Begin a life of the run."""

    @abstractmethod
    def _said(self, text: str, reasoning: str, now: float) -> None:
        """Take a piece of the present attempt."""

    @abstractmethod
    def _answered(self, answer: Answer, timings: Timings, now: float) -> None:
        """Take the whole answer of the present attempt, and what it took of time."""

    @abstractmethod
    def _signal(self, letter: SignalArrived, now: float) -> None:
        """Take a letter."""

    @abstractmethod
    def _rest(self, now: float) -> None:
        """Wait for what comes next, here or parked; when draining, let go if nothing is under way."""

    @abstractmethod
    def _woke(self, now: float) -> None:
        """Do what its time has come for; the run is neither late nor at the end of its drain."""

    @abstractmethod
    def _end(self, status: Status, failure: Failure | None, now: float) -> None:
        """End without an answer."""

    def _take_other(self, fact: object, now: float) -> None:  # noqa: B027 - most have none
        """Take a fact that only this kind of work knows; others change nothing."""

    def _alarms(self) -> tuple[float | None, ...]:
        """Return further times at which to wake."""
        return ()

    # -- what they share -------------------------------------------------------------------------------------------

    def _attempt_failed(self, failure: Failure, jitter: float, now: float) -> None:
        then = self._asked.tries.after(failure, self._places, self._retries, jitter)
        self._emit(
            chat.ChatReplaced(
                attempt=self._asked.attempt, reason="the attempt failed", failure=failure,
                retry_at=None if then is None else now + then.pause_s, next=then.place or None if then else None,
            ), now,
        )  # fmt: skip
        if then is None:
            self._end("failed", failure, now)
        else:
            self._rest(now)

    def _release(self) -> None:
        self._over = True
        self._acts += [acts.StopAll(), Release()]

    def _is_late(self, now: float) -> bool:
        return (end := self._run_deadline()) is not None and now >= end

    def _run_deadline(self) -> float | None:
        return deadline_of(self._asked.counts_from, self._deadline_s)

    def _is_present(self, attempt: int) -> bool:
        return self._asked.asking and attempt == self._asked.attempt


def _emitter(state: AskedState, out: list[Action]) -> Callable[[EventData, float], None]:
    """Return what folds an event and tells of it. A method of the machine would have its parts, which emit as well,
    hold it: what hold each other are freed by the collector alone, minutes later."""

    def emit(event: EventData, now: float) -> None:
        state.fold(event, now)
        out.append(Emit(event))

    return emit
