"""The app with every kind of body that the pool must cope with."""

import asyncio
import gc
import threading
from contextvars import ContextVar
from functools import cache
from typing import Any

from celery import chord
from celery.exceptions import Ignore, ImproperlyConfigured, Reject, Retry, SoftTimeLimitExceeded
from celery.signals import task_prerun

from tests.contract.celery.apps.board import Board
from tests.contract.celery.apps.settings import app_of_this_process
from workers.pool import LoopTask, current_job, hooks_of

app = app_of_this_process(task_cls="workers.pool:LoopTask")
board = Board(app)

bound_before: ContextVar[str] = ContextVar("bound_before", default="")


@task_prerun.connect
def bind(task_id: str, **_: Any) -> None:
    """What structlog does: bind the id at the door and expect it everywhere inside."""
    bound_before.set(task_id)


@cache
def draining() -> asyncio.Event:
    """Set when the shutdown begins; made on first use, which is on the loop."""
    return asyncio.Event()


async def on_drain() -> None:
    draining().set()
    await board.mark(app.conf.task_default_queue, "drain")


async def on_stop() -> None:
    await board.mark(app.conf.task_default_queue, "stop")


hooks_of(app).on_drain.append(on_drain)
hooks_of(app).on_stop.append(on_stop)


async def waits(seconds: float) -> None:
    """Be busy for a while, as a call upstream would be."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        return


@app.task
async def add(x: int, y: int) -> int:
    return x + y


@app.task
def add_in_thread(x: int, y: int) -> int:
    return x + y


@app.task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def starts_a_chord(width: int) -> str:
    joined = chord([add.s(n, n) for n in range(width)], total.s())()
    return str(joined.id)


@app.task
async def brief() -> None:
    await waits(0.05)


@app.task(acks_late=True)
async def brief_late_ack() -> None:
    await waits(0.05)


@app.task
async def long_as(times: int) -> None:
    for _ in range(times):
        await waits(0.05)


@app.task
async def where() -> dict[str, Any]:
    return {
        "loop": type(asyncio.get_running_loop()).__module__,
        "thread": threading.current_thread().name,
        "backend": id(app.backend),
        "spared": gc.get_freeze_count(),
        "young": gc.get_threshold()[0],
    }


@app.task(bind=True)
async def who(self: Any, name: str, crowd: int) -> list[Any]:
    """Answer only when the whole crowd is in here at once."""
    if await board.mark(name, self.request.id) == crowd:
        await board.client.lpush(f"gate:{name}", *range(crowd))
    await board.gate(name)
    job = current_job()
    return [self.request.id, self.request.args[0], job and job.task_id, bound_before.get()]


ESCAPES = {
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": SystemExit,
    "BaseException": BaseException,
}


@app.task
async def escape(name: str) -> None:
    raise ESCAPES[name]("on purpose")


class Noted(LoopTask):
    """A task that hears of its failures, as Celery's tracer tells it."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        board.mark_sync(args[1], type(exc).__name__)


@app.task(base=Noted)
async def escape_noted(what: str, name: str) -> None:
    raise ESCAPES[what]("on purpose")


@app.task
def escape_in_thread(name: str) -> None:
    raise ESCAPES[name]("on purpose")


@app.task
async def spawn_and_escape() -> str:
    async def child() -> None:
        raise SystemExit(3)

    task = asyncio.create_task(child())
    await asyncio.wait([task])
    return type(task.exception()).__name__


@app.task(bind=True)
async def hold(self: Any, name: str) -> str:
    """Start, and wait for the gate; say so if cancelled."""
    await board.mark(name, "started")
    try:
        await board.gate(name)
    except asyncio.CancelledError:
        await board.mark(name, f"cancelled {current_job().stopping.name}")
        raise
    await board.mark(name, "done")
    return "held"


@app.task(acks_late=True)
async def hold_late_ack(name: str) -> str:
    await board.mark(name, "started")
    await board.gate(name)
    await board.mark(name, "done")
    return "held"


@app.task
async def stubborn(name: str) -> None:
    """Swallow every cancellation until the gate opens."""
    await board.mark(name, "started")
    opened = asyncio.ensure_future(board.gate(name))
    while not opened.done():
        try:
            await asyncio.shield(opened)
        except asyncio.CancelledError:
            await board.mark(name, "swallowed")


@app.task
def hold_in_thread(name: str) -> str:
    board.mark_sync(name, "started")
    board.gate_sync(name)
    board.mark_sync(name, "done")
    return "held"


@app.task
async def hold_beside(name: str) -> None:
    """What a query does that never comes back."""
    await board.mark(name, "started")
    await asyncio.to_thread(board.gate_sync, name)


@app.task
async def softened(name: str) -> str:
    try:
        await asyncio.Event().wait()
    except SoftTimeLimitExceeded:
        await waits(0.01)  # cleaning up may await
        await board.mark(name, "cleaned")
        return "in time"
    return "never"


@app.task(accept_late=True)
async def accepts_itself(name: str) -> list[Any]:
    job = current_job()
    assert job is not None
    before = job.accepted
    await board.mark(name, "leased")
    await board.gate(name)
    await job.accept_async()
    await job.accept_async()
    job.accept()
    job.on_outcome(lambda outcome: board.mark_sync(name, f"outcome {outcome.kind.name}"))
    await board.mark(name, "accepted")
    return [before, job.accepted]


@app.task(accept_late=True)
async def refused(name: str) -> None:
    job = current_job()
    assert job is not None
    job.on_outcome(lambda outcome: board.mark_sync(name, f"outcome {outcome.kind.name}"))
    raise Ignore("held by another")


@app.task(accept_late=True)
async def requeued_once(name: str) -> str:
    if await board.mark(name, "tried") == 1:
        raise Reject("no lease", requeue=True)
    return "second time"


@app.task(bind=True, accept_late=True)
async def parked(self: Any, name: str) -> None:
    await board.mark(name, f"retries {self.request.retries}")
    raise Retry("parked: approval")


@app.task
async def calls_another() -> str:
    try:
        add(1, 2)
    except ImproperlyConfigured as exc:
        return type(exc).__name__
    return "called"


@app.task
async def hands_over(name: str) -> str:
    """Wait for the drain, as a run does, then end by itself."""
    await board.mark(name, "started")
    await draining().wait()
    await board.mark(name, "handed over")
    return "handed over"
