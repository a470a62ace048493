"""What `asyncio.to_thread` runs on: the pool's own threads, bounded.

asyncio's default executor makes threads that the interpreter joins at its exit: one query that never returns, and a
worker that was told to stop would stay for ever. These are daemons.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any, Final

from workers.pool.slots import Slots
from workers.pool.threads import JobThreads

MAX_CALLS: Final = 64
"""Calls at once; more wait in order. asyncio's own bound is the number of cores plus four, which starves SQL."""


class DaemonExecutor(ThreadPoolExecutor):
    """An executor on `JobThreads`; a ThreadPoolExecutor only because asyncio insists on one."""

    def __init__(self, threads: JobThreads, max_calls: int = MAX_CALLS) -> None:
        super().__init__(max_workers=1)
        self._calls: Slots[_Call] = Slots(max_calls, lambda call: threads.run(call.run))
        self._numbers = count(1)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn` in a thread; the future is cancelled if the executor was shut down before."""
        call = _Call(next(self._numbers), partial(fn, *args, **kwargs), self._calls)
        future = call.future
        if not self._calls.admit(call):
            future.cancel()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Start no more calls; those that run are not waited for."""
        self._calls.close()


class _Call:
    def __init__(self, pid: int, function: Callable[[], Any], calls: "Slots[_Call]") -> None:
        self.pid = pid
        self.future: Future[Any] = Future()
        self._function = function
        self._calls = calls

    def run(self) -> None:
        try:
            if self.future.set_running_or_notify_cancel():
                self._set()
        finally:
            del self.future  # an error that it has leads by these frames to this call, and would be held by itself
            self._calls.leave(self)

    def _set(self) -> None:
        try:
            self.future.set_result(self._function())
        except BaseException as exc:  # noqa: BLE001 - as the stock executor: whoever awaits gets it
            self.future.set_exception(exc)
