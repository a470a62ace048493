"""The process's one event loop, in a thread of its own.

Owns the loop's life and its lag. It must not know jobs, tasks or Celery.
"""

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LAG_EVERY_S: Final = 1.0
_LEFTOVERS_S: Final = 1.0


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop, or asyncio's own where uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class LoopThread:
    """Runs the loop in a daemon thread from `start` to `stop`; both are called once.

    The thread is a daemon because a coroutine that never gives the loop back must not keep the process alive.
    """

    def __init__(self) -> None:
        self.loop = new_event_loop()
        self._lag_s = 0.0
        self._expected: float | None = None
        self._ready = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="fw-loop", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the loop runs."""
        return self._ready.is_set() and self._thread.is_alive()

    @property
    def lag_s(self) -> float:
        """How late the loop was when it was last due, or is by now: a loop that hangs is later from call to call."""
        expected = self._expected
        return self._lag_s if expected is None else max(self._lag_s, time.monotonic() - expected)

    @property
    def ident(self) -> int | None:
        """The loop thread's identifier, as `threading.get_ident` gives it."""
        return self._thread.ident

    def start(self) -> None:
        """Start the thread; return when the loop runs."""
        self._thread.start()
        self._ready.wait()

    def call(self, function: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> bool:
        """Run `function` soon in the loop's thread, from any thread or signal handler; False if the loop is closed."""
        try:
            self.loop.call_soon_threadsafe(function, *args, context=context)
        except RuntimeError:
            return False
        return True

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run a coroutine on the loop and wait for it here; when late, cancel it and raise TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def stop(self, timeout_s: float) -> bool:
        """Stop the loop; return whether its thread ended within `timeout_s`."""
        self._stopping = True
        if self._thread.ident is None:
            self.loop.close()
            return True
        self.call(self.loop.stop)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._ready.set)
        self.loop.call_soon(self._measure, time.monotonic())
        while not self._stopping:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit) as exc:
                # A task that some body spawned raised it, and asyncio lets these two through the loop.
                # One task's bug must not stop everybody's.
                logger.error("a task on the pool's loop raised %r; the loop goes on", exc)
        self._close()

    def _measure(self, expected: float) -> None:
        now = time.monotonic()
        self._lag_s, self._expected = max(0.0, now - expected), now + _LAG_EVERY_S
        self.loop.call_later(_LAG_EVERY_S, self._measure, self._expected)

    def _close(self) -> None:
        leftovers = asyncio.all_tasks(self.loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            self.loop.run_until_complete(asyncio.wait(leftovers, timeout=_LEFTOVERS_S))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
