"""What Celery is told of one job, and in which order.

Owns the four callbacks of Celery's Request and their exactly-once rules. It must not know bodies, the loop or the pool.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery.exceptions import Ignore, Reject, Retry, Terminated

from workers.pool.endings import BodyAborted, Leave, Outcome, OutcomeKind

logger = logging.getLogger(__name__)

ANNOUNCE_S: Final = 5.0
"""How long a terminated job waits until Celery has announced the termination."""


def nothing(*_: Any) -> None:
    """Stand in for a callback that was not given."""


@dataclass(frozen=True)
class Order:
    """What Celery asks of the pool: the arguments of `on_apply`, and what the pool knows of the task."""

    target: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    task_id: str = ""
    accept_callback: Callable[..., Any] = nothing
    callback: Callable[..., Any] = nothing
    error_callback: Callable[..., Any] = nothing
    timeout_callback: Callable[..., Any] = nothing
    soft_s: float | None = None
    hard_s: float | None = None
    accept_late: bool = False
    acks_late: bool = False
    bridged: bool = False
    """Whether the task is a `LoopTask`, which tells the pool when its body begins and ends."""


class Telling:
    """Tells Celery of one job: accepted once, then one outcome, or none where Celery announces the end itself.

    The lock serialises what Celery's Request does not: accept, outcome, and the start of a termination. All three
    acknowledge, from two threads, behind an unguarded flag, and a message acknowledged twice raises in the hub and
    ends the worker. It is re-entrant because accepting may terminate (`Request._terminate_on_ack`), in the same thread.
    """

    def __init__(self, pid: int, order: Order, poke: Callable[[], None]) -> None:
        self._pid = pid
        self._order = order
        self._poke = poke
        self._lock = threading.RLock()
        self._announced = threading.Event()
        self._terminating = False
        self.accepted = False

    @property
    def unacknowledged(self) -> bool:
        """Whether the message would go back to its queue if the worker ended now."""
        return not self.accepted or self._order.acks_late

    def accept(self) -> None:
        """Call the accept callback, once. What it raises is logged: a run that has begun does not end over it."""
        with self._lock:
            if self.accepted:
                return
            self.accepted = True
            self._guarded(self._order.accept_callback, self._pid, time.monotonic())
        self._poke()

    def soft_limit(self, seconds: float) -> None:
        """Tell that the soft limit is over, which Celery logs."""
        self._tell(self._order.timeout_callback, True, seconds)

    def announce_begins(self) -> None:
        """Note that Celery announces a termination now. Waits, bounded, while a callback is under way; none follows."""
        got = self._lock.acquire(timeout=ANNOUNCE_S)
        self._terminating = True
        if got:
            self._lock.release()

    def announce_ends(self) -> None:
        """Note that the announcement is complete, if one had begun."""
        if self._terminating:
            self._announced.set()

    def outcome(self, ending: Any) -> Outcome:
        """Tell how the job ended: with what the tracer returned, or what it raised."""
        if isinstance(ending, Leave) and ending.kind is OutcomeKind.ABANDONED:
            return Outcome(OutcomeKind.ABANDONED)
        error = _error_in(ending)
        # Accepting acknowledges an early-ack message, and an acknowledged message cannot be requeued any more.
        if not isinstance(error, Reject):
            self.accept()
        if self._terminating or (isinstance(ending, Leave) and ending.kind is OutcomeKind.TERMINATED):
            return self._terminated()
        if isinstance(ending, Leave):
            self._tell(self._order.timeout_callback, False, ending.limit_s)
        elif isinstance(ending, BaseException):
            self._tell(self._order.error_callback, _einfo(ending))
        else:
            self._tell(self._order.callback, ending)
        return Outcome(_kind_of(ending, error), error)

    def _terminated(self) -> Outcome:
        """Leave the announcement to Celery, whose thread does it; do it here only where that failed.

        No callback after a complete announcement: Celery has forgotten the request, and after a connection loss the
        redelivered message has the same id and delivery tag, so a callback would hit the new request.
        """
        if self._terminating and not self._announced.wait(ANNOUNCE_S):
            logger.warning("the termination of %s was not announced; announcing it here", self._order.task_id)
        if not self._announced.is_set():
            self._terminating = False
            self._tell(self._order.error_callback, _einfo(Terminated("terminated")))
        return Outcome(OutcomeKind.TERMINATED)

    def _tell(self, callback: Callable[..., Any], *args: Any) -> None:
        with self._lock:
            if not self._terminating:
                self._guarded(callback, *args)

    def _guarded(self, callback: Callable[..., Any], *args: Any) -> None:
        try:
            callback(*args)
        except BaseException:
            # The slot must be freed whatever Celery's book-keeping does.
            logger.exception("Celery's callback raised for %s", self._order.task_id)


def _error_in(ending: Any) -> BaseException | None:
    """Return the error that the tracer returned or raised; it wraps the former for pickling."""
    if isinstance(ending, Leave):
        return None
    if isinstance(ending, BaseException):
        return ending
    failed, value, _runtime = ending
    if not failed:
        return None
    error: BaseException = value.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def _kind_of(ending: Any, error: BaseException | None) -> OutcomeKind:
    if isinstance(ending, Leave):
        return ending.kind
    if error is None:
        return OutcomeKind.SUCCEEDED
    for kind, classes in (
        (OutcomeKind.RETRIED, Retry),
        (OutcomeKind.REJECTED, Reject),
        (OutcomeKind.IGNORED, Ignore),
    ):
        if isinstance(error, classes):
            return kind
    return OutcomeKind.FAILED


def _einfo(error: BaseException) -> Any:
    """Wrap an error as Celery's error callback wants it; one that it would raise itself becomes `BodyAborted`."""
    if isinstance(error, MemoryError) or not isinstance(error, Exception):
        error = BodyAborted(repr(error)).with_traceback(error.__traceback__)
    try:
        raise error  # billiard wants a traceback, and one that was never raised has none
    except Exception as raised:  # noqa: BLE001 - it is the one above
        return ExceptionInfo((type(raised), raised, raised.__traceback__))
