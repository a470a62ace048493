"""Celery tells of a task without its arguments, whatever its producer has rendered of them."""

import json

import pytest

from tests.contract.celery.conftest import Starter, Worker
from tests.waiting import eventually


@pytest.fixture(scope="module")
def worker(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url, "-E", "-l", "DEBUG", concurrency=2)


@pytest.mark.requirement("RUN-25", "OPS-03")
@pytest.mark.parametrize("rendered", [{}, {"argsrepr": "secret-rendered"}, {"argsrepr": "", "kwargsrepr": ""}])
def test_inspect_and_the_log_carry_no_arguments(worker: Worker, name: str, rendered: dict[str, str]) -> None:
    sent = worker.send("hold", name, **rendered)
    eventually(lambda: worker.marks(name) == ["started"])
    (active,) = worker.active()
    assert (active["id"], active["args"]) == (sent.id, "(in the journal)")
    inspect = worker.app.control.inspect(destination=[worker.node], timeout=5)
    assert name not in json.dumps([inspect.active(), inspect.query_task(sent.id), inspect.reserved()])
    worker.open(name)
    sent.get()
    ours = [line for line in worker.log().splitlines() if sent.id in line]
    assert ours
    assert "secret-rendered" not in worker.log()
    assert not [line for line in worker.log().splitlines() if name in line and "celery" in line]


@pytest.mark.requirement("RUN-25")
def test_a_task_that_waits_for_its_time_is_shown_without_arguments(worker: Worker, name: str) -> None:
    sent = worker.send("hold", name, countdown=600)
    inspect = worker.app.control.inspect(destination=[worker.node], timeout=5)
    scheduled = eventually(lambda: inspect.scheduled()[worker.node])
    assert [(each["request"]["id"], each["request"]["args"]) for each in scheduled] == [(sent.id, "(in the journal)")]
    worker.revoke(sent.id)
