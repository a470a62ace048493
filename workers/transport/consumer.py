"""Celery's consumer with a guard: a message that breaks a rule is buried before anything looks into it.

Selected by `worker_consumer`; the same on every broker. Celery's own answers to bad messages print their content into
the log; here each becomes a dead letter and one line without content.
"""

import base64
import json
import time
from collections.abc import Callable
from typing import Any, Final

import redis
import structlog
from celery.app.task import Context
from celery.exceptions import NotRegistered
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.utils.encoding import str_to_bytes

from api_contracts.client.signed_amqp import KEYS
from api_contracts.keys import RUN_ID, lease
from api_contracts.signing import NO_KEYS
from workers.transport import letters
from workers.transport.channel import Channel
from workers.transport.inspection import MESSAGE_BYTES, Arrived, Rules
from workers.transport.letters import MAX_ENTRY_BYTES, Letter, Reason, Refused

PATH: Final = "workers.transport.consumer:Consumer"
MESSAGE_BYTES_KEY: Final = "fw_message_bytes"
"""The app's configuration key with the bound of a body."""

_TELL_EACH_S: Final = 0.1
"""How long an event of a task (Flower, `celery events`) waits for others."""
_LETTER_S: Final = 2.0
"""How long Redis may take for a dead letter: the hub waits."""

_log = structlog.get_logger(__name__)


class Consumer(CeleryConsumer):
    """Takes what `Rules` allow and buries the rest."""

    _letter_redis: "redis.Redis | None" = None
    _told_by = 0.0

    def on_send_event_buffered(self) -> None:
        """Tell of tasks some times a second. Celery's own publishes for each of a task's three events, in the hub's
        very next turn: a third of what a worker's main thread did for a run."""
        if self.hub:
            self.hub.call_soon(self._tell_soon)

    def _tell_soon(self) -> None:
        now = time.monotonic()
        if now >= self._told_by:  # a time that passed without a word went down with its connection
            self._told_by = now + _TELL_EACH_S
            self.hub.call_later(_TELL_EACH_S, self._flush_events)

    def shutdown(self) -> None:
        """Tell of what ended last, then go."""
        self._flush_events()
        super().shutdown()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Return what is called with each message of a queue."""
        take = super().create_task_handler(*args, **kwargs)
        conf = self.app.conf
        rules = Rules(conf.get(MESSAGE_BYTES_KEY) or MESSAGE_BYTES, conf.get(KEYS) or NO_KEYS)

        def take_checked(message: Any) -> None:
            try:
                rules.check(_arrived(message))
            except Refused as refused:
                self._refuse(message, refused)
            else:
                take(message)

        return take_checked

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Bury what kombu could not make a message of."""
        compressed = bool((getattr(message, "headers", None) or {}).get("compression"))
        reason: Reason = "compressed" if compressed else "malformed"
        self._refuse(message, Refused(reason, f"{reason}: kombu could not decode it ({type(exc).__name__})"))

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Bury what is no task."""
        self._refuse(message, Refused("malformed", "it is no task message"))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Bury a task that this worker does not have, and tell its sender so, as Celery does."""
        task, task_id = message.headers["task"], message.headers["id"]
        self._refuse(message, Refused("unknown_task", "unknown task: this worker has none of that name"))
        if self._is_run(task_id):
            return  # what its caller waits for is the run's own end
        request = Context({"task": task, "id": task_id, "root_id": message.headers.get("root_id"), "errbacks": None})
        self.app.backend.mark_as_failure(task_id, NotRegistered(task), request=request)

    def _is_run(self, task_id: str) -> bool:
        """Whether a run of ours has this id; yes while that cannot be known."""
        try:
            return RUN_ID.fullmatch(task_id) is not None and bool(self._letters().exists(lease(task_id)))
        except redis.RedisError:
            return True

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Bury a task that Celery finds fault with."""
        self._refuse(message, Refused("malformed", f"malformed: {type(exc).__name__}"))

    def _refuse(self, message: Any, refused: Refused) -> None:
        if isinstance(message.channel, Channel):
            message.channel.bury(message, refused)
        else:
            self._bury(message, refused)
        message.ack_log_error(_log, self.connection_errors)

    def _bury(self, message: Any, refused: Refused) -> None:
        """Bury a message of a broker that is not Redis. If Redis is away the letter is lost; the log has its reason."""
        try:
            letters.bury(self._letters(), _letter(message), refused)
        except redis.RedisError as exc:
            _log.error("message.letter_lost", error=type(exc).__name__)

    def _letters(self) -> "redis.Redis":
        """Return a client of the journals' Redis that does not hold up the hub."""
        if self._letter_redis is None:
            pool = self.app.backend.client.connection_pool
            patience = {"socket_timeout": _LETTER_S, "socket_connect_timeout": _LETTER_S}
            options = {**pool.connection_kwargs, **patience}
            self._letter_redis = redis.Redis(
                connection_pool=redis.ConnectionPool(pool.connection_class, max_connections=2, **options)
            )
        return self._letter_redis


def _arrived(message: Any) -> Arrived:
    return Arrived(message.headers, message.properties, message.content_type, _bytes_of(message.body))


def _bytes_of(body: Any) -> bytes:
    """Return the body as it was on the wire; py-amqp makes text of some."""
    return bytes(body) if isinstance(body, bytes | bytearray | memoryview) else str_to_bytes(body or "")


def _letter(message: Any) -> Letter:
    """Return the letter in the form of an entry of Redis: an operator can send it again by hand."""
    body, headers = _bytes_of(message.body), message.headers
    shown = {
        "content-type": message.content_type,
        "content-encoding": message.content_encoding,
        "headers": headers,
        "properties": {"body_encoding": "base64", "delivery_info": {"routing_key": _queue(message)}},
        "body": base64.b64encode(body[:MAX_ENTRY_BYTES]).decode(),
    }
    entry = json.dumps(shown, default=repr).encode()
    return Letter(_queue(message), entry, len(body), str(headers.get("task", "")), str(headers.get("id", "")))


def _queue(message: Any) -> str:
    return str(message.delivery_info.get("routing_key"))
