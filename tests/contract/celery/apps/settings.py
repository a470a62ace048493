"""What every app of these tests has in common; it comes in by the environment of the worker's process."""

import os
from typing import Any

from celery import Celery

from api_contracts.client.signed_amqp import KEYS, SignedAmqp
from api_contracts.signing import SigningKeys
from workers import transport
from workers.transport.consumer import MESSAGE_BYTES_KEY

BROKER = "FW_CONTRACT_BROKER"
RESULTS = "FW_CONTRACT_RESULTS"
QUEUE = "FW_CONTRACT_QUEUE"
DRAIN = "FW_CONTRACT_DRAIN_S"
START = "FW_CONTRACT_START"
SIGNING_KEYS = "FW_CONTRACT_SIGNING_KEYS"
MESSAGE_BYTES = "FW_CONTRACT_MESSAGE_BYTES"


def make_app(broker: str, results: str, queue: str, **kwargs: Any) -> Celery:
    """An app as the product configures it, on a queue of the test's own."""
    transport.install()
    app = Celery("contract", broker=broker, backend=results, set_as_current=False, amqp=SignedAmqp, **kwargs)
    app.conf.update(
        worker_pool="workers.pool:TaskPool",
        worker_consumer="workers.transport.consumer:Consumer",
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
    most = int(os.environ.get(MESSAGE_BYTES, "0"))
    app.conf.update(
        {
            "fw_drain_s": float(os.environ.get(DRAIN, "5")),
            KEYS: SigningKeys.read(os.environ.get(SIGNING_KEYS, "")),
            MESSAGE_BYTES_KEY: most,
        }
    )
    if most:
        app.conf.broker_transport_options = {"message_bytes": most}
    return app
