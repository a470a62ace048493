"""What `inspect` and Flower see of the pool, and what they may change."""

import pytest

from tests.contract.celery.conftest import Starter, Worker
from tests.waiting import eventually


@pytest.fixture(scope="module")
def worker(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url, concurrency=2)


def test_the_stats_name_what_an_operator_needs(worker: Worker, name: str) -> None:
    worker.send("hold", name)
    eventually(lambda: worker.marks(name) == ["started"])
    stats = worker.stats()
    assert stats["implementation"] == "workers.pool.taskpool:TaskPool"
    assert (stats["max-concurrency"], stats["running"], stats["waiting"], stats["zombies"]) == (2, 1, 0, 0)
    assert stats["threads"] >= 1
    assert stats["loop"] == "uvloop"
    assert stats["loop-lag-ms"] >= 0
    worker.open(name)
    eventually(lambda: worker.stats()["running"] == 0)


def test_every_active_task_has_a_number_of_its_own(worker: Worker, name: str) -> None:
    for _ in range(2):
        worker.send("hold", name)
    eventually(lambda: worker.marks(name) == ["started"] * 2)
    active = worker.active()
    assert len({each["worker_pid"] for each in active}) == 2
    worker.open(name, 2)
    eventually(lambda: worker.active() == [])


def test_a_grown_pool_runs_more_and_a_shrunk_one_less(worker: Worker, name: str) -> None:
    worker.app.control.pool_grow(2, destination=[worker.node], reply=True, timeout=5)
    for _ in range(6):
        worker.send("hold", name)
    eventually(lambda: worker.marks(name) == ["started"] * 4)
    worker.app.control.pool_shrink(3, destination=[worker.node], reply=True, timeout=5)
    assert worker.stats()["max-concurrency"] == 1
    worker.open(name, 4)
    eventually(lambda: worker.marks(name).count("done") == 4)
    eventually(lambda: worker.marks(name).count("started") == 5)
    assert worker.stats()["running"] == 1
    worker.open(name, 2)
    eventually(lambda: worker.marks(name).count("done") == 6)
    replies = worker.app.control.pool_shrink(1, destination=[worker.node], reply=True, timeout=5)
    assert "at least one slot" in replies[0][worker.node]["error"]
    worker.app.control.pool_grow(1, destination=[worker.node])
