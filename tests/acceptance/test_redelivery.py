"""The same message again and again, and the callbacks of the caller's own service."""

from collections.abc import Iterator

import pytest
from celery import Celery

from api_contracts import keys
from tests.acceptance.apps.tool_service import QUEUE as CALLERS_QUEUE
from tests.acceptance.cluster import Cluster, say
from tests.acceptance.journal import is_right, of_type, types
from tests.waiting import eventually

TASK, QUEUE = "fireworks.chat.complete", "fireworks.chat"


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Celery]:
    with cluster.foreign_app() as app:
        yield app


def linked(app: Celery, name: str) -> dict[str, object]:
    """Return the options of a message with both callbacks."""
    return {
        "link": app.signature("acceptance.done", kwargs={"key": name}, queue=CALLERS_QUEUE),
        "link_error": app.signature("acceptance.failed", kwargs={"key": name}, queue=CALLERS_QUEUE),
    }


def deliver(app: Celery, name: str, text: str, times: int = 5) -> None:
    for _ in range(times):
        app.send_task(TASK, kwargs={"request": say(text)}, task_id=name, queue=QUEUE, **linked(app, name))


@pytest.mark.requirement("RUN-10")
def test_a_message_sent_five_times_while_the_run_lives_is_one_run(cluster: Cluster, app: Celery, name: str) -> None:
    deliver(app, name, "short")
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert len(of_type(events, "run.started")) == 1
    assert types(events).count("chat.requested") == 1
    eventually(lambda: cluster.logged("run.dropped", name) == 4)
    eventually(lambda: cluster.board.marks(name) == ["done completed"])


@pytest.mark.requirement("RUN-10")
def test_a_message_for_a_finished_and_announced_run_does_nothing(cluster: Cluster, app: Celery, name: str) -> None:
    """Nor does it bring back a Celery result that was wiped: the result is in SQL."""
    deliver(app, name, "echo x", times=1)
    eventually(lambda: cluster.announced(name), within=60)
    before, meta = cluster.client.events(name), cluster.meta(name)
    deliver(app, name, "echo x", times=3)
    eventually(lambda: cluster.logged("run.dropped", name) == 3)
    assert cluster.meta(name) == meta
    cluster.redis.delete(f"celery-task-meta-{name}")
    deliver(app, name, "echo x", times=2)
    eventually(lambda: cluster.logged("run.dropped", name) == 5)
    assert cluster.meta(name)["status"] == "PENDING"
    assert cluster.client.events(name) == before
    assert cluster.client.result(name).status == "completed"
    eventually(lambda: cluster.board.marks(name) == ["done completed"])


@pytest.mark.requirement("RUN-10", "RUN-23")
@pytest.mark.parametrize(("text", "mark"), [("echo x", "done completed"), ("denied", "failed {name}")])
def test_a_message_for_a_finished_run_that_is_not_announced_announces_what_is_stored(
    cluster: Cluster, app: Celery, name: str, text: str, mark: str
) -> None:
    deliver(app, name, text, times=1)
    eventually(lambda: cluster.announced(name), within=60)
    before, meta = cluster.client.events(name), cluster.meta(name)
    cluster.redis.hdel(keys.lease(name), "announced")
    cluster.redis.delete(f"celery-task-meta-{name}")
    deliver(app, name, text, times=1)
    eventually(lambda: cluster.announced(name))
    again = cluster.meta(name)
    assert (again["status"], again["result"]) == (meta["status"], meta["result"])
    assert cluster.client.events(name) == before
    eventually(lambda: cluster.board.marks(name) == [mark.format(name=name)] * 2)


@pytest.mark.requirement("RUN-23")
@pytest.mark.parametrize(("text", "mark"), [("echo x", "done completed"), ("denied", "failed {name}")])
def test_the_callbacks_of_a_run_of_our_client_are_called(
    cluster: Cluster, app: Celery, name: str, text: str, mark: str
) -> None:
    cluster.client.chat.submit(say(text), run_id=name, **linked(app, name))
    eventually(lambda: cluster.board.marks(name) == [mark.format(name=name)], within=60)
    assert is_right(cluster.client.events(name))
