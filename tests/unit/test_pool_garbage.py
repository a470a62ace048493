"""A job that is over is gone: its message and what that is about are not kept for Python's collector (docs/soak.md)."""

import asyncio
import weakref
from typing import Any

from celery import Celery

from tests.garbage import collector_off
from tests.waiting import eventually
from workers.pool import Job, TaskPool
from workers.pool.executor import DaemonExecutor
from workers.pool.threads import JobThreads


def test_a_job_that_is_over_is_gone_while_its_thread_waits_for_another(app: Celery, pool: TaskPool) -> None:
    @app.task(shared=False)
    async def quick() -> None:
        await asyncio.to_thread(int)

    def tracer(_name: str) -> tuple[int, Any, float]:
        return 0, quick(), 0.0

    def begun() -> "weakref.ref[Job]":
        return weakref.ref(pool.apply_async(tracer, (quick.name,), correlation_id="t"))

    with collector_off():
        for _ in range(3):
            job = begun()
            eventually(lambda job=job: job() is None)  # type: ignore[misc]


def test_a_thread_that_waits_holds_nothing_of_what_it_ran() -> None:
    threads = JobThreads()

    class Work:
        def __call__(self) -> None:
            """Do nothing."""

    def begun() -> "weakref.ref[Work]":
        work = Work()
        threads.run(work)
        return weakref.ref(work)

    with collector_off():
        for _ in range(3):
            work = begun()
            eventually(lambda work=work: work() is None)  # type: ignore[misc]
    assert len(threads) >= 1


def test_what_a_call_raised_is_gone_with_its_future() -> None:
    executor = DaemonExecutor(JobThreads())

    class Broken(Exception):
        """What the call raises."""

    def breaks() -> None:
        raise Broken

    def broken() -> "weakref.ref[BaseException]":
        raised = executor.submit(breaks).exception(10)
        assert isinstance(raised, Broken)
        return weakref.ref(raised)

    with collector_off():
        error = broken()
        eventually(lambda: error() is None)
