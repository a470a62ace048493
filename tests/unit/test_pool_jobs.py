"""The pool with an app but without a worker: jobs against jobs, signals against ends."""

import asyncio
import contextvars
import random
import threading
from collections import Counter
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Reject

from tests.waiting import eventually
from workers.pool import BodyAborted, Job, JobOver, Outcome, OutcomeKind, StopReason, TaskPool, current_job
from workers.pool.telling import Order


class Book:
    """Celery's side: keeps what each job was told, in order."""

    def __init__(self) -> None:
        self.told: dict[str, list[str]] = {}
        self.lock = threading.Lock()

    def note(self, task_id: str, what: str) -> None:
        with self.lock:
            self.told.setdefault(task_id, []).append(what)

    def callbacks(self, task_id: str) -> dict[str, Any]:
        return {
            "correlation_id": task_id,
            "accept_callback": lambda pid, at: self.note(task_id, "accepted"),
            "callback": lambda ending: self.note(task_id, "outcome"),
            "error_callback": lambda einfo: self.note(task_id, type(einfo.exception.exc).__name__),
            "timeout_callback": lambda soft, s: self.note(task_id, "soft" if soft else "hard"),
        }


@pytest.fixture
def book() -> Book:
    return Book()


def apply(pool: TaskPool, book: Book, task: Any, *args: Any, task_id: str = "t", **options: Any) -> Job:
    """Hand a task to the pool as Celery does, with the simplest of tracers."""

    def tracer(_name: str, *given: Any) -> tuple[int, Any, float]:
        return 0, task(*given), 0.0

    return pool.apply_async(tracer, (task.name, *args), **book.callbacks(task_id), **options)


def idle(pool: TaskPool) -> None:
    eventually(lambda: pool.info["running"] == pool.info["waiting"] == 0)


def test_threads_are_used_again(app: Celery, pool: TaskPool, book: Book) -> None:
    @app.task(shared=False)
    async def quick() -> None:
        return

    for number in range(50):
        apply(pool, book, quick, task_id=str(number))
        idle(pool)
    assert pool.info["threads"] < 10
    assert all(told == ["accepted", "outcome"] for told in book.told.values())


def test_the_bound_holds_and_everybody_gets_through(app: Celery, pool: TaskPool, book: Book) -> None:
    inside, most = [0], [0]
    opened = threading.Event()

    @app.task(shared=False)
    async def counted() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        await asyncio.to_thread(opened.wait, 10)
        inside[0] -= 1

    for number in range(12):
        apply(pool, book, counted, task_id=str(number))
    eventually(lambda: inside[0] == 4)
    assert pool.info["waiting"] == 8
    opened.set()
    idle(pool)
    assert len(book.told) == 12
    assert most[0] == 4


def test_terminations_limits_and_ends_at_random_leave_one_outcome_each_and_no_slot_taken(
    app: Celery, pool: TaskPool, book: Book
) -> None:
    seed = random.randrange(1_000_000)
    dice = random.Random(seed)

    async def busy(seconds: float, swallows: bool) -> None:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()
        except (TimeoutError, asyncio.CancelledError) as exc:
            if isinstance(exc, asyncio.CancelledError) and not swallows:
                raise

    @app.task(shared=False, accept_late=True)
    async def late(seconds: float, swallows: bool) -> None:
        job = current_job()
        assert job is not None
        if seconds > 0.01:
            await job.accept_async()
        await busy(seconds, swallows)

    early = app.task(shared=False, name="early")(busy)
    jobs: list[Job] = []
    for number in range(300):
        how = {"task_id": str(number), "timeout": dice.choice([None, 0.01, 0.02])}
        task = dice.choice([late, early])
        jobs.append(apply(pool, book, task, dice.uniform(0, 0.02), dice.random() < 0.3, **how))
        if dice.random() < 0.4:
            terminate(pool, dice.choice(jobs))
    idle(pool)
    eventually(lambda: pool.info["zombies"] == 0)
    for task_id, told in book.told.items():
        count = Counter(told)
        assert count["accepted"] <= 1, (seed, task_id, told)
        assert count["outcome"] + count["hard"] + count["Terminated"] <= 1, (seed, task_id, told)


def terminate(pool: TaskPool, job: Job) -> None:
    """What Request.terminate does, less the announcement."""
    if job.accepted:
        pool.terminate_job(job.pid, 15)
    job.terminate(15)


def test_a_failing_target_is_told_and_frees_the_slot(app: Celery, pool: TaskPool, book: Book) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("the body could not be decoded")

    pool.apply_async(broken, ("unknown",), **book.callbacks("t"))
    idle(pool)
    assert book.told["t"] == ["accepted", "ValueError"]


def test_a_job_is_told_apart_in_its_coroutine_and_its_threads(app: Celery, pool: TaskPool, book: Book) -> None:
    seen: list[bool] = []

    @app.task(shared=False)
    async def looks() -> None:
        job = current_job()
        seen.append(job is not None and await asyncio.to_thread(current_job) is job)

    apply(pool, book, looks)
    idle(pool)
    assert seen == [True]
    assert current_job() is None


def test_outcomes_are_told_to_listeners_last(app: Celery, pool: TaskPool, book: Book) -> None:
    outcomes: list[tuple[Outcome, list[str]]] = []

    @app.task(shared=False)
    async def listens() -> None:
        job = current_job()
        assert job is not None
        job.on_outcome(lambda outcome: outcomes.append((outcome, list(book.told["t"]))))

    apply(pool, book, listens)
    idle(pool)
    assert outcomes == [(Outcome(OutcomeKind.SUCCEEDED), ["accepted", "outcome"])]


def test_a_coroutine_that_outlives_its_job_cannot_accept(app: Celery, pool: TaskPool, book: Book) -> None:
    opened, refused = threading.Event(), threading.Event()

    @app.task(shared=False, accept_late=True)
    async def outlives() -> None:
        job = current_job()
        assert job is not None
        waiting = asyncio.ensure_future(asyncio.to_thread(opened.wait, 10))
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                continue
        try:
            await job.accept_async()
        except JobOver:
            refused.set()

    apply(pool, book, outlives, timeout=0.02)
    eventually(lambda: pool.info["zombies"] == 1)
    assert book.told["t"] == ["accepted", "hard"]
    opened.set()
    assert refused.wait(10)
    eventually(lambda: pool.info["zombies"] == 0)


def test_a_body_cancelled_by_its_own_service_fails(app: Celery, pool: TaskPool, book: Book) -> None:
    errors: list[Exception] = []

    @app.task(shared=False)
    async def waits() -> None:
        job = current_job()
        assert job is not None
        job.cancel("enough")
        await asyncio.Event().wait()

    def tracer(_: str) -> None:
        try:
            waits()
        except Exception as exc:
            errors.append(exc)
            raise

    pool.apply_async(tracer, (waits.name,), **book.callbacks("t"))
    idle(pool)
    assert isinstance(errors[0], BodyAborted)
    assert book.told["t"] == ["accepted", "BodyAborted"]


def test_a_shutdown_does_not_make_a_termination_something_less(pool: TaskPool) -> None:
    job = Job(1, Order(len), pool, contextvars.copy_context())
    job.stop(StopReason.SHUTDOWN, "drain is over")
    assert job.stopping is StopReason.SHUTDOWN
    job.terminate(15)
    job.stop(StopReason.SHUTDOWN, "drain is over")
    assert job.stopping is StopReason.TERMINATED


def test_a_pool_that_was_closed_takes_nothing(app: Celery, pool: TaskPool, book: Book) -> None:
    @app.task(shared=False)
    async def quick() -> None:
        return

    pool.close()
    job = apply(pool, book, quick)
    assert not job.accepted
    assert pool.info["waiting"] == 0
    assert book.told == {}


def test_a_job_refused_at_the_gate_gives_its_message_back(pool: TaskPool, book: Book) -> None:
    order = Order(len, error_callback=lambda einfo: book.note("t", f"requeue {einfo.exception.exc.requeue}"))
    job = Job(1, order, pool, contextvars.copy_context())
    job.decline(Reject("full", requeue=True))
    assert book.told["t"] == ["requeue True"]
    assert not job.accepted
