"""The Celery message of a submission. The app has no result backend: an AsyncResult each would subscribe."""

import logging
from typing import Any, Final

from amqp.exceptions import MessageNacked
from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from api_contracts.client.signed_amqp import KEYS, SignedAmqp
from api_contracts.client.submission import Submission
from api_contracts.names import CONTROL_QUEUE, HIDDEN, WAKE
from api_contracts.signing import SigningKeys

_log = logging.getLogger(__name__)

_CONFIRM_S: Final = 5
"""RabbitMQ confirms within milliseconds; one that is blocked by an alarm does not until that ends."""

_BOUNDS: Final = {"socket_timeout": 5, "socket_connect_timeout": 5, "socket_keepalive": True}
"""A line to Redis that is half open answers nothing: without a bound whoever submits would wait for ever."""

_AWAY = (OperationalError, KombuError, OSError, MessageNacked)
_RETRY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 0.5}


class Publisher:
    """Sends messages of recorded runs. Safe to use from several threads.

    On RabbitMQ a message was sent when the broker confirmed it: without that, one that only reached a socket counts.
    """

    def __init__(self, broker_url: str, keys: SigningKeys) -> None:
        self._app = Celery(
            "fireworks-client", broker=broker_url, backend="disabled", set_as_current=False, amqp=SignedAmqp
        )
        options = _BOUNDS if broker_url.startswith("redis") else {"confirm_publish": True}
        self._app.conf.update(
            {
                "task_serializer": "json",
                "accept_content": ["json"],
                "broker_transport_options": options,
                KEYS: keys,
            }
        )

    def publish(self, submission: Submission, options: dict[str, Any]) -> bool:
        """Send; return False when the broker is away. The run is recorded, so a worker's sweep sends it then."""
        try:
            self._send(
                submission.task,
                kwargs={"request": {"stored": submission.digest}},
                task_id=submission.run_id,
                queue=submission.queue,
                argsrepr="()",
                kwargsrepr=HIDDEN,
                **options,
            )
        except _AWAY as exc:
            _log.warning("run %s is recorded but not announced: the broker is away (%s)", submission.run_id, exc)
            return False
        return True

    def wake(self, run_id: str) -> bool:
        """Have a worker ring for a parked run that was sent a signal; return False when the broker is away: a worker's
        sweep does it then."""
        try:
            self._send(
                WAKE,
                kwargs={"run_id": run_id},
                queue=CONTROL_QUEUE,
            )
        except _AWAY as exc:
            _log.warning("run %s is signalled but not woken: the broker is away (%s)", run_id, exc)
            return False
        return True

    def _send(self, task: str, **message: Any) -> None:
        """Send. After a line that broke at the wrong moment kombu may publish on a channel that it took apart, which it
        notices by an AttributeError, and makes another the next time.
        """
        message |= {"retry": True, "retry_policy": _RETRY, "confirm_timeout": _CONFIRM_S}
        try:
            self._app.send_task(task, **message)
        except AttributeError:
            self._app.send_task(task, **message)

    def close(self) -> None:
        """Close the connections."""
        self._app.close()
