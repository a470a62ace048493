"""Redis and the broker die, stand still and come back, with runs in flight."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from api_contracts import keys
from tests.acceptance.apps import board
from tests.acceptance.apps.tool_service import QUEUE as CALLERS_QUEUE
from tests.acceptance.cluster import Cluster, pause, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, streamed, types
from tests.acceptance.scene import STORY
from tests.rabbitmq import close_connections
from tests.servers import embedded_valkey
from tests.waiting import eventually
from workers.cli.embedded import EmbeddedValkey

WORKERS = ("chat-1", "chat-2")


@pytest.fixture
def cluster(own_valkey: EmbeddedValkey, tmp_path: Path, new_cluster: NewCluster) -> Iterator[Cluster]:
    """A server of the test's own, that it may kill."""
    made = new_cluster(tmp_path, own_valkey, FW_LEASE_S="1.5", FW_SWEEP_S="0.5")
    try:
        made.keep(made.worker, *WORKERS)
        yield made
    finally:
        made.close()


def streaming(cluster: Cluster, run_id: str) -> None:
    eventually(lambda: types(cluster.client.events(run_id)).count("chat.delta") > 2, within=60)


@pytest.mark.requirement("RUN-21", "RUN-10")
def test_redis_killed_in_the_middle_of_a_stream_costs_nothing_that_was_acknowledged(
    cluster: Cluster, own_valkey: EmbeddedValkey, name: str
) -> None:
    """One run streams, the message of another waits in a queue."""
    queued = f"{name}-queued"
    cluster.client.chat.submit(say("long"), run_id=name)
    cluster.client.chat.submit(say("echo queued", lane="background"), run_id=queued)
    streaming(cluster, name)
    seen, holder = cluster.client.events(name), cluster.holder(name)
    os.kill(own_valkey.pid, signal.SIGKILL)
    eventually(lambda: not own_valkey.running)
    eventually(lambda: holder.says("append.waiting"), within=30)
    own_valkey.restart()
    assert cluster.queues.move("fireworks.chat.bg", "fireworks.chat") == 1
    for run_id in (name, queued):
        events = list(cluster.client.follow(run_id, timeout_s=60))
        assert is_right(events)
        assert cluster.client.result(run_id).status == "completed"
        eventually(lambda run_id=run_id: cluster.meta(run_id)["status"] == "SUCCESS", within=30)
        eventually(lambda run_id=run_id: cluster.announced(run_id), within=30)
    assert cluster.client.events(name)[: len(seen)] == seen
    assert streamed(cluster.client.events(name)) == STORY
    assert [cluster.named(worker).lives for worker in WORKERS] == [True, True]
    for _ in WORKERS:
        assert cluster.client.chat.complete(say("echo after"), timeout_s=60).status == "completed"


@pytest.mark.requirement("RUN-21", "RUN-03")
def test_redis_that_stands_still_beyond_the_lease_leaves_the_journal_right(
    cluster: Cluster, own_valkey: EmbeddedValkey, name: str
) -> None:
    cluster.client.chat.submit(say("long"), run_id=name)
    streaming(cluster, name)
    seen = cluster.client.events(name)
    until = int(str(cluster.redis.hget(keys.lease(name), "until")))
    pause(own_valkey.pid)
    # The server's clock is this machine's.
    eventually(lambda: time.time() * 1000 > until + 1500)
    os.kill(own_valkey.pid, signal.SIGCONT)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert events[: len(seen)] == seen
    assert streamed(events) == STORY
    assert [cluster.named(worker).lives for worker in WORKERS] == [True, True]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with embedded_valkey(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def split(
    own_valkey: EmbeddedValkey, broker: EmbeddedValkey, tmp_path: Path, new_cluster: NewCluster
) -> Iterator[Cluster]:
    """A cluster whose broker is not the server of the journals. The tools keep to the second server."""
    settings = {"FW_LEASE_S": "1.5", "FW_SWEEP_S": "0.5", board.REDIS: broker.url}
    made = new_cluster(tmp_path, own_valkey, redis_broker=broker.url, **settings)
    try:
        made.tool_service()
        made.keep(made.worker, *WORKERS)
        yield made
    finally:
        made.close()


@pytest.mark.requirement("RUN-21", "RUN-13", "TOOL-03")
def test_what_the_broker_brings_while_the_journals_are_away_is_not_lost(
    split: Cluster, own_valkey: EmbeddedValkey, name: str
) -> None:
    """A tool's result, and a foreign message, of which nobody else has a record."""
    foreign = f"{name}-foreign"
    split.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=name)
    eventually(lambda: "tool.call_started" in types(split.client.events(name)), within=60)
    os.kill(own_valkey.pid, signal.SIGKILL)
    eventually(lambda: not own_valkey.running)
    split.board.open_gate(name)
    with Celery("foreign", broker=split.broker, backend="disabled", set_as_current=False) as app:
        request = {"request": say("echo foreign")}
        app.send_task("fireworks.chat.complete", kwargs=request, task_id=foreign, queue="fireworks.chat")
    eventually(lambda: split.logged("signal.waiting", name), within=30)
    eventually(lambda: split.logged("run.unreachable", foreign), within=30)
    own_valkey.restart()
    for run_id, said in ((name, f"told: {name} was charged"), (foreign, "foreign")):
        assert is_right(list(split.client.follow(run_id, timeout_s=60, wait_s=30)))
        assert split.client.result(run_id).message == {"role": "assistant", "content": said}
    assert split.board.marks(name) == ["charged"]


@pytest.mark.broker("redis", "a server of the machine cannot be paused")
@pytest.mark.requirement("RUN-04", "RUN-10", "RUN-23", "RUN-08")
def test_a_worker_killed_between_the_end_and_the_callbacks_and_another_calls_them(
    split: Cluster, broker: EmbeddedValkey, name: str
) -> None:
    """The broker stands still when the callbacks are to go out. One may be under way already: at least once."""
    with split.foreign_app() as app:
        link = app.signature("acceptance.done", kwargs={"key": name}, queue=CALLERS_QUEUE)
        split.client.chat.submit(say("short"), run_id=name, link=link)
    streaming(split, name)
    pause(broker.pid)
    events = list(split.client.follow(name, timeout_s=60))
    split.holder(name).kill()
    assert is_right(events)
    assert split.client.result(name).status == "completed"
    assert not split.announced(name)
    assert split.meta(name)["status"] != "SUCCESS"
    os.kill(broker.pid, signal.SIGCONT)
    eventually(lambda: split.announced(name), within=30)
    assert split.meta(name)["result"] == events[-1].data["result"]
    eventually(lambda: "done completed" in split.board.marks(name))
    assert split.client.events(name) == events


@pytest.mark.broker("rabbitmq", "on Redis its server is killed instead, see above")
@pytest.mark.requirement("RUN-21", "RUN-22")
def test_every_connection_to_rabbitmq_is_closed_and_each_run_is_started_once(cluster: Cluster, name: str) -> None:
    """One run streams, others wait in a queue that nobody serves, more come while the workers connect again."""
    cluster.client.chat.submit(say("long"), run_id=name)
    queued = [f"{name}-queued-{number}" for number in range(5)]
    for run_id in queued:
        cluster.client.chat.submit(say("echo queued", lane="background"), run_id=run_id)
    streaming(cluster, name)
    before = {worker: cluster.named(worker).log().count("Connected to amqp") for worker in WORKERS}
    assert cluster.queues.move("fireworks.chat.bg", "fireworks.chat") == len(queued)
    close_connections(cluster.broker)
    late = [f"{name}-late-{number}" for number in range(5)]
    for run_id in late:
        cluster.client.chat.submit(say("echo late"), run_id=run_id)
    for run_id in (name, *queued, *late):
        events = list(cluster.client.follow(run_id, timeout_s=60))
        assert is_right(events)
        assert len(lives(events)) == 1
        eventually(lambda run_id=run_id: cluster.meta(run_id)["status"] == "SUCCESS", within=30)
    assert streamed(cluster.client.events(name)) == STORY
    for worker, count in before.items():
        eventually(lambda worker=worker, count=count: cluster.named(worker).log().count("Connected to amqp") > count)
    assert [cluster.named(worker).lives for worker in WORKERS] == [True, True]
