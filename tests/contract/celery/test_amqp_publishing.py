"""On RabbitMQ only what the broker confirmed was sent, and a broker that stands still holds nobody for long."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import kombu
import pytest
from celery import Celery

from api_contracts.chat import ChatRequest
from api_contracts.client.publisher import Publisher
from api_contracts.client.settings import ClientSettings
from api_contracts.client.submission import Submission, checked, submission
from api_contracts.runs import RunQueued
from tests.contract.deaf_proxy import DeafProxy
from tests.rabbitmq import ctl, name_of, vhost, why_no_vhosts
from workers import transport
from workers.adapters.celery.bell import CeleryBell
from workers.app import configuration
from workers.ports import StoreUnavailable
from workers.settings import Settings

QUEUE = "fireworks.chat"
FULL = '{"max-length":1,"overflow":"reject-publish"}'


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    if why := why_no_vhosts(os.environ):
        pytest.skip(why)
    with vhost(os.environ["FW_TEST_RABBITMQ_URL"]) as url:
        yield url


@pytest.fixture
def proxy(broker: str) -> Iterator[DeafProxy]:
    with DeafProxy(broker) as proxy:
        yield proxy


@pytest.fixture
def publisher(proxy: DeafProxy) -> Iterator[Publisher]:
    publisher = Publisher(proxy.url)
    yield publisher
    publisher.close()


@pytest.fixture
async def bell(proxy: DeafProxy) -> AsyncIterator[CeleryBell]:
    """The service's own, with its configuration; connecting again is given up sooner."""
    transport.install()
    with Celery("contract", set_as_current=False) as app:
        app.conf.update(configuration(Settings(redis_url="redis://unused.invalid", broker_url=proxy.url)))
        app.conf.update(broker_connection_timeout=0.5, result_backend="disabled")
        yield CeleryBell(app)


def a_run(run_id: str) -> Submission:
    settings = ClientSettings(redis_url="redis://unused.invalid")
    return submission(
        "chat",
        checked(ChatRequest, {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, {}),
        run_id,
        settings,
    )


def waiting(broker: str) -> int:
    with kombu.Connection(broker) as connection:
        return int(connection.default_channel.queue_declare(QUEUE, passive=True).message_count)


def test_a_publish_of_the_client_that_is_not_confirmed_is_not_reported_as_sent(
    publisher: Publisher, proxy: DeafProxy, broker: str, name: str
) -> None:
    before = publisher.publish(a_run(name), {}) and waiting(broker)
    assert before
    proxy.deaf.set()
    assert publisher.publish(a_run(name), {}) is False
    assert waiting(broker) == before


async def test_a_broker_that_stands_still_is_an_outage_for_the_bell_and_holds_no_loop(
    bell: CeleryBell, proxy: DeafProxy, name: str
) -> None:
    queued = RunQueued(kind="chat", digest="0" * 64, writer="test")
    await bell.ring(name, None, queued)
    proxy.deaf.set()
    ringing = asyncio.create_task(bell.ring(name, None, queued))
    turns = 0
    while not ringing.done():
        await asyncio.wait([ringing], timeout=0.05)
        turns += 1
    assert turns > 20
    with pytest.raises(StoreUnavailable, match="the broker"):
        await ringing


def test_events_wait_for_no_confirm(bell: CeleryBell, proxy: DeafProxy) -> None:
    """They leave from Celery's hub, which must go on when the broker stands still."""
    with bell._app.connection_for_write() as connection:
        dispatcher = bell._app.events.Dispatcher(connection)
        dispatcher.send("worker-heartbeat")
        proxy.deaf.set()
        for _ in range(20):
            dispatcher.send("worker-heartbeat")
        connection.collect()


async def test_a_message_that_the_broker_refuses_was_not_sent(
    publisher: Publisher, bell: CeleryBell, broker: str, name: str
) -> None:
    assert publisher.publish(a_run(name), {})
    ctl("set_policy", "-p", name_of(broker), "full", ".*", FULL, "--apply-to", "queues")
    try:
        assert publisher.publish(a_run(name), {}) is False
        with pytest.raises(StoreUnavailable):
            await bell.ring(name, None, RunQueued(kind="chat", digest="0" * 64, writer="test"))
    finally:
        ctl("clear_policy", "-p", name_of(broker), "full")
