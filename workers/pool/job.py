"""One task in flight: its thread, its body on the loop, and the mailbox between the two.

Owns how a body is run, stopped and given up on. It must not know the hub, the slots or other jobs.
"""

import asyncio
import contextvars
import inspect
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from celery.exceptions import Reject

from workers.pool.body import Body
from workers.pool.endings import (
    Accept,
    BodyAborted,
    Ended,
    GiveUp,
    HardLimit,
    JobOver,
    Leave,
    Letter,
    Outcome,
    OutcomeKind,
    SoftLimit,
    Stop,
    StopReason,
)
from workers.pool.telling import Order, Telling, nothing

logger = logging.getLogger(__name__)

CANCEL_GRACE_S: Final = 5.0
"""How long a terminated coroutine may clean up before it is left behind as a zombie."""

_current: ContextVar["Job | None"] = ContextVar("fw_current_job", default=None)


def current_job() -> "Job | None":
    """Return the job that this thread or coroutine belongs to, None outside of the pool."""
    return _current.get()


class Host(Protocol):
    """What a job needs of its pool."""

    zombies: set[object]

    def on_loop(self, function: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> bool:
        """Run a function in the loop's thread; False if the loop is closed."""

    def in_thread(self, function: Callable[[], None]) -> None:
        """Run a function in a thread that is not the caller's."""

    def later(self, seconds: float, function: Callable[[], None]) -> Callable[[], object]:
        """Run a function in such a thread after `seconds`; return what takes that back."""

    def poke(self) -> None:
        """Wake Celery's hub."""

    def withdraw(self, job: "Job") -> bool:
        """Take a job out of the waiting line; False if it does not wait."""

    def over(self, job: "Job") -> None:
        """Free the job's slot."""


class Job:
    """One call of a task, from the pool's admission to the last callback.

    Its thread runs the tracer. While the coroutine runs on the loop, that thread waits at a mailbox: whatever others
    want of the job (accept, limits, stop, its end) is a letter, read in order by the one thread that talks to Celery,
    so "the body ended" and "the limit is over" cannot both win.

    `pid` is the number that Celery knows the job by: `inspect active` shows it, `terminate_job` gets it.
    `request` is the task's request context once the body began.
    """

    def __init__(self, pid: int, order: Order, host: Host, context: contextvars.Context) -> None:
        self.pid = pid
        self.task_id = order.task_id
        self.request: Any = None
        self._context = context
        self._order = order
        self._host = host
        self._telling = Telling(pid, order, host.poke)
        self._mail: SimpleQueue[Letter] = SimpleQueue()
        self._listeners: list[Callable[[Outcome], None]] = []
        self._thread: int | None = None
        self._stopping: StopReason | None = None
        self._terminated = False
        self._give_up_at: float | None = None
        self._begun = False
        self._over = False
        # Either the return of a body that holds the thread or somebody's giving up on it decides the outcome, never
        # both: the two flags change under this lock. It is held for the change alone.
        self._handover = threading.Lock()
        self._in_thread = False
        self._given_up = False

    # --- for the body, from any thread

    @property
    def accepted(self) -> bool:
        """Whether Celery has been told, or is being told, that the job is accepted."""
        return self._telling.accepted

    @property
    def stopping(self) -> StopReason | None:
        """Why the job is being stopped, None if it is not. A termination outranks the rest."""
        return StopReason.TERMINATED if self._terminated else self._stopping

    def accept(self) -> None:
        """Have Celery told, once, that the job is accepted; this acknowledges an early-ack message.

        From the job's own thread it happens before the return; from anywhere else, soon, in the job's thread.
        """
        if threading.get_ident() == self._thread:
            self._telling.accept()
        elif not self._telling.accepted:
            self._mail.put(Accept(nothing))

    async def accept_async(self) -> None:
        """Accept, and return when Celery has been told. Raises `JobOver` if the job ended before.

        "Told" means that the acknowledgement is queued for the broker, not that it arrived: over a connection that
        is gone it is lost, the message comes back, and the run's lease makes that harmless. For the same reason an
        error in Celery's own book-keeping is logged, not raised.
        """
        if self._over:
            raise JobOver(f"the job of {self.task_id} is over")
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        self._mail.put(Accept(lambda: _resolve(loop, told)))
        if self._over:
            self._answer_late_letters()
        await told

    def on_outcome(self, function: Callable[[Outcome], None]) -> None:
        """Call `function` in the job's thread when all is out: the result, its links, Celery's outcome callback."""
        self._listeners.append(function)

    def cancel(self, reason: str) -> None:
        """Raise CancelledError inside the coroutine; if it escapes, the task fails with `BodyAborted`."""
        self.stop(StopReason.ASKED, reason)

    # --- for Celery and the pool

    def terminate(self, signum: int | None = None) -> None:
        """End the job as revoked. Celery calls this through its weak reference, before accept or after, often twice."""
        self._telling.announce_ends()
        self.stop(StopReason.TERMINATED, f"terminated by signal {signum}")

    def announce_begins(self, signum: int | None) -> None:
        """Note that Celery announces the termination from now until the next `terminate`."""
        self._telling.announce_begins()
        self.stop(StopReason.TERMINATED, f"terminated by signal {signum}")

    def stop(self, reason: StopReason, text: str) -> None:
        """Ask the body to stop, and end a terminated job that has no body to ask. The first termination stands."""
        if self._terminated:
            return
        self._stopping = reason
        self._terminated = reason is StopReason.TERMINATED
        self._mail.put(Stop(reason, text))
        if not self._terminated:
            return
        if self._thread is None and self._host.withdraw(self):
            self._host.in_thread(self._die)
        elif self._in_thread:
            # Nothing interrupts a function. The slot must not wait for it.
            self._host.in_thread(lambda: self._give_up(Leave(OutcomeKind.TERMINATED)))

    def abandon(self) -> None:
        """Wait for the body no longer: the shutdown's last word."""
        self._mail.put(GiveUp())
        if self._in_thread:
            self._host.in_thread(lambda: self._give_up(self._unfinished()))

    def run(self) -> None:
        """Run the job, whole, in this thread and in the context of its submission. Never raises."""
        self._thread = threading.get_ident()
        token = self._context.run(_current.set, self)
        try:
            ending = self._context.run(self._trace)
            if not self._given_up:
                self._finish(ending)
        finally:
            self._context.run(_current.reset, token)  # or they hold each other, the message, and what it is about
            self._host.zombies.discard(self)

    def _trace(self) -> Any:
        """Run the tracer; return what it returned or raised."""
        if not self._order.accept_late and self.stopping is None:
            self._telling.accept()
        if self.stopping is not None:
            return self._unfinished()
        try:
            if self._order.bridged:
                return self._call_target()
            return self._hold_thread(self._call_target)
        except BaseException as exc:  # noqa: BLE001 - whatever escapes must become an outcome
            return exc

    def _call_target(self) -> Any:
        return self._order.target(*self._order.args, **self._order.kwargs)

    def _die(self) -> None:
        """Accept a job that was terminated while it waited: Celery announces the end from inside of that."""
        self._thread = threading.get_ident()
        self._finish(Leave(OutcomeKind.TERMINATED))

    def decline(self, why: Reject) -> None:
        """Give a job back that was never admitted: its message is rejected, nothing else happened."""
        self._telling.outcome(why)

    def _finish(self, ending: Any) -> None:
        try:
            outcome = self._telling.outcome(ending)
        except Exception:
            # Whoever ends a job, its slot must become free.
            logger.exception("the outcome of %s could not be told", self.task_id)
            outcome = Outcome(OutcomeKind.ABANDONED)
        self._over = True
        self._answer_late_letters()
        try:
            for listener in self._listeners:
                listener(outcome)
        except Exception:
            logger.exception("a listener to the outcome of %s raised", self.task_id)
        finally:
            self._host.over(self)

    # --- the body, in the job's thread, inside the tracer

    def begin(self, request: Any) -> bool:
        """Note the tracer's call of the body; False if this call is another one."""
        if self._begun or threading.get_ident() != self._thread:
            return False
        self._begun = True
        self.request = request
        return True

    def perform(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the body: a coroutine on the loop, anything else here. Raises what it raised, or `BodyAborted`."""
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            value = function(*args, **kwargs)
        else:
            value = self._hold_thread(lambda: function(*args, **kwargs))
        return self._on_loop(value) if inspect.iscoroutine(value) else value

    def _on_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        body = Body(coroutine, self._mail.put, self._host.zombies, self._order.soft_s, self._order.hard_s)
        if not self._host.on_loop(body.start, context=contextvars.copy_context()):
            coroutine.close()
            raise self._unfinished()
        ended = None
        while ended is None:
            ended = self._read(self._next_letter(), body)
        return self._result(ended)

    def _next_letter(self) -> Letter:
        if self._give_up_at is None:
            return self._mail.get()
        try:
            return self._mail.get(timeout=max(0.0, self._give_up_at - time.monotonic()))
        except Empty:
            return GiveUp()

    def _read(self, letter: Letter, body: Body) -> Ended | None:
        match letter:
            case Accept(told):
                self._telling.accept()
                told()
            case SoftLimit(seconds):
                self._telling.soft_limit(seconds)
                self._host.on_loop(body.soften, seconds)
            case HardLimit(seconds):
                self._host.on_loop(body.abandon, f"hard time limit of {seconds} s")
                raise Leave(OutcomeKind.TIMED_OUT, seconds)
            case Stop(reason, text):
                if reason is StopReason.TERMINATED and self._give_up_at is None:
                    self._give_up_at = time.monotonic() + CANCEL_GRACE_S
                self._host.on_loop(body.cancel, text)
            case GiveUp():
                self._host.on_loop(body.abandon, "given up")
                raise self._unfinished()
            case Ended():
                return letter
        return None

    def _result(self, ended: Ended) -> Any:
        """Return or raise what the body did, unless the job was terminated: Celery has announced that."""
        if self.stopping is StopReason.TERMINATED:
            raise Leave(OutcomeKind.TERMINATED)
        if ended.error is None:
            return ended.value
        if isinstance(ended.error, Exception):
            raise ended.error
        if self.stopping is StopReason.SHUTDOWN:
            raise self._unfinished() from ended.error
        raise BodyAborted(repr(ended.error)) from ended.error

    def _unfinished(self) -> BaseException:
        """Return how a body ends that was not let end.

        A message that is still unacknowledged goes back to its queue, so nothing is stored. One that is gone would
        be lost silently: it fails.
        """
        if self.stopping is StopReason.TERMINATED:
            return Leave(OutcomeKind.TERMINATED)
        if self._telling.unacknowledged:
            return Leave(OutcomeKind.ABANDONED)
        return BodyAborted("the worker shut down before the task was done")

    # --- a body that holds the thread

    def _hold_thread(self, function: Callable[[], Any]) -> Any:
        """Run what cannot be interrupted. Its limits and its termination end the job, not the function."""
        recall = self._arm()
        self._in_thread = True
        try:
            self._leave_if_terminated()
            return function()
        except Exception:
            raise
        except Leave:
            raise
        except BaseException as exc:
            raise BodyAborted(repr(exc)) from exc
        finally:
            recall()
            with self._handover:
                self._in_thread = False
            if self._given_up:
                # The outcome is out. Whatever the function did, the tracer must not store another.
                raise Leave(OutcomeKind.ABANDONED)
            self._leave_if_terminated()

    def _leave_if_terminated(self) -> None:
        if self.stopping is StopReason.TERMINATED:
            raise Leave(OutcomeKind.TERMINATED)

    def _arm(self) -> Callable[[], None]:
        recalls: list[Callable[[], object]] = []
        soft_s, hard_s = self._order.soft_s, self._order.hard_s
        if soft_s is not None:
            recalls.append(self._host.later(soft_s, lambda: self._telling.soft_limit(soft_s)))
        if hard_s is not None:
            recalls.append(self._host.later(hard_s, lambda: self._give_up(Leave(OutcomeKind.TIMED_OUT, hard_s))))

        def recall() -> None:
            for each in recalls:
                each()

        return recall

    def _give_up(self, ending: BaseException) -> None:
        """End the job from outside of its thread, which its body holds; the thread is a zombie until it returns."""
        with self._handover:
            if not self._in_thread or self._given_up:
                return
            self._given_up = True
            self._host.zombies.add(self)
        self._finish(ending)

    def _answer_late_letters(self) -> None:
        while True:
            try:
                letter = self._mail.get_nowait()
            except Empty:
                return
            if isinstance(letter, Accept):
                letter.told()


def _resolve(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]") -> None:
    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    try:
        loop.call_soon_threadsafe(resolve)
    except RuntimeError:
        logger.debug("the loop is closed: nobody waits for the accept any more")
