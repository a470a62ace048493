"""What tests of the pool share: a pool with an app but without a worker."""

from collections.abc import Iterator

import pytest
from celery import Celery

from workers.pool import LoopTask, TaskPool


@pytest.fixture
def app() -> Iterator[Celery]:
    """Yield an app with nothing behind it."""
    app = Celery("unit", backend="disabled://", broker="memory://", task_cls=LoopTask, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def pool(app: Celery) -> Iterator[TaskPool]:
    """Yield a pool of four threads."""
    pool = TaskPool(4, app=app)
    pool.start()
    yield pool
    app.conf.fw_drain_s = 0
    pool.close()
    pool.stop()
