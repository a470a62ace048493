"""The worker pool that Celery drives.

Owns the life of loop, threads and slots, and Celery's side of the contract (celery/concurrency/base.py). How one job
runs is in `job`.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from itertools import count
from typing import Any, Final

from celery.concurrency.base import BasePool
from celery.exceptions import Reject
from celery.signals import worker_shutting_down
from celery.worker import state
from vine import promise

from workers.pool.endings import StopReason
from workers.pool.executor import DaemonExecutor
from workers.pool.garbage import spare_what_stays
from workers.pool.gate import Gate
from workers.pool.hooks import PoolHooks, hooks_of
from workers.pool.job import Job
from workers.pool.loop import LoopThread
from workers.pool.slots import Slots
from workers.pool.task import LoopTask, refuse, refuse_tasks
from workers.pool.telling import Order, nothing
from workers.pool.threads import JobThreads

logger = logging.getLogger(__name__)

DRAIN_S: Final = 25.0
"""Default of the app's configuration key `fw_drain_s`: five less than the 30 s that Kubernetes gives a pod."""

CANCEL_S: Final = 2.0
"""After the drain: how long cancelled jobs may clean up, and again how long abandoned ones may leave."""

START_S: Final = 30.0
STOP_S: Final = 5.0
_JOIN_S: Final = 2.0
_HUB_TIMERS_S: Final = 0.5
_TURN_S: Final = 1.0


class TaskPool(BasePool):
    """Runs each task's tracer in a thread and its coroutine on one event loop; bounds how many run at once.

    Selected by `worker_pool = "workers.pool:TaskPool"`. `limit` is the concurrency; jobs over it wait without a thread.

    Soft and hard limits, terminate and shutdown reach coroutines. A plain function cannot be interrupted: at its hard
    limit or termination the job ends, the slot is free, and its thread is counted as a zombie until it returns.

    A warm shutdown lasts at most `fw_drain_s` + 2 x 2 s (cancel, abandon) + 5 s (stop hooks) + 2 s (loop).
    """

    signal_safe = False
    body_can_be_buffer = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zombies: set[object] = set()
        self.gate: Gate | None = None
        self.hub_pokes = 0
        self._hub: Any = None
        self._turned_at: float | None = None
        self._nudge = promise(self._on_nudge)
        self._loop_thread = LoopThread()
        self._threads = JobThreads()
        self.loop.set_default_executor(DaemonExecutor(self._threads))
        self._slots: Slots[Job] = Slots(int(self.limit or 1), self._start_job)
        self._numbers = count(1)
        self._drained: Future[Any] | None = None
        self._shut = False
        if self.app is not None:
            self.app.steps["consumer"].add("workers.pool.gate:GateStep")

    # --- Celery's contract

    def on_start(self) -> None:
        """Start the loop and whatever the runtime hooked on; in the main thread, before the broker is connected."""
        self._does_debug = False  # Celery would log each message's headers and body
        if self.app is not None:
            refuse_tasks(self.app)
            # Made here, in the main thread: with `result_backend_thread_safe` every job's thread shares it.
            _ = self.app.backend
        self._loop_thread.start()
        self._hooks.pool[:] = [self]
        for hook in self._hooks.on_start:
            try:
                self._loop_thread.run(_awaited(hook), START_S)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is told in one line
                self._shut_down(drain_s=0.0)
                refuse(f"{getattr(hook, '__qualname__', hook)} failed: {type(exc).__name__}: {exc}")
        worker_shutting_down.connect(self._on_shutting_down, weak=False)
        spare_what_stays()

    def did_start_ok(self) -> bool:
        """Whether the loop runs."""
        return self._loop_thread.alive

    def register_with_event_loop(self, loop: Any) -> None:
        """Keep Celery's hub, which must be woken whenever a job was accepted or ended.

        Celery calls this as it begins to consume, and takes the timer away when the connection is lost.
        """
        self._hub = loop
        self._on_turn()
        loop.call_repeatedly(_TURN_S, self._on_turn)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        error_callback: Callable[..., Any] | None = None,
        timeout_callback: Callable[..., Any] | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        correlation_id: str | None = None,
        **_: Any,
    ) -> Job:
        """Admit a job. The message of a job that comes after the pool was closed stays unacknowledged."""
        task = self.app.tasks.get(args[0]) if self.app is not None and args else None
        order = Order(
            target=target,
            args=args or (),
            kwargs=kwargs or {},
            task_id=correlation_id or "",
            accept_callback=accept_callback or nothing,
            callback=callback or nothing,
            error_callback=error_callback or nothing,
            timeout_callback=timeout_callback or nothing,
            soft_s=soft_timeout or self.options.get("soft_timeout"),
            hard_s=timeout or self.options.get("timeout"),
            accept_late=bool(getattr(task, "accept_late", False)),
            acks_late=bool(getattr(task, "acks_late", False)),
            bridged=isinstance(task, LoopTask),
        )
        job = Job(next(self._numbers), order, self, contextvars.copy_context())
        self._admit(job)
        return job

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """End the job that was accepted as `pid`; Celery announces it next. Unknown numbers are over already."""
        job = self._slots.find(pid)
        if job is not None:
            job.announce_begins(signal)

    def grow(self, n: int = 1) -> None:
        """Add `n` slots."""
        self._resize(n)

    def shrink(self, n: int = 1) -> None:
        """Remove `n` slots as they become free. Raises ValueError below one slot."""
        self._resize(-n)

    @property
    def num_processes(self) -> int:
        """The bound, which `worker_disable_prefetch` compares with the reserved requests."""
        return self._slots.limit

    def on_close(self) -> None:
        """Begin the shutdown: take nothing more, ask the runs to hand over."""
        self._begin_drain()

    def on_stop(self) -> None:
        """Wait for the jobs, bounded, then stop. Celery calls it after `on_close`, or alone from SIGQUIT's handler."""
        self._begin_drain()
        cold = bool(state.should_terminate)
        self._shut_down(0.0 if cold else self._drain_s)

    def on_terminate(self) -> None:
        """Stop without a drain."""
        self._begin_drain()
        self._shut_down(drain_s=0.0)

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        info.update(
            {
                "max-concurrency": self._slots.limit,
                "threads": len(self._threads),
                "running": self._slots.running,
                "waiting": self._slots.waiting,
                "zombies": len(self.zombies),
                "loop": type(self.loop).__module__.partition(".")[0],
                "hub-wakes": self.hub_pokes,
                "loop-lag-ms": round(self._loop_thread.lag_s * 1000, 1),
            }
        )
        return info

    # --- for the rest of the service

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the process; it runs from `on_start` on."""
        return self._loop_thread.loop

    @property
    def lag_s(self) -> float:
        """How late the loop is."""
        return self._loop_thread.lag_s

    @property
    def silent_s(self) -> float | None:
        """Seconds since the hub last turned while it consumed."""
        return None if self._turned_at is None else time.monotonic() - self._turned_at

    def slots(self) -> dict[str, int]:
        """Return the bound, and how many jobs hold a slot or wait for one."""
        return {"limit": self._slots.limit, "running": self._slots.running, "waiting": self._slots.waiting}

    # --- for its jobs (`job.Host`)

    def on_loop(self, function: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> bool:
        """Run a function in the loop's thread; False if the loop is closed."""
        return self._loop_thread.call(function, *args, context=context)

    def in_thread(self, function: Callable[[], None]) -> None:
        """Run a function in a thread that is not the caller's."""
        self._threads.run(function)

    def later(self, seconds: float, function: Callable[[], None]) -> Callable[[], object]:
        """Run a function in such a thread after `seconds`; return what takes that back."""
        timers: list[asyncio.TimerHandle] = []
        # Both go through the loop's queue, in order, so the timer exists when it is taken back.
        self.on_loop(lambda: timers.append(self.loop.call_later(seconds, self._threads.run, function)))
        return lambda: self.on_loop(lambda: timers[0].cancel())

    def poke(self) -> None:
        """Wake the hub: it fetches only while requests are below the bound, and looks only when it wakes.

        With early ack nothing else would tell it that a job ended: it slept up to a second for each.
        """
        if self._hub is not None:
            self._hub.call_soon(self._nudge)

    def withdraw(self, job: Job) -> bool:
        """Take a job out of the waiting line; False if it does not wait."""
        return self._slots.withdraw(job)

    def over(self, job: Job) -> None:
        """Free the job's slot."""
        self._slots.leave(job)
        self.poke()

    # --- inside

    @property
    def _hooks(self) -> PoolHooks:
        return hooks_of(self.app) if self.app is not None else PoolHooks()

    @property
    def _drain_s(self) -> float:
        return float(self.app.conf.get("fw_drain_s", DRAIN_S)) if self.app is not None else DRAIN_S

    def _resize(self, by: int) -> None:
        self._slots.resize(by)
        self.limit = self._slots.limit
        self.poke()

    def _start_job(self, job: Job) -> None:
        self._threads.run(job.run)

    def _admit(self, job: Job) -> None:
        gate = self.gate
        if gate is not None and self._slots.full:
            # Under way while the consumer was cancelled. Waiting here it would be unacknowledged and out of every
            # other worker's reach.
            job.decline(Reject("the worker is full", requeue=True))
            return
        self._slots.admit(job)
        if gate is not None:
            gate.balance()

    def _on_turn(self) -> None:
        self._turned_at = time.monotonic()

    def _on_nudge(self) -> None:
        self.hub_pokes += 1
        gate = self.gate
        if gate is not None and not self._shut:
            gate.balance()

    def _on_shutting_down(self, **_: Any) -> None:
        """Begin at the signal, in its handler; the hub would learn of it only when it wakes."""
        self._begin_drain()
        self.on_loop(self.poke)

    def _begin_drain(self) -> None:
        if self._drained is not None:
            return
        self._drained = Future()
        self._slots.close()
        if self._loop_thread.alive:
            self._drained = asyncio.run_coroutine_threadsafe(self._run_drain_hooks(), self.loop)

    async def _run_drain_hooks(self) -> None:
        done = await asyncio.gather(*(hook() for hook in self._hooks.on_drain), return_exceptions=True)
        _log_errors("on_drain", done)

    def _shut_down(self, drain_s: float) -> None:
        """Wait, cancel, abandon, stop: each bounded, each harmless when repeated or interrupted by a second signal."""
        until = time.monotonic() + drain_s
        if not self._wait_empty(until):
            for job in self._slots.jobs():
                job.stop(StopReason.SHUTDOWN, "the worker shuts down")
            if not self._wait_empty(time.monotonic() + CANCEL_S):
                for job in self._slots.jobs():
                    logger.warning("%s does not stop; leaving it behind", job.task_id)
                    job.abandon()
                self._wait_empty(time.monotonic() + CANCEL_S)
        if self._shut:
            return
        self._shut = True
        worker_shutting_down.disconnect(self._on_shutting_down)
        if self._drained is not None:
            wait([self._drained], max(0.0, until - time.monotonic()))
        self._run_stop_hooks()
        self._loop_thread.stop(_JOIN_S)

    def _wait_empty(self, until: float) -> bool:
        """Wait for the jobs while keeping the hub's timers going: the broker expects heartbeats during a drain."""
        while not self._slots.wait_empty(min(_HUB_TIMERS_S, max(0.0, until - time.monotonic()))):
            if time.monotonic() >= until:
                return False
            self._fire_hub_timers()
        return True

    def _fire_hub_timers(self) -> None:
        if self._hub is None:
            return
        try:
            self._hub.fire_timers()
        except Exception as exc:  # noqa: BLE001 - a shutdown goes on
            logger.debug("a timer of the hub raised during the drain: %r", exc)

    def _run_stop_hooks(self) -> None:
        if not self._loop_thread.alive:
            return
        try:
            self._loop_thread.run(self._stop_hooks(), STOP_S)
        except Exception as exc:  # noqa: BLE001 - a shutdown goes on
            logger.warning("the stop hooks did not end: %r", exc)

    async def _stop_hooks(self) -> None:
        for hook in reversed(self._hooks.on_stop):
            _log_errors("on_stop", await asyncio.gather(hook(), return_exceptions=True))


async def _awaited(hook: Callable[[], Any]) -> None:
    await hook()


def _log_errors(where: str, results: Iterable[object]) -> None:
    for result in results:
        if isinstance(result, BaseException):
            logger.error("a hook of %s raised %r", where, result)
