"""Celery's canvas around runs: a run is a task like any other. Producers and the linked tasks have none of our code."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature
from celery.exceptions import ChordError

from api_contracts.failure import RunFailed
from tests.acceptance.apps.tool_service import QUEUE as CALLERS_QUEUE
from tests.acceptance.cluster import Cluster, say
from tests.acceptance.journal import is_right
from tests.waiting import eventually

TASK, QUEUE = "fireworks.chat.complete", "fireworks.chat"

pytestmark = [
    pytest.mark.requirement("RUN-23"),
    # Celery's producer side of a chord leaves a connection to the result backend to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Celery]:
    with quiet_app(cluster) as app:
        yield app


@contextmanager
def quiet_app(cluster: Cluster) -> Iterator[Celery]:
    """Yield the app of a producer that subscribes to no result that it does not ask for."""
    with cluster.foreign_app() as app:
        app.backend.on_task_call = lambda *_: None
        yield app
        gc.collect()
        app.backend.result_consumer.stop()
        app.backend.client.connection_pool.disconnect()
    gc.collect()


def run(app: Celery, run_id: str, text: str) -> Signature:
    """Return a run as a signature that takes nothing from what goes before."""
    return app.signature(TASK, kwargs={"request": say(text)}, queue=QUEUE, task_id=run_id, immutable=True)


def callers(app: Celery, task: str, key: str) -> Signature:
    """Return a task of the caller's own service."""
    return app.signature(f"acceptance.{task}", kwargs={"key": key}, queue=CALLERS_QUEUE)


def test_a_chain_goes_through_a_run_and_on_with_its_result(cluster: Cluster, app: Celery, name: str) -> None:
    first = app.signature("acceptance.ask", ("echo chained",), queue=CALLERS_QUEUE)
    # What goes before a run in a chain is its request.
    second = app.signature(TASK, queue=QUEUE, task_id=name)
    chain(first, second, callers(app, "done", name)).apply_async()
    eventually(lambda: cluster.board.marks(name) == ["done completed"], within=60)
    assert cluster.meta(name)["result"]["message"]["content"] == "chained"
    assert is_right(cluster.client.events(name))


def test_a_chain_of_runs_ends_where_one_fails_and_says_so(cluster: Cluster, app: Celery, name: str) -> None:
    ids = [f"{name}-{n}" for n in range(3)]
    first, second, third = (
        run(app, ids[n], text).set(link_error=callers(app, "failed", name))
        for n, text in enumerate(("echo one", "denied", "echo never"))
    )
    chain(first, second, third).apply_async()
    eventually(lambda: cluster.board.marks(name) == [f"failed {ids[1]}"], within=60)
    assert [cluster.meta(run_id)["status"] for run_id in ids] == ["SUCCESS", "FAILURE", "FAILURE"]
    assert not cluster.client.known(ids[2])


def test_a_group_of_runs_is_waited_for_as_one(cluster: Cluster, app: Celery, name: str) -> None:
    ids = [f"{name}-{n}" for n in range(4)]
    sent = group(run(app, run_id, f"echo {run_id}") for run_id in ids).apply_async()
    assert [result["message"]["content"] for result in sent.get(timeout=120)] == ids
    assert all(is_right(cluster.client.events(run_id)) for run_id in ids)


def test_a_group_with_a_failed_run_raises_its_failure(cluster: Cluster, app: Celery, name: str) -> None:
    sent = group(run(app, f"{name}-1", "echo one"), run(app, f"{name}-2", "denied")).apply_async()
    with pytest.raises(RunFailed, match="authentication"):
        sent.get(timeout=120)


def test_a_chord_calls_its_body_once_with_every_result(cluster: Cluster, app: Celery, name: str) -> None:
    header = [run(app, f"{name}-{n}", "echo x") for n in range(3)]
    chord(header, callers(app, "gathered", name)).apply_async()
    eventually(lambda: cluster.board.marks(name) == ["gathered completed completed completed"], within=60)


def test_a_chord_whose_run_fails_calls_the_errback_of_its_body_and_not_the_body(
    cluster: Cluster, app: Celery, name: str
) -> None:
    body = callers(app, "gathered", name).on_error(callers(app, "failed", name))
    sent = chord([run(app, f"{name}-1", "echo x"), run(app, f"{name}-2", "denied")], body).apply_async()
    eventually(lambda: cluster.board.marks(name), within=60)
    assert {mark.split()[0] for mark in cluster.board.marks(name)} == {"failed"}
    assert eventually(lambda: cluster.meta(sent.id)["status"] == "FAILURE")
    assert cluster.meta(sent.id)["result"]["exc_type"] == ChordError.__name__


def test_a_run_may_be_the_body_of_a_chord_of_runs(cluster: Cluster, app: Celery, name: str) -> None:
    body = run(app, f"{name}-body", "echo body").set(link=callers(app, "done", name))
    chord([run(app, f"{name}-{n}", "echo x") for n in range(2)], body).apply_async()
    eventually(lambda: cluster.board.marks(name) == ["done completed"], within=60)
    assert cluster.meta(f"{name}-body")["result"]["message"]["content"] == "body"


def test_arguments_that_do_not_fit_call_the_errback(cluster: Cluster, app: Celery, name: str) -> None:
    bad = app.signature(TASK, kwargs={"no_such_argument": 1}, queue=QUEUE, task_id=name)
    bad.set(link_error=callers(app, "failed", name), link=callers(app, "done", name)).apply_async()
    eventually(lambda: cluster.board.marks(name) == [f"failed {name}"], within=60)
    assert cluster.meta(name)["result"]["exc_message"][0]["code"] == "bad_arguments"


def test_a_cancelled_run_ends_its_chain_and_calls_nobody(cluster: Cluster, app: Celery, name: str) -> None:
    """As a task does that is revoked: neither its link nor its errback is called."""
    first = run(app, name, "long").set(link_error=callers(app, "failed", name))
    chain(first, run(app, f"{name}-2", "echo never"), callers(app, "done", name)).apply_async()
    eventually(lambda: cluster.client.known(name), within=60)
    cluster.client.cancel(name)
    eventually(lambda: cluster.announced(name), within=60)
    assert cluster.meta(name)["status"] == "REVOKED"
    assert cluster.board.marks(name) == []
    assert not cluster.client.known(f"{name}-2")
