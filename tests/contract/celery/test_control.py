"""Our revoke: runs get a signal and stay out of Celery's set of revoked tasks; the rest is Celery's."""

from typing import Any

import pytest

from tests.contract.celery.conftest import Starter, Worker
from tests.waiting import eventually


@pytest.fixture(scope="module")
def worker(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url, app="revoking", concurrency=4)


def revoked(worker: Worker) -> list[str]:
    """What `inspect revoked` shows."""
    return list(worker.app.control.inspect(destination=[worker.node], timeout=5).revoked()[worker.node])


def reply(worker: Worker, replies: Any) -> Any:
    return replies[0][worker.node]


@pytest.mark.parametrize("options", [{}, {"terminate": True}, {"terminate": True, "signal": "SIGTERM"}])
def test_revoking_a_run_is_a_signal_and_nothing_else(worker: Worker, name: str, options: dict[str, Any]) -> None:
    run = f"run-{name}"
    worker.send("hold", name, task_id=run)
    eventually(lambda: worker.marks(name) == ["started"])
    answer = reply(worker, worker.revoke(run, **options))
    assert answer == {"ok": f"runs {run} asked to cancel"}
    assert worker.marks(run) == ["cancel"]
    assert run not in revoked(worker)
    worker.open(name)
    eventually(lambda: worker.marks(name) == ["started", "done"])


def test_revoking_a_foreign_task_is_celerys_own(worker: Worker, name: str) -> None:
    result = worker.send("hold", name)
    eventually(lambda: worker.marks(name) == ["started"])
    answer = reply(worker, worker.revoke(result.id, terminate=True, signal="SIGTERM"))
    assert answer == {"ok": f"terminate: {result.id}"}
    assert result.id in revoked(worker)
    eventually(lambda: result.state == "REVOKED")


def test_one_revoke_may_name_both(worker: Worker, name: str) -> None:
    run, foreign = f"run-{name}", f"task-{name}"
    answer = reply(worker, worker.revoke([run, foreign]))
    assert answer["ok"].startswith(f"runs {run} asked to cancel; ")
    assert foreign in answer["ok"]
    assert worker.marks(run) == ["cancel"]
    listed = revoked(worker)
    assert foreign in listed
    assert run not in listed


def test_a_run_that_is_over_is_said_to_be(worker: Worker, name: str) -> None:
    run, over = f"run-{name}", f"run-over-{name}"
    assert reply(worker, worker.revoke(over)) == {"ok": f"runs {over} had ended before"}
    both = {"ok": f"runs {run} asked to cancel; runs {over} had ended before"}
    assert reply(worker, worker.revoke([run, over])) == both
    assert not {run, over} & set(revoked(worker))


def test_the_terminate_command_is_ours_too(worker: Worker, name: str) -> None:
    run = f"run-{name}"
    answer = worker.app.control.broadcast(
        "terminate", arguments={"signal": "SIGTERM", "task_id": run}, destination=[worker.node], reply=True, timeout=5
    )
    assert reply(worker, answer) == {"ok": f"runs {run} asked to cancel"}
    assert run not in revoked(worker)


@pytest.mark.parametrize("kind", ["broken", "slow"])
def test_when_the_runs_cannot_be_asked_nothing_is_revoked(worker: Worker, name: str, kind: str) -> None:
    run, foreign = f"run-{kind}-{name}", f"task-{name}"
    answer = reply(worker, worker.revoke([run, foreign]))
    assert answer["error"].startswith("nothing revoked: the runs could not be asked")
    assert not {run, foreign} & set(revoked(worker))
    worker.open(run)
