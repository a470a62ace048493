"""Celery's Redis result backend, with one change: a failed run's result carries its failure and no stack trace."""

from typing import Any

from celery.backends.redis import RedisBackend

from api_contracts.failure import RunFailed


class RunBackend(RedisBackend):
    """Named in the result backend's URL: `workers.adapters.celery.backend:RunBackend+redis://...`."""

    def mark_as_failure(self, task_id: str, exc: Any, traceback: Any = None, *args: Any, **kwargs: Any) -> None:
        """Store the failure; RUN-09 forbids a trace of ours in it."""
        super().mark_as_failure(task_id, exc, None if isinstance(exc, RunFailed) else traceback, *args, **kwargs)
