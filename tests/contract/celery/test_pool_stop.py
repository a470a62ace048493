"""Shutdown: asked, waited for, cancelled, abandoned, each within a bound; and where the messages are then."""

import json
import os
import signal

import pytest

from tests.contract.celery.apps.settings import DRAIN
from tests.contract.celery.conftest import Sent, Starter, Worker
from tests.waiting import eventually

# Drain, cancel, abandon, stop hooks, loop, and the interpreter's own end.
BOUND_S = 0.5 + 2 + 2 + 5 + 2 + 3


@pytest.fixture
def worker(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url, concurrency=2, **{DRAIN: "0.5"})


@pytest.fixture
def patient(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url, concurrency=2, **{DRAIN: "20"})


def queued(worker: Worker) -> list[str]:
    """Ids of the tasks whose messages wait in the queue."""
    return [json.loads(raw)["headers"]["id"] for raw in worker.client.lrange(worker.queue, 0, -1)]


def started(worker: Worker, name: str) -> None:
    eventually(lambda: worker.marks(name)[:1] in (["started"], ["leased"]))


def test_a_warm_shutdown_asks_and_waits_for_the_runs_to_hand_over(patient: Worker, name: str) -> None:
    result = patient.send("hands_over", name)
    started(patient, name)
    assert patient.stop() == 0
    assert patient.marks(name) == ["started", "handed over"]
    assert result.get() == "handed over"
    assert patient.marks(patient.queue) == ["drain", "stop"]


def test_what_is_not_done_when_the_drain_ends_is_cancelled_and_fails(worker: Worker, name: str) -> None:
    result = worker.send("hold", name)
    started(worker, name)
    assert worker.stop(within=BOUND_S) == 0
    assert worker.marks(name) == ["started", "cancelled SHUTDOWN"]
    assert result.error() == ("BodyAborted", "['the worker shut down before the task was done']")


@pytest.mark.parametrize("task", ["stubborn", "hold_in_thread", "hold_beside"])
def test_what_ignores_its_cancellation_does_not_hold_the_exit(worker: Worker, name: str, task: str) -> None:
    result = worker.send(task, name)
    started(worker, name)
    assert worker.stop(within=BOUND_S) == 0
    assert result.error()[0] == "BodyAborted"


def test_a_message_that_was_never_accepted_goes_back_to_its_queue(worker: Worker, name: str) -> None:
    result = worker.send("accepts_itself", name)
    started(worker, name)
    assert worker.stop(within=BOUND_S) == 0
    assert queued(worker) == [result.id]
    assert result.state == "PENDING"
    assert not worker.unacked(result.id)
    worker.client.delete(worker.queue)


def test_a_late_ack_message_whose_task_was_cut_off_goes_back_to_its_queue(worker: Worker, name: str) -> None:
    result = worker.send("hold_late_ack", name)
    started(worker, name)
    assert worker.stop(within=BOUND_S) == 0
    assert queued(worker) == [result.id]
    assert result.state == "PENDING"
    worker.client.delete(worker.queue)


def test_a_task_that_waits_for_a_slot_goes_back_to_its_queue(worker: Worker, name: str) -> None:
    waiting = worker.send("hold", name, countdown=1)
    eventually(lambda: waiting.id in worker.log())
    running = [worker.send("hold", name) for _ in range(2)]
    eventually(lambda: worker.stats().get("waiting") == 1)
    assert worker.stop(within=BOUND_S) == 0
    assert queued(worker) == [waiting.id]
    assert {Sent(each.id, worker.client).state for each in running} == {"FAILURE"}
    worker.client.delete(worker.queue)


def test_a_cold_shutdown_cancels_at_once(patient: Worker, name: str) -> None:
    held, late = patient.send("hold", name), patient.send("accepts_itself", f"{name}-late")
    started(patient, name)
    started(patient, f"{name}-late")
    patient.stop(signal.SIGQUIT, within=BOUND_S)
    assert patient.marks(name) == ["started", "cancelled TERMINATED"]
    assert held.state == "RETRY"  # Celery's own word for a task that a cold shutdown cancelled
    assert queued(patient) == [late.id]
    patient.client.delete(patient.queue)


def test_a_second_signal_cuts_the_drain_short(patient: Worker, name: str) -> None:
    patient.send("hold", name)
    started(patient, name)
    os.kill(patient.process.pid, signal.SIGTERM)
    eventually(lambda: patient.marks(patient.queue) == ["drain"])
    patient.stop(signal.SIGQUIT, within=BOUND_S)
    assert patient.marks(name) == ["started", "cancelled TERMINATED"]
