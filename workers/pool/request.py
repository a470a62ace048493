"""Celery's request without its content: what the events, `inspect`, Flower and the logs tell of a task.

A producer of another service renders the arguments into the message's headers itself (`argsrepr`, `kwargsrepr`), and
Celery repeats them wherever it speaks of the task. So they are replaced where the message comes in, once for all.
"""

from typing import Any

from celery.worker.request import Request
from celery.worker.state import requests

from api_contracts.names import HIDDEN


class QuietRequest(Request):
    """A request whose arguments and result are known to its task only. Named by `Task.Request`."""

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        self._argsrepr = HIDDEN if self._args else "()"
        self._kwargsrepr = HIDDEN if self._kwargs else "{}"
        # The tracer's copy: an empty text would have it render the arguments anew.
        self._request_dict.update(argsrepr=self._argsrepr, kwargsrepr=self._kwargsrepr)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what `inspect` shows; the true arguments are never among it."""
        shown: dict[str, Any] = super().info(safe=True)
        return shown

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name for it
        """Send an event of this task."""
        super().send_event(type, **(fields | {"result": HIDDEN} if "result" in fields else fields))


class PatientRequest(QuietRequest):
    """A request that Celery does not discard when it has expired: its task decides what that means.

    Celery would also put the id into the process's set of revoked tasks, where no later message of it gets past.
    """

    def maybe_expire(self) -> bool:
        """Return False: never of itself."""
        return False


def send_event_of(task_id: str, type_: str, **fields: Any) -> bool:
    """Send an event of a task that this worker has, after those that Celery has sent of it; False if it has it not.

    `Task.send_event` uses a connection of its own and so overtakes what waits in the worker's dispatcher.
    """
    request = requests.get(task_id)
    if request is None:
        return False
    request.send_event(type_, **fields)
    return True
