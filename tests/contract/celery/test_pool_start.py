"""What a worker refuses at its start: exit code 1 and one line that says why."""

import pytest

from tests.contract.celery.apps.settings import START
from tests.contract.celery.conftest import Starter, Worker


def refusal(worker: Worker) -> str:
    """The one line."""
    assert worker.process.wait(timeout=120) == 1, worker.log()
    lines = [line for line in worker.log().splitlines() if "the worker does not start: " in line]
    assert len(lines) == 1, worker.log()
    assert "Traceback" not in worker.log()
    assert "ready." not in worker.log()
    return lines[0]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_async_tasks_are_refused_on_another_pool(start_worker: Starter, redis_url: str, pool: str) -> None:
    line = refusal(start_worker(redis_url, "-P", pool, ready=False))
    assert "workers.pool:TaskPool" in line
    assert "tests.contract.celery.apps.tasks.add" in line


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("plain", "works is async but not a LoopTask"),
        ("autoretry", "works is async and has autoretry_for"),
        ("hook", "fails failed: ConnectionRefusedError: no database at db:5432"),
    ],
)
def test_what_could_not_work_is_refused(start_worker: Starter, redis_url: str, what: str, why: str) -> None:
    line = refusal(start_worker(redis_url, app="startup", ready=False, **{START: what}))
    assert why in line
