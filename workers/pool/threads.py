"""Threads that are used again: one per job in flight, none per job that waits.

Not concurrent.futures: the interpreter joins its threads at exit, so one stuck body would keep the process alive.
"""

import logging
import threading
from collections.abc import Callable
from itertools import count
from queue import Empty, SimpleQueue
from typing import Final

logger = logging.getLogger(__name__)

_IDLE_S: Final = 30.0


class JobThreads:
    """Runs each function in an idle thread, or in a new one; an idle thread ends after 30 s. Unbounded: `Slots` bounds.

    The lock guards `_idle` together with the queue: `_idle` is the number of threads in `get` less the number of
    functions queued for them. Changed apart, a thread that gives up waiting could strand a function just queued.
    It is re-entrant because Celery's SIGQUIT handler may end up here while it interrupts this same thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle = 0
        self._alive = 0
        self._numbers = count(1)

    def __len__(self) -> int:
        return self._alive

    def run(self, function: Callable[[], None]) -> None:
        """Run `function`, which must not raise, in a thread of its own, now."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._queue.put(function)
                return
            self._alive += 1
        name = f"fw-job-{next(self._numbers)}"
        threading.Thread(target=self._main, args=([function],), name=name, daemon=True).start()

    def _main(self, first: list[Callable[[], None]]) -> None:
        following: Callable[[], None] | None = first.pop()  # a thread keeps what it was begun with, for all its life
        while following is not None:
            try:
                following()
            except BaseException:
                # A thread that died here would be counted for ever.
                logger.exception("a job's thread raised")
            following = None  # it holds a job and what that is about, and the next one may be long in coming
            following = self._next()

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            self._idle += 1
        while True:
            try:
                return self._queue.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if self._queue.empty():
                        self._idle -= 1
                        self._alive -= 1
                        return None
