"""On RabbitMQ only what the broker confirmed was sent, and a broker that stands still holds nobody for long."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import kombu
import pytest
from celery import Celery

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


PUBLISH_ON_A_WORD = """
import sys
from api_contracts.chat import ChatRequest
from api_contracts.client.publisher import Publisher
from api_contracts.client.settings import ClientSettings
from api_contracts.client.submission import checked, submission
from api_contracts.signing import NO_KEYS
request = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
settings = ClientSettings(redis_url="redis://unused.invalid")
publisher = Publisher(sys.argv[1], NO_KEYS)
for line in sys.stdin:
    run = submission("chat", checked(ChatRequest, request, {}), line.strip(), settings)
    print(publisher.publish(run, {}), flush=True)
assert "workers" not in sys.modules
"""


@pytest.fixture
def publish(proxy: DeafProxy) -> Iterator[Callable[[str], str]]:
    """Publish by our client, in a process that has none of the service's transports; return what it said."""
    command = [sys.executable, "-c", PUBLISH_ON_A_WORD, proxy.url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin
        assert stdout

        def publish(run_id: str) -> str:
            stdin.write(f"{run_id}\n")
            stdin.flush()
            return stdout.readline().strip()

        yield publish
        stdin.close()
        assert process.wait(timeout=120) == 0


@pytest.fixture
async def bell(proxy: DeafProxy) -> AsyncIterator[CeleryBell]:
    """The service's own, with its configuration; connecting again is given up sooner."""
    transport.install()
    with Celery("contract", set_as_current=False) as app:
        app.conf.update(configuration(Settings(redis_url="redis://unused.invalid", broker_url=proxy.url)))
        app.conf.update(broker_connection_timeout=0.5, result_backend="disabled")
        yield CeleryBell(app)


def waiting(broker: str) -> int:
    with kombu.Connection(broker) as connection:
        return int(connection.default_channel.queue_declare(QUEUE, passive=True).message_count)


def test_a_publish_of_the_client_that_is_not_confirmed_is_not_reported_as_sent(
    publish: Callable[[str], str], proxy: DeafProxy, broker: str, name: str
) -> None:
    assert publish(name) == "True"
    before = waiting(broker)
    proxy.deaf.set()
    assert publish(name) == "False"
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
    publish: Callable[[str], str], bell: CeleryBell, broker: str, name: str
) -> None:
    assert publish(name) == "True"
    ctl("set_policy", "-p", name_of(broker), "full", ".*", FULL, "--apply-to", "queues")
    try:
        assert publish(name) == "False"
        with pytest.raises(StoreUnavailable):
            await bell.ring(name, None, RunQueued(kind="chat", digest="0" * 64, writer="test"))
    finally:
        ctl("clear_policy", "-p", name_of(broker), "full")
