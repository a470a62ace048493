"""How many jobs run at once, and which wait.

Owns the concurrency bound. It must not know threads, the loop or Celery: a job is started by the function it is given.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Numbered(Protocol):
    """What the slots need of a job."""

    @property
    def pid(self) -> int:
        """A number that no other job of the process has."""


J = TypeVar("J", bound=Numbered)


class Slots(Generic[J]):
    """At most `limit` jobs hold a slot; the others wait in order, as mere entries of a queue.

    One lock guards the bound: `_holding`, `_waiting`, `_jobs`, `limit` and `_closed` change together or the bound is
    wrong. It is re-entrant because Celery's SIGQUIT handler calls `terminate_job` and `stop` in the main thread,
    possibly while that same thread is inside `admit`. A job is started outside of the lock.
    """

    def __init__(self, limit: int, start: Callable[[J], None]) -> None:
        self.limit = limit
        self._start = start
        self._lock = threading.RLock()
        self._left = threading.Condition(self._lock)
        self._waiting: deque[J] = deque()
        self._holding: set[int] = set()
        self._jobs: dict[int, J] = {}
        self._closed = False

    @property
    def running(self) -> int:
        """Jobs that hold a slot."""
        return len(self._holding)

    @property
    def waiting(self) -> int:
        """Jobs that wait for one."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the next job would have to wait."""
        return len(self._holding) >= self.limit

    def jobs(self) -> list[J]:
        """Return every job that holds a slot, waits or is dying."""
        with self._lock:
            return list(self._jobs.values())

    def find(self, pid: int) -> J | None:
        """Return the job of this number, or None if it is over."""
        return self._jobs.get(pid)

    def admit(self, job: J) -> bool:
        """Start the job, or let it wait; False, and nothing else, after `close`."""
        with self._lock:
            if self._closed:
                return False
            self._jobs[job.pid] = job
            self._waiting.append(job)
        self._fill()
        return True

    def leave(self, job: J) -> None:
        """Give the slot back, at most once; the next job starts."""
        with self._lock:
            if self._jobs.pop(job.pid, None) is None:
                return
            self._holding.discard(job.pid)
            self._left.notify_all()
        self._fill()

    def withdraw(self, job: J) -> bool:
        """Take a waiting job out of the queue; False if it does not wait. It stays known until it leaves."""
        with self._lock:
            try:
                self._waiting.remove(job)
            except ValueError:
                return False
            return True

    def resize(self, by: int) -> None:
        """Change the bound; a smaller one takes effect as jobs leave. Raises ValueError below one."""
        with self._lock:
            if self.limit + by < 1:
                raise ValueError(f"the pool keeps at least one slot: {self.limit} now, asked for {by:+d}")
            self.limit += by
        self._fill()

    def close(self) -> None:
        """Start nothing more, and forget the jobs that wait: their messages are unacknowledged and go back."""
        with self._lock:
            self._closed = True
            while self._waiting:
                self._jobs.pop(self._waiting.popleft().pid, None)
            self._left.notify_all()

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until no job is left; return whether that is so."""
        until = time.monotonic() + timeout_s
        with self._lock:
            while self._jobs:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._left.wait(left)
            return True

    def _fill(self) -> None:
        while True:
            with self._lock:
                if self._closed or not self._waiting or self.full:
                    return
                job = self._waiting.popleft()
                self._holding.add(job.pid)
            self._start(job)
