"""How many messages lie in a queue, as each broker says it."""

import os
import uuid
from collections.abc import Iterator

import pytest
from celery import Celery

from tests.rabbitmq import vhost, why_no_vhosts
from workers.adapters.celery.queues import CeleryQueues
from workers.ports import StoreUnavailable

pytestmark = pytest.mark.requirement("RUN-17", "RUN-19")


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "redis":
        yield request.getfixturevalue("redis_url")
        return
    if why := why_no_vhosts(os.environ):
        pytest.skip(why)
    with vhost(os.environ["FW_TEST_RABBITMQ_URL"]) as url:
        yield url


async def test_the_messages_that_lie_in_a_queue_are_counted(broker: str) -> None:
    queue = f"count-{uuid.uuid4().hex}"
    with Celery(broker=broker, backend="disabled", set_as_current=False) as app:
        queues = CeleryQueues(app)
        assert await queues.lying(queue) == 0
        for _ in range(3):
            app.send_task("any", queue=queue)
        assert [await queues.lying(queue) for _ in range(2)] == [3, 3]
        with app.connection_for_write() as connection:
            connection.default_channel.queue_purge(queue)
        assert await queues.lying(queue) == 0


async def test_a_broker_that_is_away_says_so() -> None:
    with Celery(broker="redis://127.0.0.1:1/0", backend="disabled", set_as_current=False) as app:
        app.conf.broker_connection_retry = False
        with pytest.raises(StoreUnavailable):
            await CeleryQueues(app).lying("any")
