"""What the service's result backend stores of a run that parks, and what it does not, on a real Redis."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from redis import Redis

from api_contracts import keys
from api_contracts.failure import RunIsParked
from api_contracts.names import CHAT, SIGNAL
from workers.adapters.celery.backend import RunBackend

# Celery stores with a command that redis-py would rather not have.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

LEASE: Mapping[Any, Any] = {"epoch": "3", "owner": "here#1"}


@pytest.fixture
def backend(redis_url: str) -> Iterator[RunBackend]:
    name = f"{RunBackend.__module__}:{RunBackend.__qualname__}+{redis_url}"
    with Celery("contract", broker="memory://", backend=name, set_as_current=False) as app:
        yield app.backend
        app.backend.result_consumer.stop()
        app.backend.client.connection_pool.disconnect()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with closing(Redis.from_url(redis_url, decode_responses=True)) as made:
        yield made


@pytest.fixture
def run_id(redis: Redis) -> Iterator[str]:
    made = uuid.uuid4().hex
    yield made
    redis.delete(keys.lease(made), f"celery-task-meta-{made}")


def hold(redis: Redis, run_id: str, **lease: Any) -> None:
    redis.hset(keys.lease(run_id), mapping=dict(LEASE, **lease))
    redis.expire(keys.lease(run_id), 60)


def park(backend: RunBackend, run_id: str) -> None:
    parked = RunIsParked("a long Retry-After")
    parked.life = (int(LEASE["epoch"]), LEASE["owner"])
    backend.mark_as_retry(run_id, parked, "a trace", request=Context({"id": run_id, "task": CHAT}))


def state(redis: Redis, run_id: str) -> str:
    found = redis.get(f"celery-task-meta-{run_id}")
    return str(json.loads(str(found))["status"]) if found else "PENDING"


@pytest.mark.requirement("RUN-07", "RUN-26")
def test_the_life_that_holds_the_run_says_that_it_parks(backend: RunBackend, redis: Redis, run_id: str) -> None:
    hold(redis, run_id)
    with closing(redis.pubsub()) as told:  # type: ignore[no-untyped-call]
        told.subscribe(f"celery-task-meta-{run_id}")
        assert told.get_message(timeout=5) is not None
        park(backend, run_id)
        heard = told.get_message(timeout=5)
    assert heard is not None
    stored = json.loads(str(redis.get(f"celery-task-meta-{run_id}")))
    assert json.loads(heard["data"]) == stored
    assert (stored["status"], stored["traceback"]) == ("RETRY", None)
    assert stored["result"]["exc_message"] == ["a long Retry-After"]
    assert 0 < int(str(redis.ttl(f"celery-task-meta-{run_id}"))) <= backend.expires


@pytest.mark.requirement("RUN-03", "RUN-08")
@pytest.mark.parametrize(
    "lease", [{"epoch": "4"}, {"owner": "there#1"}, {"status": "failed"}], ids=["epoch", "owner", "ended"]
)
def test_a_zombie_s_park_is_not_told(backend: RunBackend, redis: Redis, run_id: str, lease: dict[str, str]) -> None:
    """It would stand over the end, and if the zombie died now nobody would put that right."""
    hold(redis, run_id, **lease)
    park(backend, run_id)
    assert state(redis, run_id) == "PENDING"


def test_a_park_is_not_told_where_the_lease_is_gone_or_is_none(backend: RunBackend, redis: Redis, run_id: str) -> None:
    park(backend, run_id)
    redis.set(keys.lease(run_id), "a stranger's", ex=60)
    park(backend, run_id)
    assert state(redis, run_id) == "PENDING"


@pytest.mark.requirement("RUN-21")
def test_who_sends_a_message_listens_for_no_result_before_it_waits(
    backend: RunBackend, redis: Redis, run_id: str
) -> None:
    sent = backend.app.send_task("anything", task_id=run_id)
    channel = f"celery-task-meta-{run_id}"
    assert redis.pubsub_channels(channel) == []
    backend.store_result(run_id, "done", "SUCCESS")
    assert sent.get(timeout=120) == "done"


@pytest.mark.requirement("RUN-20")
def test_nobody_but_a_run_stores_a_result_under_a_run_s_id(backend: RunBackend, redis: Redis, run_id: str) -> None:
    def done(task: str) -> str:
        store: Any = backend.store_result
        store(run_id, "sent", "SUCCESS", request=Context({"id": run_id, "task": task}))
        return state(redis, run_id)

    hold(redis, run_id)
    assert done(SIGNAL) == "PENDING"
    assert done(CHAT) == "SUCCESS"
    redis.delete(f"celery-task-meta-{run_id}", keys.lease(run_id))
    assert done(SIGNAL) == "SUCCESS"
