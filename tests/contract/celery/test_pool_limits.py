"""Time limits and termination: the outcome, the slot, and what cannot be stopped."""

import pytest

from tests.contract.celery.conftest import Starter, Worker
from tests.waiting import eventually


@pytest.fixture(scope="module")
def worker(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url, concurrency=2)


@pytest.fixture(autouse=True)
def nothing_left(worker: Worker) -> None:
    eventually(lambda: worker.stats()["running"] == 0)


def test_a_soft_limit_is_raised_inside_the_coroutine_which_may_clean_up(worker: Worker, name: str) -> None:
    assert worker.result("softened", name, soft_time_limit=0.2, time_limit=60) == "in time"
    assert worker.marks(name) == ["cleaned"]
    assert "Soft time limit (0.2s) exceeded" in worker.log()


def test_a_hard_limit_fails_the_task_and_cancels_the_coroutine(worker: Worker, name: str) -> None:
    result = worker.send("hold", name, time_limit=0.2)
    assert result.error() == ("TimeLimitExceeded", "[0.2]")
    eventually(lambda: worker.marks(name)[0] == "started" and worker.stats()["running"] == 0)
    eventually(lambda: worker.stats()["zombies"] == 0)


def test_a_coroutine_that_swallows_its_hard_limit_is_a_zombie_without_a_slot(worker: Worker, name: str) -> None:
    results = [worker.send("stubborn", name, time_limit=0.2) for _ in range(2)]
    for result in results:
        assert result.error()[0] == "TimeLimitExceeded"
    eventually(lambda: worker.stats()["zombies"] == 2)
    assert worker.stats()["running"] == 0
    assert worker.result("add", 1, 1) == 2
    worker.open(name, 2)
    eventually(lambda: worker.stats()["zombies"] == 0)
    assert {result.state for result in results} == {"FAILURE"}


def test_a_function_over_its_hard_limit_gives_back_the_slot_and_keeps_its_thread(worker: Worker, name: str) -> None:
    result = worker.send("hold_in_thread", name, time_limit=0.2)
    assert result.error()[0] == "TimeLimitExceeded"
    assert worker.stats()["zombies"] == 1
    assert worker.stats()["running"] == 0
    worker.open(name)
    eventually(lambda: worker.marks(name) == ["started", "done"])
    eventually(lambda: worker.stats()["zombies"] == 0)
    # It went on to its end; what it returned is not the task's result any more.
    assert result.state == "FAILURE"


def test_termination_of_a_running_task_is_revoked_and_frees_the_slot(worker: Worker, name: str) -> None:
    result = worker.send("hold", name)
    eventually(lambda: worker.marks(name) == ["started"])
    worker.revoke(result.id, terminate=True)
    eventually(lambda: worker.stats()["running"] == 0)
    assert worker.marks(name) == ["started", "cancelled TERMINATED"]
    eventually(lambda: result.state == "REVOKED")
    assert worker.active() == []


def test_termination_before_accept_is_revoked_too(worker: Worker, name: str) -> None:
    result = worker.send("accepts_itself", name)
    eventually(lambda: worker.marks(name) == ["leased"])
    worker.revoke(result.id, terminate=True)
    eventually(lambda: result.state == "REVOKED")
    eventually(lambda: worker.stats()["running"] == 0)
    assert worker.marks(name) == ["leased"]
    eventually(lambda: not worker.unacked(result.id))


def test_a_task_that_waits_for_a_slot_can_be_terminated_there(start_worker: Starter, redis_url: str, name: str) -> None:
    worker = start_worker(redis_url, concurrency=2)
    # Fetched for its countdown, it comes to the pool when that is over, whether or not there is a slot.
    waiting = worker.send("hold", name, countdown=2)
    eventually(lambda: waiting.id in worker.log())
    held = [worker.send("hold", name) for _ in range(2)]
    eventually(lambda: worker.marks(name) == ["started"] * 2)
    eventually(lambda: worker.stats()["waiting"] == 1)
    worker.revoke(waiting.id, terminate=True)
    eventually(lambda: waiting.state == "REVOKED")
    assert worker.stats()["waiting"] == 0
    assert worker.stats()["running"] == 2
    worker.open(name, 2)
    assert [result.get() for result in held] == ["held"] * 2
    worker.stop()


def test_a_terminated_coroutine_that_never_ends_is_left_behind(worker: Worker, name: str) -> None:
    result = worker.send("stubborn", name)
    eventually(lambda: worker.marks(name) == ["started"])
    worker.revoke(result.id, terminate=True)
    eventually(lambda: worker.stats()["zombies"] == 1, within=20)
    assert worker.stats()["running"] == 0
    assert result.state == "REVOKED"
    worker.open(name)
    eventually(lambda: worker.stats()["zombies"] == 0)


def test_a_terminated_function_gives_back_the_slot(worker: Worker, name: str) -> None:
    result = worker.send("hold_in_thread", name)
    eventually(lambda: worker.marks(name) == ["started"])
    worker.revoke(result.id, terminate=True)
    eventually(lambda: result.state == "REVOKED" and worker.stats()["running"] == 0)
    worker.open(name)
    eventually(lambda: worker.stats()["zombies"] == 0)
    assert result.state == "REVOKED"


def test_revoking_before_the_start_keeps_the_task_from_running(worker: Worker, name: str) -> None:
    result = worker.send("hold", name, countdown=60)
    eventually(lambda: "hold" in worker.log())
    worker.revoke(result.id)
    eventually(lambda: result.state == "REVOKED")
    assert worker.marks(name) == []


def test_terminations_in_a_hurry_leave_no_message_no_slot_and_the_worker_alive(
    start_worker: Starter, redis_url: str
) -> None:
    """A message acknowledged by two threads would raise in the hub and end the worker."""
    worker = start_worker(redis_url, concurrency=20)
    sent = []
    for _ in range(40):
        some = [worker.send(task) for task in ("brief", "brief_late_ack", "brief")]
        worker.app.control.revoke([each.id for each in some[:2]], terminate=True, destination=[worker.node])
        sent += some
    eventually(lambda: {each.state for each in sent} <= {"SUCCESS", "REVOKED"}, within=30)
    assert {each.state for each in sent[2::3]} == {"SUCCESS"}
    eventually(lambda: worker.stats()["running"] == 0)
    eventually(lambda: not any(worker.unacked(each.id) for each in sent))
    assert worker.result("add", 1, 1) == 2
    assert "Unrecoverable" not in worker.log()
    assert worker.active() == []
    worker.stop()
