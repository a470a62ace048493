"""The load of the empty runs and of the no-op: everything is queued while the worker stands still, then it works.

So the worker is measured at work, not at waiting for a producer, and both get the same: no pace of this process is in
the figures.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from celery import Celery
from redis import Redis

from api_contracts import keys
from api_contracts.client import Client
from api_contracts.names import queue_of
from benchmarks.cpu import exact_cpu_s
from benchmarks.names import EMPTY, NOOP

_WITHIN_S = 300.0
_MESSAGES = [{"role": "user", "content": "Nothing, please."}]


class Load:
    """Queues work for one worker and tells what it cost. Close it at the end."""

    def __init__(self, env: Mapping[str, str], pid: int) -> None:
        self._pid = pid
        self._redis = Redis.from_url(env["FW_REDIS_URL"])
        self._client = Client(redis_url=env["FW_REDIS_URL"], lost_message_s=_WITHIN_S)
        self._app = Celery(broker=env["FW_REDIS_URL"], backend=env["FW_REDIS_URL"], set_as_current=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._app.close()
        self._redis.close()

    def empty_runs(self, count: int) -> float:
        """Return the worker's CPU seconds for `count` empty runs, each whole: announced, and looked at no more."""
        ran: list[str] = []

        def put() -> None:
            ran.extend(self._client.chat.submit(model=EMPTY, messages=_MESSAGES) for _ in range(count))

        spent = self._spent(put, lambda: self._due() == 0)
        told = self._results(ran)
        if told != count or any(
            self._client.chat.result(run_id).status != "completed" for run_id in ran[:: count // 10]
        ):
            raise RuntimeError(f"{count - told} empty runs have no result, or some went wrong")
        return spent

    def noops(self, count: int) -> float:
        """Return the worker's CPU seconds for `count` no-op tasks, results included."""
        sent: list[str] = []

        def put() -> None:
            sent.extend(self._app.send_task(NOOP, queue=queue_of("chat")).id for _ in range(count))

        return self._spent(put, lambda: self._results(sent) == count)

    def _spent(self, put: Callable[[], None], done: Callable[[], bool]) -> float:
        with _standing(self._pid):
            put()
            before = exact_cpu_s(self._pid)
        until = time.monotonic() + _WITHIN_S
        while not done():
            if time.monotonic() > until:
                raise RuntimeError("the worker did not come to the end of its work")
            time.sleep(0.05)
        return exact_cpu_s(self._pid) - before

    def _due(self) -> int:
        """Return how many runs are still looked at: those that are not over, or over and not announced."""
        pipe = self._redis.pipeline(transaction=False)
        for slot in keys.SLOTS:
            pipe.zcard(keys.due(slot))
        return sum(pipe.execute())

    def _results(self, ids: list[str]) -> int:
        backend = self._app.backend
        return sum(
            self._redis.exists(*(backend.get_key_for_task(task_id) for task_id in ids[at : at + 1000]))
            for at in range(0, len(ids), 1000)
        )


@contextmanager
def _standing(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
