"""Another service: a plain Celery app with a tool, and the task that a bare task is linked to."""

import os
import time
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from redis import Redis

from benchmarks.names import BACK, BACK_KEY, TOOL

app = Celery("bench", broker=os.environ.get("FW_REDIS_URL"), backend="disabled", set_as_current=False)
app.conf.update(worker_pool="threads", worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
_redis = Redis.from_url(os.environ.get("FW_REDIS_URL", "redis://nowhere.invalid"))


@worker_ready.connect
def say(**_: Any) -> None:
    """Tell the stand: at its own log level a plain worker does not."""
    print("ready.", flush=True)


@app.task(name=TOOL, ignore_result=True)
def look() -> str:
    """Do nothing."""
    return "there"


@app.task(name=BACK, ignore_result=True)
def back(_: Any) -> None:
    """Say when this ran."""
    _redis.rpush(BACK_KEY, time.time())
