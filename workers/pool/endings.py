"""How a job can end, and what the threads of a job tell each other meanwhile.

Values only: who decides is in `job`, who tells Celery too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class BodyAborted(Exception):
    """The body of a task left by something that is not an Exception, such as CancelledError or SystemExit.

    Stored as the task's failure. Not celery's WorkerLostError: Request.on_failure would store that one a second
    time and send the error callbacks twice.
    """


class JobOver(RuntimeError):
    """The job has ended: a coroutine that outlived it asked something of it."""


class OutcomeKind(Enum):
    """What Celery was told of a job."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    IGNORED = "ignored"
    REJECTED = "rejected"
    TERMINATED = "terminated"
    TIMED_OUT = "timed out"
    ABANDONED = "abandoned"
    """Nothing: the worker shuts down and the message, never acknowledged, goes back to its queue."""


@dataclass(frozen=True)
class Outcome:
    """The end of a job. `error` is what the tracer reported, not always what the body raised: it may be the
    result backend's own failure."""

    kind: OutcomeKind
    error: BaseException | None = None


class Leave(BaseException):
    """Carries a decision through the tracer without being recorded there.

    The tracer catches Exception and stores it; a BaseException passes, and its stacks are popped all the same.
    """

    def __init__(self, kind: OutcomeKind, limit_s: float | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.limit_s = limit_s


class StopReason(Enum):
    """Why a job is asked to stop."""

    TERMINATED = "terminated"
    SHUTDOWN = "the worker shuts down"
    ASKED = "cancelled"


@dataclass(frozen=True)
class Accept:
    """Tell Celery that the job is accepted, then call `told`."""

    told: Callable[[], None]


@dataclass(frozen=True)
class SoftLimit:
    """The soft time limit is over."""

    seconds: float


@dataclass(frozen=True)
class HardLimit:
    """The hard time limit is over."""

    seconds: float


@dataclass(frozen=True)
class Stop:
    """Cancel the body."""

    reason: StopReason
    text: str


@dataclass(frozen=True)
class GiveUp:
    """Wait for the body no longer."""


@dataclass(frozen=True)
class Ended:
    """The body returned `value`, or raised `error`."""

    value: Any = None
    error: BaseException | None = None


Letter = Accept | SoftLimit | HardLimit | Stop | GiveUp | Ended
