"""The Celery app: queues, routes, and every setting with its reason. Reads the environment when first configured."""

import sys
from collections.abc import Sequence
from typing import Any, Final

from celery import Celery, signals

from api_contracts import names
from api_contracts.client import signed_amqp
from workers import beat, telemetry, transport
from workers.adapters.celery import backend
from workers.preflight import checked_settings, role_of
from workers.settings import Settings, read_settings
from workers.transport import consumer

transport.install()

REDIS_ANSWERS_S: Final = 5.0
"""Every command of Celery's takes Redis microseconds: one that takes longer met a line that is dead."""

_PURGE_EVERY_S: Final = 60.0
"""A tick finds nothing, in two short queries, or purges for some seconds."""


def configuration(settings: Settings) -> dict[str, Any]:
    """Return Celery's settings."""
    return (
        _connections(settings)
        | beat.configuration(settings.redis_url)
        | {
            # JSON only: pickle would let whoever reaches the broker run code.
            "task_serializer": "json",
            "result_serializer": "json",
            "event_serializer": "json",
            "accept_content": ["json"],
            "result_accept_content": ["json"],
            # What breaks a rule is buried before it is read: not JSON, too large, unsigned where signing is on.
            "worker_consumer": consumer.PATH,
            consumer.MESSAGE_BYTES_KEY: settings.message_bytes,
            signed_amqp.KEYS: settings.signing,
            "worker_pool": "workers.pool:TaskPool",
            "worker_concurrency": settings.concurrency,
            # A worker takes no more messages than it can start now (RUN-22).
            "worker_disable_prefetch": True,
            "worker_prefetch_multiplier": 1,
            # Celery would widen RabbitMQ's window again after a reconnect, from the thread that acknowledges, which
            # then reads the hub's socket under it: messages were lost until the next connection. The gate does it.
            "worker_enable_prefetch_count_reduction": False,
            # The pool accepts, and so acknowledges, when the run is recorded and leased.
            "task_acks_late": False,
            # Nothing in flight holds an unacknowledged message, so a lost connection has nothing to cancel.
            "worker_cancel_long_running_tasks_on_connection_loss": False,
            # Every queue has an exchange of its own name, on both sides; a queue that `-Q` names is made that way.
            "task_default_queue": names.CONTROL_QUEUE,
            "task_routes": {task: {"queue": names.queue_of(kind)} for kind, task in names.TASK_OF.items()},
            "worker_send_task_events": True,
            "worker_hijack_root_logger": False,
            "worker_redirect_stdouts": False,
            "timezone": "UTC",
            "beat_schedule": _beat(settings),
            "fw_drain_s": settings.drain_s,
        }
    )


def _beat(settings: Settings) -> dict[str, Any]:
    """Return what beat rings for. A tick that nobody took within its period is void: the next one says the same."""
    ticks = {names.BATCH_POLL: max(1.0, settings.poll_s / 3), names.SWEEP: 30.0}
    if settings.sql_retention_s:
        ticks[names.PURGE] = _PURGE_EVERY_S
    return {
        task: {"task": task, "schedule": every_s, "options": {"queue": names.CONTROL_QUEUE, "expires": every_s}}
        for task, every_s in ticks.items()
    }


def _connections(settings: Settings) -> dict[str, Any]:
    backend_class = f"{backend.RunBackend.__module__}:{backend.RunBackend.__qualname__}"
    # A half-open line answers nothing, and the kernel waits for hours. Without a bound the first command on it holds up
    # the hub, and with it the whole worker; a read that waits for messages is noticed by kombu's own check, after
    # 1 s + 2 intervals. A visibility timeout means nothing to early acks.
    redis_options: dict[str, Any] = {
        "socket_keepalive": True,
        "socket_timeout": REDIS_ANSWERS_S,
        "socket_connect_timeout": REDIS_ANSWERS_S,
        "health_check_interval": int(REDIS_ANSWERS_S),
    }
    own_options = redis_options if settings.broker.startswith("redis") else {}
    return {
        "broker_url": settings.broker,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Redis' own; RabbitMQ has heartbeats, on by default, and confirms (workers.transport.confirming).
        "broker_transport_options": own_options | {"message_bytes": settings.message_bytes},
        "result_backend": f"{backend_class}+{settings.redis_url}",
        "result_backend_transport_options": redis_options,
        # One backend for all threads: a connection per thread cost 500 clients for 500 tasks.
        "result_backend_thread_safe": True,
        "result_expires": int(settings.retention_s),
        # A state that cannot be stored is told as a failure, and link_error called, of a run that has ended well.
        "result_backend_always_retry": True,
        "result_backend_max_sleep_between_retries_ms": 1000,
        # redis-py caps a pool at 100 and then raises: results that are stored at the same moment would become failures.
        "redis_max_connections": settings.concurrency + 64,
        "redis_socket_keepalive": True,
        "redis_socket_timeout": REDIS_ANSWERS_S,
        "redis_socket_connect_timeout": REDIS_ANSWERS_S,
        "redis_retry_on_timeout": True,
        "redis_backend_health_check_interval": 25,
    }


def _from_environment() -> dict[str, Any]:
    taken = (names.BATCH_POLL, names.SWEEP, names.PURGE)
    return configuration(checked_settings(role_of(sys.argv), taken=taken))


TASKS = [f"workers.tasks.{name}" for name in ("chat", "stt", "stt_file", "batch", "cite", "control")]


def make_app(include: Sequence[str] = TASKS) -> Celery:
    """Return an app that reads the environment when it is first used; `include` are the modules of its tasks."""
    made = Celery(
        "fireworks-workers",
        set_as_current=True,
        include=include,
        amqp=signed_amqp.SignedAmqp,
        # Celery's own tasks, too, can be sent with content: a `celery.map` of ours, say.
        task_cls="workers.pool.task:QuietTask",
    )
    made.add_defaults(_from_environment)
    return made


app = make_app()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # celery is not typed
def _set_up_logging(loglevel: int | str | None = None, **_: Any) -> None:
    settings = read_settings()
    telemetry.configure(settings.log_level, telemetry.known_secrets(settings))
