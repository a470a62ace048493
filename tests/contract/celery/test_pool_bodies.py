"""Bodies on the pool: values, canvas, context, and everything that can escape from one."""

import time

import pytest
from celery import chain

from tests.contract.celery.conftest import Sent, Starter, Worker
from tests.waiting import eventually

ESCAPES = ["CancelledError", "GeneratorExit", "KeyboardInterrupt", "SystemExit", "BaseException"]
CROWD = 200


@pytest.fixture(scope="module")
def worker(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url, concurrency=CROWD + 8)


def test_an_async_body_returns_its_value(worker: Worker) -> None:
    assert worker.result("add", 2, 3) == 5


def test_a_plain_body_returns_its_value(worker: Worker) -> None:
    assert worker.result("add_in_thread", 2, 3) == 5


def test_coroutines_share_one_loop_and_one_backend(worker: Worker) -> None:
    places = [worker.result("where") for _ in range(3)]
    assert {place["loop"] for place in places} == {"uvloop"}
    assert {place["thread"] for place in places} == {"fw-loop"}
    assert len({place["backend"] for place in places}) == 1


def test_what_a_worker_has_before_its_first_task_is_no_garbage_to_look_for(worker: Worker) -> None:
    place = worker.result("where")
    assert place["spared"] > 50_000
    assert place["young"] == 10_000


def test_chains_and_links_work_around_async_bodies(worker: Worker, name: str) -> None:
    chained = chain(worker.sign("add", 1, 2), worker.sign("add", 3), app=worker.app)
    assert worker.sent(chained.apply_async()).get() == 6
    linked = worker.sign("add", 1, 1)
    linked.link(worker.sign("add", 5).set(task_id=name))
    linked.apply_async()
    assert Sent(name, worker.client).get() == 7


def test_a_chord_of_async_bodies_calls_its_async_callback(worker: Worker) -> None:
    body = worker.result("starts_a_chord", 4)
    assert Sent(body, worker.client).get() == 12


def test_two_hundred_overlapping_bodies_each_see_their_own_request_and_context(worker: Worker, name: str) -> None:
    sent = {worker.send("who", name, CROWD).id: None for _ in range(CROWD)}
    seen = [Sent(task_id, worker.client).get(within=30) for task_id in sent]
    assert seen == [[task_id, name, task_id, task_id] for task_id in sent]


@pytest.mark.parametrize("task", ["escape", "escape_in_thread"])
@pytest.mark.parametrize("what", ESCAPES)
def test_whatever_escapes_a_body_is_a_failure_and_frees_the_slot(worker: Worker, task: str, what: str) -> None:
    sent = worker.send(task, what)
    kind, text = sent.error()
    assert kind == "BodyAborted"
    assert what in text
    eventually(lambda: worker.stats()["running"] == 0)
    eventually(lambda: not worker.unacked(sent.id))


def test_what_escapes_is_a_failure_for_the_tracer_too(worker: Worker, name: str) -> None:
    """Or `on_failure`, `after_return` and the failure signal would not hear of it."""
    worker.send("escape_noted", "CancelledError", name).error()
    eventually(lambda: worker.marks(name) == ["BodyAborted"])


def test_a_task_that_a_body_spawned_cannot_stop_the_loop(worker: Worker) -> None:
    assert worker.result("spawn_and_escape") == "SystemExit"
    assert worker.result("add", 1, 1) == 2


def test_a_task_called_inside_a_body_is_refused_rather_than_never_awaited(worker: Worker) -> None:
    assert worker.result("calls_another") == "ImproperlyConfigured"


@pytest.mark.requirement("RUN-22")
def test_early_ack_without_events_does_not_starve_the_next_fetch(start_worker: Starter, redis_url: str) -> None:
    """40 tasks of 50 ms on 2 slots against 20 x 50 ms in one body. Unpoked, the hub made it 20 times that."""
    worker = start_worker(redis_url, concurrency=2)
    worker.result("add", 1, 1)
    began = time.monotonic()
    worker.result("long_as", 20)
    floor = time.monotonic() - began
    began = time.monotonic()
    for result in [worker.send("brief") for _ in range(40)]:
        result.get(within=60)
    assert time.monotonic() - began < 4 * floor
    assert worker.stats()["hub-wakes"] > 40
    worker.stop()
