"""Celery's Redis result backend, with four changes: no stack trace of ours is stored with a run (RUN-09), nobody but a
run stores a result under a run's id, only the life that parks a run says that it is parked, and who sends a message
waits for no result.
"""

from contextvars import ContextVar
from typing import Any

import structlog
from celery.backends.redis import RedisBackend

from api_contracts.client.scripts import load
from api_contracts.failure import RunFailed, RunIsParked
from api_contracts.keys import RUN_ID, lease
from api_contracts.names import TASK_OF

_log = structlog.get_logger(__name__)
_KINDS = frozenset(TASK_OF.values())
_PARKED = load("workers.adapters.celery", "parked")
_parking: ContextVar[tuple[str, int, str] | None] = ContextVar("fw_parking", default=None)
"""Run id, epoch and owner, while a park is stored."""


class RunBackend(RedisBackend):
    """Named in the result backend's URL: `workers.adapters.celery.backend:RunBackend+redis://...`."""

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:
        """Subscribe to nothing: a worker rings and calls tools, and asks for no result. `get` subscribes when it waits.

        Each message would cost a SUBSCRIBE, and while Redis is away the end of its AsyncResult, wherever the garbage
        collector meets it, twenty seconds of trying again: on the loop, which renews the leases, too.
        """
        return {}

    def mark_as_failure(self, task_id: str, exc: Any, traceback: Any = None, *args: Any, **kwargs: Any) -> None:
        """Store the failure; RUN-09 forbids a trace of ours in it."""
        super().mark_as_failure(task_id, exc, None if isinstance(exc, RunFailed) else traceback, *args, **kwargs)

    def mark_as_retry(self, task_id: str, exc: Any, traceback: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Store that the run is parked; where it was raised says nothing.

        A zombie's word is not stored: the run may have ended under another lease, and nobody would put its end right
        if the zombie died before its park is refused.
        """
        if not isinstance(exc, RunIsParked) or exc.life is None:
            return super().mark_as_retry(task_id, exc, traceback, *args, **kwargs)
        token = _parking.set((task_id, *exc.life))
        try:
            return super().mark_as_retry(task_id, exc, None, *args, **kwargs)
        finally:
            _parking.reset(token)

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Store, but not what another task says under the id of a run: a signal that a producer sent with its run's
        own id, for one. Whoever waits for that id waits for the run.
        """
        task = getattr(request, "task", None)
        if task and task not in _KINDS and RUN_ID.fullmatch(task_id) and self.client.exists(lease(task_id)):
            _log.warning("result.refused", task=task, run_id=task_id)
            return result
        return super()._store_result(task_id, result, state, traceback, request, **kwargs)

    def _set(self, key: Any, value: Any, expires: Any = None) -> None:
        if (parking := _parking.get()) is None:
            super()._set(key, value, expires)
            return
        run_id, epoch, owner = parking
        ttl_s = int(expires or self.expires)
        if not self.client.eval(_PARKED, 2, lease(run_id), key, epoch, owner, value, ttl_s):
            _log.warning("park.untold", run_id=run_id, epoch=epoch)
