"""When Celery hears that a task was accepted, and what that does to its message."""

import pytest

from tests.contract.celery.conftest import Starter, Worker
from tests.waiting import eventually


@pytest.fixture(scope="module")
def worker(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url)


def test_a_body_that_accepts_late_keeps_its_message_until_then(worker: Worker, name: str) -> None:
    result = worker.send("accepts_itself", name)
    eventually(lambda: worker.marks(name) == ["leased"])
    assert worker.unacked(result.id)
    assert result.id not in [each["id"] for each in worker.active()]
    worker.open(name)
    assert result.get() == [False, True]
    eventually(lambda: not worker.unacked(result.id))


def test_other_bodies_are_accepted_as_they_begin(worker: Worker, name: str) -> None:
    result = worker.send("hold", name)
    eventually(lambda: worker.marks(name) == ["started"])
    eventually(lambda: not worker.unacked(result.id))
    assert [each["id"] for each in worker.active()] == [result.id]
    worker.open(name)
    assert result.get() == "held"


def test_the_outcome_is_told_after_the_result_is_out(worker: Worker, name: str) -> None:
    worker.open(name)
    worker.result("accepts_itself", name)
    eventually(lambda: worker.marks(name) == ["leased", "accepted", "outcome SUCCEEDED"])


def test_a_body_that_refuses_its_message_is_done_with_it(worker: Worker, name: str) -> None:
    result = worker.send("refused", name)
    eventually(lambda: worker.marks(name) == ["outcome IGNORED"])
    eventually(lambda: not worker.unacked(result.id))
    assert worker.stats()["running"] == 0


def test_a_message_rejected_before_accept_is_queued_again_and_runs(worker: Worker, name: str) -> None:
    result = worker.send("requeued_once", name)
    assert result.get() == "second time"
    assert worker.marks(name) == ["tried", "tried"]
    eventually(lambda: not worker.unacked(result.id))


def test_a_parked_task_shows_retry_and_is_not_sent_again(worker: Worker, name: str) -> None:
    result = worker.send("parked", name)
    eventually(lambda: result.state == "RETRY")
    eventually(lambda: not worker.unacked(result.id))
    assert worker.marks(name) == ["retries 0"]
    assert worker.client.llen(worker.queue) == 0
