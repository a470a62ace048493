"""On RabbitMQ a worker takes no more messages than it can start; `FW_TEST_RABBITMQ_URL` says where one is."""

import os
import time
from collections.abc import Callable, Iterator

import kombu
import pytest

from tests.contract.celery.conftest import Starter, Worker
from tests.waiting import eventually


@pytest.fixture(scope="module")
def rabbitmq_url() -> str:
    url = os.environ.get("FW_TEST_RABBITMQ_URL")
    if not url:
        pytest.skip("FW_TEST_RABBITMQ_URL is not set")
    return url


@pytest.fixture
def worker(start_worker: Starter, redis_url: str, rabbitmq_url: str) -> Iterator[Worker]:
    worker = start_worker(redis_url, broker=rabbitmq_url, concurrency=2)
    yield worker
    if worker.process.poll() is None:
        worker.stop()
    with kombu.Connection(rabbitmq_url) as connection:
        connection.default_channel.queue_delete(worker.queue)


@pytest.fixture
def ready(worker: Worker, rabbitmq_url: str) -> Iterator[Callable[[], int]]:
    """How many messages wait in the queue for whoever is free."""
    with kombu.Connection(rabbitmq_url) as connection:
        queue = kombu.Queue(worker.queue, channel=connection.default_channel)
        yield lambda: int(queue.queue_declare(passive=True).message_count)


@pytest.mark.requirement("RUN-22")
def test_a_full_worker_leaves_the_rest_in_the_queue(worker: Worker, ready: Callable[[], int], name: str) -> None:
    results = [worker.send("hold", name) for _ in range(6)]
    eventually(lambda: worker.marks(name) == ["started"] * 2)
    eventually(lambda: ready() == 4)
    assert worker.stats()["waiting"] == 0
    worker.open(name)
    eventually(lambda: worker.marks(name).count("started") == 3)
    eventually(lambda: ready() == 3)
    worker.open(name, 5)
    assert [result.get() for result in results] == ["held"] * 6
    assert ready() == 0
    assert worker.stop() == 0


def test_the_next_message_comes_when_the_last_is_accepted(worker: Worker, ready: Callable[[], int], name: str) -> None:
    results = [worker.send("accepts_itself", name) for _ in range(4)]
    eventually(lambda: worker.marks(name) == ["leased"])
    eventually(lambda: ready() == 3)
    worker.open(name)
    eventually(lambda: worker.marks(name).count("leased") == 2)
    worker.open(name, 3)
    assert [result.get() for result in results] == [[False, True]] * 4


def test_the_gate_costs_no_throughput(worker: Worker) -> None:
    worker.result("add", 1, 1)
    began = time.monotonic()
    worker.result("long_as", 20)
    floor = time.monotonic() - began
    began = time.monotonic()
    for result in [worker.send("brief") for _ in range(40)]:
        result.get(within=60)
    assert time.monotonic() - began < 4 * floor


def test_a_grown_pool_takes_more(worker: Worker, ready: Callable[[], int], name: str) -> None:
    results = [worker.send("hold", name) for _ in range(4)]
    eventually(lambda: ready() == 2)
    worker.app.control.pool_grow(2, destination=[worker.node])
    eventually(lambda: worker.marks(name) == ["started"] * 4)
    worker.open(name, 4)
    assert [result.get() for result in results] == ["held"] * 4


def test_no_message_is_lost_when_the_shutdown_meets_a_closed_gate(
    worker: Worker, ready: Callable[[], int], name: str
) -> None:
    held = [worker.send("hold", name) for _ in range(2)]
    eventually(lambda: worker.marks(name) == ["started"] * 2)
    left = [worker.send("hold", name) for _ in range(3)]
    eventually(lambda: ready() == 3)
    worker.open(name, 2)
    worker.process.terminate()
    assert [result.get() for result in held] == ["held"] * 2
    assert worker.process.wait(timeout=120) == 0
    assert ready() + worker.marks(name).count("started") == 2 + len(left)


def test_a_countdown_that_ends_at_a_full_worker_goes_back_to_the_queue(
    worker: Worker, ready: Callable[[], int], name: str
) -> None:
    """Unacknowledged in this process it would be out of every other worker's reach."""
    late = worker.send("hold", name, countdown=2)
    eventually(lambda: late.id in worker.log())
    held = [worker.send("hold", name) for _ in range(2)]
    eventually(lambda: worker.marks(name) == ["started"] * 2)
    eventually(lambda: ready() == 1)
    assert worker.stats()["waiting"] == 0
    worker.open(name, 3)
    assert [result.get() for result in [*held, late]] == ["held"] * 3
