"""What strangers write into the keys of runs and into their streams, under real workers: one run fails at most."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from api_contracts import keys
from api_contracts.failure import RunDamaged
from api_contracts.names import QUEUES
from tests.acceptance.cluster import Cluster, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, of_type, types
from tests.acceptance.test_canvas import callers, quiet_app
from tests.servers import embedded_valkey
from tests.waiting import eventually

TASK, QUEUE = "fireworks.chat.complete", "fireworks.chat"
STRANGERS: tuple[Any, ...] = ("x}:lease", "{", "}", "", "a\nb", b"\xff\xfea", "x" * 100_000, str(uuid.uuid4()))

pytestmark = [
    pytest.mark.requirement("RUN-20"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """Two workers with a lease that is soon over, and a server that these tests may spoil."""
    folder = tmp_path_factory.mktemp("spoilt")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="3", FW_SWEEP_S="0.5")
        try:
            for process in (made.worker("chat-1"), made.worker("chat-2"), made.tool_service()):
                process.ready()
            yield made
        finally:
            made.close()


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Celery]:
    with quiet_app(cluster) as app:
        yield app


@pytest.fixture(autouse=True)
def _nothing_else_is_disturbed(cluster: Cluster, name: str) -> Iterator[None]:
    """A run that was there before goes on, one that comes after runs, and no worker dies."""
    cluster.client.chat.submit(say("short"), run_id=f"before-{name}b")
    pids = [process.pid for process in cluster.processes]
    yield
    for run_id, text in ((f"before-{name}b", ""), (f"after-{name}", "echo after")):
        if text:
            cluster.client.chat.submit(say(text), run_id=run_id)
        assert cluster.client.result(run_id, timeout_s=60).status == "completed"
        assert is_right(cluster.client.events(run_id))
    assert [process.pid for process in cluster.processes if process.lives] == pids


def spoil(cluster: Cluster, run_id: str, how: str) -> None:
    """Do what a stranger with a Redis client can."""
    redis, lease = cluster.redis, keys.lease(run_id)
    if how == "status":
        redis.hset(lease, "status", "banana")
    elif how == "seq":
        redis.hset(lease, "seq", "many")
    elif how == "text":
        redis.set(lease, "mine", ex=900)
    else:
        redis.set(keys.events(run_id), "mine", ex=900)


@pytest.mark.parametrize("how", ["status", "seq", "text", "journal"])
def test_a_run_whose_keys_are_spoilt_while_it_runs_fails_with_a_code_of_its_own(
    cluster: Cluster, app: Celery, name: str, how: str
) -> None:
    linked = {"link": callers(app, "done", name), "link_error": callers(app, "failed", name)}
    app.send_task(TASK, kwargs={"request": say("stall")}, task_id=name, queue=QUEUE, **linked)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    spoil(cluster, name, how)
    meta = eventually(lambda: (found := cluster.meta(name))["status"] == "FAILURE" and found, within=60)
    assert meta["result"]["exc_message"][0]["code"] == "run_keys_damaged"
    assert not meta["traceback"]
    result = cluster.client.result(name)
    assert result.failure is not None
    assert result.failure.code == "run_keys_damaged"
    eventually(lambda: cluster.announced(name))
    events = cluster.client.events(name)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert types(events)[-1] == "run.failed"
    if how in ("status", "seq"):  # else the callbacks were lost with the hash, or the journal
        eventually(lambda: cluster.board.marks(name) == [f"failed {name}"])


def test_a_stream_that_was_there_before_its_run_has_it_refused_and_a_foreign_one_failed(
    cluster: Cluster, app: Celery, name: str
) -> None:
    for run_id in (name, f"{name}-2"):
        cluster.redis.xadd(keys.events(run_id), {"mine": "1"})
        cluster.redis.expire(keys.events(run_id), 900)
    with pytest.raises(RunDamaged):
        cluster.client.chat.submit(say("echo x"), run_id=name)
    app.send_task(TASK, kwargs={"request": say("echo x")}, task_id=f"{name}-2", queue=QUEUE)
    meta = eventually(lambda: (found := cluster.meta(f"{name}-2"))["status"] == "FAILURE" and found, within=60)
    assert meta["result"]["exc_message"][0]["code"] == "run_keys_damaged"


def test_strangers_in_a_journal_are_seen_by_nobody(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say("short"), run_id=name)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    journal = keys.events(name)
    forged = {"seq": "9", "type": "run.completed", "at": "1", "epoch": "9", "data": "{}"}
    for fields in ({"hello": "world"}, forged, {**forged, "data": "{"}, {"huge": "x" * (32 * 2**20)}):
        cluster.redis.xadd(journal, fields)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert types(events)[-1] == "run.completed"
    assert cluster.client.events(name) == events
    assert cluster.client.result(name).status == "completed"


def test_strangers_in_the_indexes_hide_no_run_that_is_due(cluster: Cluster, name: str) -> None:
    """The message of the run is lost: only a sweep can find it."""
    run_id = f"{name}a"
    members = dict.fromkeys(STRANGERS, 0.0)
    for index in (keys.due("a"), *(keys.waiting("a", queue) for queue in QUEUES)):
        cluster.redis.zadd(index, members)
        cluster.redis.expire(index, 900)
    cluster.redis.set(keys.due("b"), "mine", ex=900)
    cluster.client.chat.submit(say("echo found"), run_id=run_id)
    cluster.redis.zadd(keys.due("a"), {run_id: 0.0}, xx=True)
    assert cluster.client.result(run_id, timeout_s=60).status == "completed"
    eventually(lambda: cluster.redis.zcard(keys.due("a")) == 0 or cluster.redis.zscore(keys.due("a"), "{") is None)
    eventually(lambda: cluster.redis.type(keys.due("b")) != "string", within=30)


def test_letters_of_strangers_change_nothing_and_fill_no_journal(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say("short"), run_id=name)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    inbox = keys.inbox(name)
    junk: list[dict[Any, Any]] = [
        {"a": "b"}, {"type": b"\xff", "data": "{}"}, {"type": "cancel", "data": "{"}, {"type": "cancel", "data": "[1]"},
        {"type": "tool_result", "data": '{"call_id": {}, "token": []}'}, {"type": "x" * 70_000, "data": "{}"},
        {"type": "approve", "data": '{"call_id": "\\ud800"}'}, {"type": "batch", "data": '{"x": 1}'},
    ]  # fmt: skip
    pipe = cluster.redis.pipeline()
    for number in range(400):
        pipe.xadd(inbox, junk[number % len(junk)])
    pipe.execute()
    cluster.redis.expire(inbox, 900)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert types(events)[-1] == "run.completed"
    assert len(of_type(events, "run.ignored")) <= 100
