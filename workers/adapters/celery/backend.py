"""Celery's Redis result backend, with one change: no stack trace of ours is stored with a run (RUN-09)."""

from typing import Any

from celery.backends.redis import RedisBackend

from api_contracts.failure import RunFailed, RunIsParked


class RunBackend(RedisBackend):
    """Named in the result backend's URL: `workers.adapters.celery.backend:RunBackend+redis://...`."""

    def mark_as_failure(self, task_id: str, exc: Any, traceback: Any = None, *args: Any, **kwargs: Any) -> None:
        """Store the failure; RUN-09 forbids a trace of ours in it."""
        super().mark_as_failure(task_id, exc, None if isinstance(exc, RunFailed) else traceback, *args, **kwargs)

    def mark_as_retry(self, task_id: str, exc: Any, traceback: Any = None, *args: Any, **kwargs: Any) -> None:
        """Store that the run is parked; where it was raised says nothing."""
        super().mark_as_retry(task_id, exc, None if isinstance(exc, RunIsParked) else traceback, *args, **kwargs)
