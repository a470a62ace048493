"""The worker pool: a thread per task runs Celery's tracer and waits, the coroutines share one event loop.

    Celery's hub --on_apply--> Slots --> a thread: accept, tracer, outcome --> Celery's Request
                                              | mailbox ^
                                              v         |
                                          Body on the loop (limits, cancellation, zombies)

The rest of the service uses `LoopTask`, `current_job`, `Outcome` and `hooks_of`; Celery uses `TaskPool`.
"""

from workers.pool.endings import BodyAborted, JobOver, Outcome, OutcomeKind, StopReason
from workers.pool.hooks import Hook, PoolHooks, PoolView, hooks_of
from workers.pool.job import Job, current_job
from workers.pool.request import send_event_of
from workers.pool.task import LoopTask
from workers.pool.taskpool import DRAIN_S, TaskPool

__all__ = [
    "DRAIN_S",
    "BodyAborted",
    "Hook",
    "Job",
    "JobOver",
    "LoopTask",
    "Outcome",
    "OutcomeKind",
    "PoolHooks",
    "PoolView",
    "StopReason",
    "TaskPool",
    "current_job",
    "hooks_of",
    "send_event_of",
]
