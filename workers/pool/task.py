"""The base class of the app's tasks, and the check that refuses tasks which this worker could not run.

Owns the step from the tracer into the job. Everything else is the job's.
"""

import inspect
import logging
from typing import Any, Final

from celery import Celery, Task, bootsteps
from celery.exceptions import ImproperlyConfigured

from workers.pool.job import current_job

logger = logging.getLogger(__name__)

POOL: Final = "workers.pool:TaskPool"

_NEEDS_POOL: Final = 'async tasks need worker_pool = "workers.pool:TaskPool" in the app\'s configuration'


class QuietTask(Task):
    """A task that Celery tells of without its arguments and result; the base of every task of the app."""

    Request = "workers.pool.request:QuietRequest"


class LoopTask(QuietTask):
    """A task whose body may be `async def`: it runs on the pool's loop; a plain function runs in the job's thread.

    The unmodified tracer calls it and gets the value, so results, links, chains and signals are Celery's own. On any
    other pool an async body is refused, at the worker's start and again here. A task must not be called from inside
    another one's body; await its `run` instead. `autoretry_for` does not see what a coroutine raises and is refused.
    """

    accept_late: bool = False
    """False: the pool tells Celery that the task is accepted as its body begins. True: the body does, through
    `current_job().accept_async()`, and the message stays unacknowledged until then."""

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Make every worker of this app check its pool."""
        app.steps["worker"].add("workers.pool.task:PoolCheck")

    @property
    def request(self) -> Any:
        """The request context, in the coroutine too: Celery keeps it by thread, where the coroutine is not."""
        job = current_job()
        if job is not None and job.request is not None and job.request.task == self.name:
            return job.request
        return super().request

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body for the tracer; elsewhere only a plain function may be called."""
        job = current_job()
        if job is not None and job.begin(super().request):
            return job.perform(self.run, args, kwargs)
        if is_async(self):
            raise ImproperlyConfigured(f"{_NEEDS_POOL}; {self.name} was called outside of it")
        return super().__call__(*args, **kwargs)


class PoolCheck(bootsteps.Step):
    """Ends the worker at its start if it has async tasks and another pool than ours."""

    requires: Any = ("celery.worker.components:Pool",)

    def create(self, worker: Any) -> None:
        """Log one line and exit with code 1."""
        pool = f"{type(worker.pool).__module__}:{type(worker.pool).__qualname__}"
        names = sorted(name for name, task in worker.app.tasks.items() if is_async(task))
        ours = any(f"{c.__module__}:{c.__qualname__}" == _OURS for c in type(worker.pool).__mro__)
        if names and not ours:
            refuse(f"{_NEEDS_POOL}; this worker runs {pool} and has {', '.join(names)}")


_OURS: Final = "workers.pool.taskpool:TaskPool"


def is_async(task: Any) -> bool:
    """Whether the task's body is a coroutine function, also behind `autoretry_for`."""
    return inspect.iscoroutinefunction(inspect.unwrap(getattr(task, "_orig_run", task.run)))


def refuse_tasks(app: Celery) -> None:
    """Exit if a task would be taken for done although its coroutine never ran, or would lose its retries."""
    for name, task in app.tasks.items():
        if not is_async(task):
            continue
        if not isinstance(task, LoopTask):
            refuse(f"{name} is async but not a LoopTask: give it base=workers.pool.LoopTask")
        if hasattr(task, "_orig_run"):
            refuse(f"{name} is async and has autoretry_for, which cannot see what a coroutine raises")


def refuse(why: str) -> None:
    """Log the one line and leave with exit code 1."""
    logger.critical("the worker does not start: %s", why)
    raise SystemExit(1)
