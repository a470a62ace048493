"""Deadlines as processes: each kind of run, queued, running and parked, ends in its time; so do foreign messages."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api_contracts.runs import Event
from tests.acceptance.cluster import MODEL, Cluster, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, types
from tests.servers import embedded_valkey
from tests.waiting import eventually

KINDS = ("chat", "cite", "stt", "batch")
TASKS = {
    "chat": ("fireworks.chat.complete", "fireworks.chat"),
    "cite": ("fireworks.cite.answer", "fireworks.chat"),
    "stt": ("fireworks.stt.session", "fireworks.stt"),
    "batch": ("fireworks.batch.submit", "fireworks.batch"),
}
SLOW_MODEL = "accounts/fireworks/models/emulated-new"
"""A batch of this model is at work for hours."""
WORKING = {"chat": "chat.delta", "cite": "chat.delta", "stt": "stt.connected", "batch": "run.parked"}
"""What a run of each kind has told when it is well under way."""


def request(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a request that takes its time."""
    sources = [{"id": "a", "content": "The lighthouse was built in 1874."}]
    rows = [{"custom_id": "row-1", "body": {"messages": [{"role": "user", "content": "slow 1"}]}}]
    return {
        "chat": say("long"),
        "cite": {"model": MODEL, "question": "cite slowly", "sources": sources},
        "stt": {},
        "batch": {"model": SLOW_MODEL, "rows": rows},
    }[kind] | fields


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """A cluster without workers."""
    folder = tmp_path_factory.mktemp("deadlines")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="5", FW_SWEEP_S="0.5")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def nobody(cluster: Cluster) -> Cluster:
    """No worker but one of the control queue: nobody serves the queues of the kinds."""
    return only(cluster, "control", "fireworks.control")


@pytest.fixture
def somebody(cluster: Cluster) -> Cluster:
    """One worker for every kind. There is no beat: nobody polls jobs."""
    return only(cluster, "all", "fireworks.chat,fireworks.stt,fireworks.batch,fireworks.control")


def only(cluster: Cluster, name: str, queues: str, **how: Any) -> Cluster:
    """Have this worker and no other."""
    for process in cluster.processes:
        if process.lives and process.name not in (name, cluster.emulator.name):
            process.stop()
    cluster.keep(lambda name: cluster.worker(name, queues=queues, **how), name)
    return cluster


def submit(cluster: Cluster, kind: str, run_id: str, **fields: Any) -> None:
    """Submit as our client does."""
    if kind == "stt":
        cluster.client.stt.open(run_id=run_id, **fields)
    else:
        getattr(cluster.client, kind).submit(request(kind, **fields), run_id=run_id)


def ended(cluster: Cluster, run_id: str, code: str) -> list[Event]:
    """Return the journal of a run that failed with this code, in SQL and for Celery too."""
    events = list(cluster.client.follow(run_id, timeout_s=60))
    assert is_right(events)
    assert events[-1].type == "run.failed", events[-1]
    result = cluster.client.result(run_id)
    assert result.failure is not None
    assert (result.failure.code, result.failure.category) == (code, "deadline")
    meta = eventually(lambda: (found := cluster.meta(run_id))["status"] == "FAILURE" and found, within=60)
    assert meta["result"]["exc_message"][0]["code"] == code
    return events


@pytest.mark.requirement("RUN-12")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_no_worker_of_its_queue_begins_fails_in_its_time(nobody: Cluster, name: str, kind: str) -> None:
    submit(nobody, kind, name, deadline_s=1.0)
    began = types(ended(nobody, name, "deadline_exceeded"))
    assert began[:2] == ["run.queued", "run.started"]
    assert not {"run.resumed", "chat.requested", WORKING[kind]} & set(began), "it is begun only to be ended"


@pytest.mark.requirement("RUN-12")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_at_work_when_its_time_has_passed_fails(somebody: Cluster, name: str, kind: str) -> None:
    submit(somebody, kind, name, deadline_s=2.5)
    assert WORKING[kind] in types(ended(somebody, name, "deadline_exceeded"))


@pytest.mark.requirement("RUN-12", "BATCH-11")
def test_a_batch_that_is_parked_when_its_time_has_passed_stops_its_job_though_nobody_polls(
    somebody: Cluster, name: str
) -> None:
    before = somebody.provider()
    submit(somebody, "batch", name, deadline_s=3.0)
    events = ended(somebody, name, "deadline_exceeded")
    parked = types(events).index("run.parked")
    assert "run.resumed" in types(events)[parked:]
    assert somebody.client.batch.result(name).rows.pending == 1
    assert before != somebody.provider()


@pytest.mark.requirement("RUN-12")
@pytest.mark.broker("redis", "RabbitMQ itself takes a message out that expired: test_foreign_producers.py")
@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_message_that_expired_before_a_worker_took_it_fails_its_run(
    nobody: Cluster, cluster: Cluster, name: str, kind: str
) -> None:
    task, queue = TASKS[kind]
    with cluster.foreign_app() as app:
        soon = datetime.now(UTC) + timedelta(seconds=0.5)
        app.send_task(task, kwargs={"request": request(kind)}, task_id=name, queue=queue, expires=soon)
    eventually(lambda: datetime.now(UTC) > soon)
    assert cluster.client.events(name) == []
    only(cluster, "all", "fireworks.chat,fireworks.stt,fireworks.batch,fireworks.control")
    assert types(ended(cluster, name, "expired")) == ["run.queued", "run.started", "run.failed"]


@pytest.mark.requirement("RUN-12")
@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_message_may_set_a_deadline_too(somebody: Cluster, name: str, kind: str) -> None:
    task, queue = TASKS[kind]
    with somebody.foreign_app() as app:
        app.send_task(task, kwargs={"request": request(kind, deadline_s=1.0)}, task_id=name, queue=queue)
    ended(somebody, name, "deadline_exceeded")


@pytest.mark.requirement("RUN-12")
@pytest.mark.parametrize("skew_s", [3600, -3600], ids=["ahead", "behind"])
def test_a_worker_whose_clock_is_an_hour_wrong_ends_runs_in_their_time_and_no_sooner(
    cluster: Cluster, name: str, skew_s: int
) -> None:
    only(cluster, f"skewed{skew_s}", "fireworks.chat", app="tests.acceptance.apps.skewed", SKEW_S=str(skew_s))
    cluster.client.chat.submit(say("echo in time"), run_id=f"{name}-1", deadline_s=60.0)
    cluster.client.chat.submit(say("stall"), run_id=f"{name}-2", deadline_s=2.0)
    assert list(cluster.client.follow(f"{name}-1", timeout_s=60))[-1].type == "run.completed"
    ended(cluster, f"{name}-2", "deadline_exceeded")
