"""What every app of these tests has in common; it comes in by the environment of the worker's process."""

import os
from typing import Any

from celery import Celery

from workers import transport

BROKER = "FW_CONTRACT_BROKER"
RESULTS = "FW_CONTRACT_RESULTS"
QUEUE = "FW_CONTRACT_QUEUE"
DRAIN = "FW_CONTRACT_DRAIN_S"
START = "FW_CONTRACT_START"


def make_app(broker: str, results: str, queue: str, **kwargs: Any) -> Celery:
    """An app as the product configures it, on a queue of the test's own."""
    transport.install()
    app = Celery("contract", broker=broker, backend=results, set_as_current=False, **kwargs)
    app.conf.update(
        worker_pool="workers.pool:TaskPool",
        task_default_queue=queue,
        task_default_exchange=queue,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,
        result_backend_thread_safe=True,
        result_expires=300,
        # redis-py makes at most 100 by itself and then raises: a task whose result that hits has failed.
        redis_max_connections=1000,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        accept_content=["json"],
        timezone="UTC",
    )
    return app


def app_of_this_process(**kwargs: Any) -> Celery:
    """The app of a worker's process."""
    app = make_app(os.environ[BROKER], os.environ[RESULTS], os.environ[QUEUE], **kwargs)
    app.conf.fw_drain_s = float(os.environ.get(DRAIN, "5"))
    return app
