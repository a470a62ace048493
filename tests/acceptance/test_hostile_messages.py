"""What a stranger can put into a queue, for every task that a worker has: a clear failure, and nothing is disturbed."""

import json
import re
import struct
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import amqp
import pytest
from celery import Celery

from api_contracts import keys, names
from tests.acceptance.cluster import Cluster, say
from tests.acceptance.journal import is_right, types
from tests.waiting import eventually

CHAT, CONTROL = "fireworks.chat", "fireworks.control"
COMPLETE = "fireworks.chat.complete"
WRONG: dict[str, Any] = {
    "not JSON": b"{",
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "no list": {"args": []},
    "too short": [[], {}],
    "wrong types inside": [{}, [], "x"],
    "positional": [[{"a": 1}, [2], "three", 4, 5, 6], {}, {}],
    "wrong types": [[], {"run_id": {"a": 1}, "request": 7, "signal": [1], "call_id": [], "token": 0}, {}],
    "unknown names": [[], {"no_such_argument": 1, "other": [2]}, {}],
    "hostile run id": [[], {"run_id": "fw:{x}:lease", "signal": {"type": "cancel"}}, {}],
    "half a pair": rb'[["\ud800"], {"run_id": "\ud800\n", "request": {"\udfff": "\ud800"}}, {}]',
    "numbers": b'[[], {"request": {"deadline_s": 1e999, "model": NaN}, "run_id": 1e400}, {}]',
    "later schema": [[], {"request": {"schema_version": 99, "stored": {"digest": 1}, "messages": []}}, {}],
}
UNREADABLE = {"not JSON", "no text", "nothing", "no list", "too short", "wrong types inside"}
RUN_IDS = [
    "fw:{x}:lease", "{}", "}:lease", "a}b{c", "a\nb", "a\x00b", " ", "ä", "a/../b", "*", "a b", "a" * 129, "x" * 511,
    "a" * 513, "", "-a", "a-", "\N{MATHEMATICAL DOUBLE-STRUCK DIGIT ZERO}", "%s%n", "'; DROP TABLE fw_runs; --",
]  # fmt: skip
SURPRISE = re.compile(r'Traceback|"exception":|\.defect"|unexpected')


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Celery]:
    with cluster.foreign_app() as app:
        yield app


@pytest.fixture(autouse=True)
def _nothing_else_is_disturbed(cluster: Cluster, name: str) -> Iterator[None]:
    """Processes, logs and keys are as they were, and a run goes on that was there before."""
    cluster.client.chat.submit(say("short"), run_id=f"before-{name}")
    logged, pids = {who: len(text) for who, text in cluster.logs().items()}, [each.pid for each in cluster.processes]
    yield
    assert cluster.client.result(f"before-{name}", timeout_s=60).status == "completed"
    assert is_right(cluster.client.events(f"before-{name}"))
    cluster.client.chat.submit(say("echo after"), run_id=f"after-{name}")
    assert cluster.client.result(f"after-{name}", timeout_s=60).status == "completed"
    assert [each.pid for each in cluster.processes if each.lives] == pids
    new = [line for who, text in cluster.logs().items() for line in text[logged[who] :].splitlines()]
    assert [line for line in new if SURPRISE.search(line) and "Task celery." not in line] == []
    assert [key for key in cluster.redis.scan_iter("fw:*", count=1000) if not _is_ours(key)] == []


def _is_ours(key: str) -> bool:
    """Whether a key has the form of one that the service writes."""
    if key.startswith(
        (keys.DEAD_LETTERS, keys.UNACKED, keys.BINDINGS, keys.BEAT, "fw:guard:", "fw:limits:{=", "fw:breaker:{=")
    ):
        return True
    slot, _, rest = key.removeprefix("fw:{").partition("}:")
    if len(slot) != 1 or slot not in keys.SLOTS:
        return False
    run_id = rest.rpartition(":blob:")[0] or rest.rpartition(":")[0]
    return rest.startswith(("due", "waiting:")) or (keys.RUN_ID.fullmatch(run_id) is not None and run_id[-1] == slot)


def letters(cluster: Cluster, task_id: str) -> list[dict[str, Any]]:
    """Return the dead letters of a message."""
    found = [json.loads(str(each)) for each in cluster.redis.lrange(keys.DEAD_LETTERS, 0, -1)]
    return [each for each in found if json.dumps(task_id)[1:-1] in each["entry"]]


def tasks_of(app: Celery) -> list[str]:
    """Return every task that the workers have, theirs and Celery's own."""
    replies = eventually(lambda: app.control.inspect(timeout=5, destination=["chat-1@here"]).registered())
    ours = {name.split(" ")[0] for names in replies.values() for name in names}
    return sorted(ours | {name for name in app.tasks if name.startswith("celery.")})


@pytest.mark.requirement("RUN-20")
def test_every_task_meets_whatever_it_is_called_with(cluster: Cluster, app: Celery, name: str) -> None:
    """A dead letter with a reason, or a failure with a code; a task that passes over what it does not know, does."""
    tasks = tasks_of(app)
    assert {task for task in tasks if task.startswith("fireworks.")} >= {COMPLETE, "fireworks.runs.wake"}
    sent: dict[str, tuple[str, str]] = {}
    for task in tasks:
        for what, body in WRONG.items():
            task_id = f"{uuid.uuid4()}"
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            cluster.queues.put(CONTROL, {"task": task, "id": task_id, "lang": "js"}, raw)
            sent[task_id] = (task, what)

    said = partial(codes, cluster)
    unread = [task_id for task_id, (_, what) in sent.items() if what in UNREADABLE]
    eventually(lambda: all(map(said, unread)), within=60)
    assert {code for task_id in unread for code in said(task_id)} == {"malformed"}
    ours = {task_id: about for task_id, about in sent.items() if about[0].startswith("fireworks.")}
    misfits = [task_id for task_id, (_, what) in ours.items() if what == "positional"]
    eventually(lambda: all(map(said, misfits)), within=60)
    assert {code for task_id in misfits for code in said(task_id)} == {"bad_arguments"}
    for task_id, about in ours.items():
        meta = cluster.meta(task_id)
        assert meta["status"] != "FAILURE" or meta["result"]["exc_type"] == "RunFailed", (about, meta)
        assert not meta.get("traceback"), (about, meta)


def codes(cluster: Cluster, task_id: str) -> list[str]:
    """Return why a message was refused."""
    return [letter["code"] for letter in letters(cluster, task_id)]


@pytest.mark.requirement("RUN-20", "OPS-14")
def test_a_hundred_megabytes_are_a_dead_letter(cluster: Cluster, name: str) -> None:
    body = b'[[], {"request": "' + b"x" * (100 * 2**20) + b'"}, {}]'
    task_id = str(uuid.uuid4())
    try:
        cluster.queues.put(CHAT, {"task": COMPLETE, "id": task_id}, body)
    except (amqp.AMQPError, OSError):
        return  # the broker itself takes no message of that size
    (letter,) = eventually(lambda: letters(cluster, task_id) or _too_large(cluster), within=60)
    assert letter["code"] == "too_large"
    assert letter["bytes"] >= len(body)


def _too_large(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the letters of messages that nobody read: the id is at neither end of them."""
    found = (json.loads(str(each)) for each in cluster.redis.lrange(keys.DEAD_LETTERS, 0, 20))
    return [each for each in found if each["bytes"] > 100 * 2**20]


@pytest.mark.requirement("RUN-20", "RUN-01")
@pytest.mark.parametrize("run_id", RUN_IDS, ids=range(len(RUN_IDS)))
def test_a_hostile_run_id_is_refused_with_a_reason(cluster: Cluster, name: str, run_id: str) -> None:
    body = json.dumps([[], {"request": say("echo no")}, {}]).encode()
    marked = f"{name}-{RUN_IDS.index(run_id)}"
    try:
        cluster.queues.put(CHAT, {"task": COMPLETE, "id": run_id, "origin": marked, "root_id": marked}, body)
    except struct.error:
        pytest.skip("AMQP has no ids of more than 255 bytes: its client cannot write one")
    (letter,) = eventually(lambda: letters(cluster, marked), within=60)
    assert letter["code"] in ("bad_run_id", "malformed")
    if letter["code"] == "bad_run_id":
        meta = eventually(lambda: (found := cluster.meta(run_id))["status"] == "FAILURE" and found)
        assert meta["result"]["exc_message"][0]["code"] == "bad_run_id"


@pytest.mark.requirement("RUN-20")
@pytest.mark.parametrize(("task", "body"), [("no.such.task", [[], {}, {}]), (COMPLETE, [[], {"no_such": 1}, {}])])
def test_a_bad_message_under_a_live_run_s_id_ends_nothing(
    cluster: Cluster, app: Celery, name: str, task: str, body: list[Any]
) -> None:
    app.send_task(COMPLETE, kwargs={"request": say("short")}, task_id=name, queue=CHAT)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    cluster.queues.put(CHAT, {"task": task, "id": name}, json.dumps(body).encode())
    eventually(lambda: letters(cluster, name))
    assert cluster.meta(name)["status"] in ("PENDING", "STARTED")
    assert app.AsyncResult(name).get(timeout=120)["status"] == "completed"


@pytest.mark.requirement("RUN-20", "RUN-06")
def test_a_signal_under_its_run_s_own_id_leaves_the_run_its_result(cluster: Cluster, app: Celery, name: str) -> None:
    """A producer who gives every message of a run the run's id. What he asked happens, before the end and after."""
    told = {"run_id": name, "signal": {"type": "cancel", "id": "1"}}
    app.send_task(COMPLETE, kwargs={"request": say("long")}, task_id=name, queue=CHAT)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    app.send_task(names.SIGNAL, kwargs=told, task_id=name, queue=CONTROL)
    assert list(cluster.client.follow(name, timeout_s=60))[-1].type == "run.cancelled"
    eventually(lambda: cluster.meta(name)["status"] == "REVOKED", within=60)
    app.send_task(names.SIGNAL, kwargs=told, task_id=name, queue=CONTROL)
    eventually(lambda: cluster.logged("result.refused", name) == 2, within=60)
    assert cluster.meta(name)["status"] == "REVOKED"
