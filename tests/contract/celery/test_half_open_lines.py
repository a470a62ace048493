"""A line to Redis whose other end is gone without a word: nobody waits on it for ever, neither client nor worker."""

import asyncio
from collections.abc import Iterator

import pytest
from celery import Celery

from api_contracts.chat import ChatRequest
from api_contracts.client.publisher import Publisher
from api_contracts.client.settings import ClientSettings
from api_contracts.client.submission import Submission, checked, submission
from api_contracts.runs import RunQueued
from api_contracts.signing import NO_KEYS
from tests.faults.proxy import FaultProxy
from tests.servers import kill
from workers import transport
from workers.adapters.celery.bell import CeleryBell
from workers.app import configuration
from workers.cli.embedded import EmbeddedValkey
from workers.settings import Settings

WITHIN_S = 40
"""A line that is dead is given up after 5 s; stock Celery waits for two minutes, or for ever."""


@pytest.fixture
def proxy(own_valkey: EmbeddedValkey) -> Iterator[FaultProxy]:
    with FaultProxy(own_valkey.url) as proxy:
        yield proxy


@pytest.fixture
def app(proxy: FaultProxy) -> Iterator[Celery]:
    """The service's configuration."""
    transport.install()
    with Celery("contract", set_as_current=False) as app:
        app.conf.update(configuration(Settings(redis_url=proxy.url, broker_url=proxy.url)))
        yield app


def submitted() -> Submission:
    settings = ClientSettings(redis_url="redis://unused.invalid")
    request = checked(ChatRequest, {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, {})
    return submission("chat", request, None, settings)


def test_a_submission_is_sent_though_kombu_has_taken_its_channel_apart(own_valkey: EmbeddedValkey) -> None:
    """As it is after a line that went half open while it was made: seen once in 200 submissions under that fault."""
    publisher = Publisher(own_valkey.url, NO_KEYS)
    assert publisher.publish(submitted(), {})
    with publisher._app.pool.acquire() as connection:
        connection.default_channel._disconnect_pools()
        connection.default_channel.connection = None
    assert publisher.publish(submitted(), {})
    publisher.close()


@pytest.mark.requirement("RUN-21")
async def test_a_submission_is_sent_over_another_line(proxy: FaultProxy) -> None:
    publisher, run = Publisher(proxy.url, NO_KEYS), submitted()
    assert publisher.publish(run, {})
    proxy.half_open()
    async with asyncio.timeout(WITHIN_S):
        assert await asyncio.to_thread(publisher.publish, run, {})
    publisher.close()


@pytest.mark.requirement("RUN-21")
async def test_a_worker_rings_over_another_line(app: Celery, proxy: FaultProxy) -> None:
    bell, queued = CeleryBell(app), RunQueued(kind="chat", digest="0" * 64)
    await bell.ring("half-open-1", None, queued)
    proxy.half_open()
    async with asyncio.timeout(WITHIN_S):
        await bell.ring("half-open-1", None, queued)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # by Celery
@pytest.mark.requirement("RUN-21")
async def test_a_result_is_stored_over_another_line(app: Celery, proxy: FaultProxy) -> None:
    app.backend.store_result("half-open-2", {"a": 1}, "SUCCESS")
    proxy.half_open()
    async with asyncio.timeout(WITHIN_S):
        await asyncio.to_thread(app.backend.store_result, "half-open-2", {"a": 2}, "SUCCESS")
    app.backend.client.connection_pool.disconnect()


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # by Celery
@pytest.mark.requirement("RUN-21", "RUN-08")
async def test_a_result_waits_for_a_redis_that_is_away(
    app: Celery, proxy: FaultProxy, own_valkey: EmbeddedValkey
) -> None:
    """Celery would tell a failure, and call link_error, of a task whose result it could not look up."""
    app.backend.store_result("away", {"a": 1}, "STARTED")
    kill(own_valkey)
    storing = asyncio.create_task(asyncio.to_thread(app.backend.store_result, "away", {"a": 2}, "SUCCESS"))
    done, _ = await asyncio.wait([storing], timeout=1)
    assert not done
    own_valkey.restart()
    async with asyncio.timeout(WITHIN_S):
        await storing
    assert app.backend.get_result("away") == {"a": 2}
    app.backend.client.connection_pool.disconnect()
