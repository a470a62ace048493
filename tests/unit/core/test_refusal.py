"""The machine of a run that cannot be run (`runs.refusal`)."""

import pytest

from api_contracts import SCHEMA_VERSION
from api_contracts.failure import Failure
from api_contracts.runs import RunResumed, RunStarted
from workers.core.runs.frame import Begin, Draining, Emit, Finish, SignalArrived, Woke
from workers.core.runs.refusal import Refusal

FAILURE = Failure(code="bad_request", category="bad_request", message="no", at_fault="caller")


@pytest.mark.requirement("RUN-09")
def test_it_starts_and_fails_at_once() -> None:
    first, finish = Refusal("run-1", "chat", FAILURE).receive(Begin("w"), 5.0)
    assert first == Emit(RunStarted(owner="w"))
    assert isinstance(finish, Finish)
    assert (finish.status, finish.failure) == ("failed", FAILURE)
    assert finish.result == {
        "run_id": "run-1",
        "kind": "chat",
        "status": "failed",
        "schema_version": SCHEMA_VERSION,
        "failure": {
            "code": "bad_request", "category": "bad_request", "message": "no", "retryable": False, "at_fault": "caller",
        },
    }  # fmt: skip


def test_a_run_that_had_started_is_resumed() -> None:
    machine = Refusal("run-1", "chat", FAILURE)
    machine.fold(RunStarted(owner="before"), 1.0)
    assert machine.receive(Begin("w"), 5.0)[0] == Emit(RunResumed(owner="w"))


@pytest.mark.parametrize("fact", [Draining(1.0), Woke(), SignalArrived("1-0", "cancel", {}), object()])
def test_it_waits_for_nothing_and_hears_nothing(fact: object) -> None:
    machine = Refusal("run-1", "chat", FAILURE)
    assert (machine.cursor, machine.deadline) == ("0", None)
    assert machine.receive(fact, 5.0) == []
