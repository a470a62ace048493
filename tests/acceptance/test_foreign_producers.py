"""Producers without a line of our code: Celery's send_task by name, and a message that is written byte by byte."""

import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult

from api_contracts.names import TASK_OF, Kind, queue_of
from tests.acceptance.cluster import ROOT, Cluster, say
from tests.acceptance.journal import is_right, of_type, types
from tests.acceptance.queues import by_hand, envelope
from tests.rabbitmq import ctl, name_of
from tests.waiting import eventually

TASK, QUEUE = "fireworks.chat.complete", "fireworks.chat"


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Celery]:
    with cluster.foreign_app() as app:
        yield app


@pytest.mark.requirement("RUN-13")
def test_send_task_by_name_starts_a_run(cluster: Cluster, app: Celery, name: str) -> None:
    sent = app.send_task(TASK, kwargs={"request": say("echo by name")}, task_id=name, queue=QUEUE)
    assert sent.get(timeout=120)["message"]["content"] == "by name"
    events = cluster.client.events(name)
    assert is_right(events)
    assert events[0].type == "run.queued"
    assert events[0].data["request"] == say("echo by name")


@pytest.mark.requirement("RUN-13")
def test_a_message_written_by_hand_starts_a_run(cluster: Cluster, app: Celery, name: str) -> None:
    """With plain Redis commands, or with a plain AMQP client."""
    cluster.queues.put(QUEUE, *by_hand(name, TASK, say("echo by hand")))
    assert AsyncResult(name, app=app).get(timeout=120)["message"]["content"] == "by hand"
    assert is_right(cluster.client.events(name))


@pytest.mark.requirement("RUN-09", "RUN-13")
@pytest.mark.parametrize(
    "request_",
    [
        {"model": "m", "messages": [{"role": "user", "content": "hush-hush"}], "temperature": "hush-hush"},
        {"model": "m", "messages": [{"role": "user", "content": "hush-hush"}], "hush": "hush-hush"},
        {"model": "m", "messages": [{"role": "user", "content": "hush-hush"}], "tools": ["no_tool_of_that_name"]},
        "hush-hush",
        ["hush-hush"],
        None,
    ],
    ids=["bad value", "unknown field", "unknown tool", "text", "list", "nothing"],
)
def test_a_bad_request_ends_as_failure_without_trace_or_content(
    cluster: Cluster, app: Celery, name: str, request_: Any
) -> None:
    app.send_task(TASK, kwargs={"request": request_}, task_id=name, queue=QUEUE)
    meta = eventually(lambda: (found := cluster.meta(name))["status"] == "FAILURE" and found, within=60)
    assert not meta["traceback"]
    assert "hush-hush" not in json.dumps(meta)
    assert meta["result"]["exc_type"] == "RunFailed"
    (failure,) = meta["result"]["exc_message"]
    assert (failure["category"], failure["at_fault"], failure["retryable"]) == ("bad_request", "caller", False)
    result = cluster.client.result(name)
    assert result.failure is not None
    assert result.failure.model_dump(exclude_none=True) == failure
    assert is_right(cluster.client.events(name))


@pytest.mark.requirement("RUN-12", "RUN-26")
def test_a_message_that_expired_before_a_worker_began_it_fails_its_run_and_says_so(
    cluster: Cluster, app: Celery, name: str
) -> None:
    late = datetime.now(UTC) - timedelta(seconds=1)
    app.send_task(TASK, kwargs={"request": say("echo late")}, task_id=name, queue=QUEUE, expires=late)
    meta = eventually(lambda: (found := cluster.meta(name))["status"] == "FAILURE" and found, within=60)
    assert meta["result"]["exc_message"][0]["code"] == "expired"
    events = cluster.client.events(name)
    assert is_right(events)
    assert "chat.requested" not in types(events)
    assert cluster.client.result(name).status == "failed"


@pytest.fixture
def policy(cluster: Cluster) -> None:
    """Set what README says, on the cluster's own virtual host."""
    (command,) = re.findall(r"`rabbitmqctl (set_policy .*)`", (ROOT / "README.md").read_text())
    ctl("-p", name_of(cluster.broker), *shlex.split(command))


@pytest.mark.requirement("RUN-12")
@pytest.mark.broker("rabbitmq", "elsewhere an expired message stays in its queue: test_deadlines.py")
@pytest.mark.parametrize("kind", ["stt", "batch"])
@pytest.mark.usefixtures("policy")
def test_a_message_that_rabbitmq_expired_fails_its_run_under_the_policy_of_the_readme(
    cluster: Cluster, app: Celery, name: str, kind: Kind
) -> None:
    """No worker serves its queue, and RabbitMQ drops it: whoever serves `fireworks.control` ends the run."""
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    app.send_task(TASK_OF[kind], kwargs={"request": {}}, task_id=name, queue=queue_of(kind), expires=soon)
    meta = eventually(lambda: (found := cluster.meta(name))["status"] == "FAILURE" and found, within=60)
    assert meta["result"]["exc_message"][0]["code"] == "expired"
    assert types(cluster.client.events(name)) == ["run.queued", "run.started", "run.failed"]
    assert cluster.client.result(name).status == "failed"


@pytest.mark.requirement("RUN-09", "RUN-01")
def test_a_bad_run_id_is_refused_without_a_journal(cluster: Cluster, app: Celery, name: str) -> None:
    bad = f"{name}/../x"
    app.send_task(TASK, kwargs={"request": say("echo no")}, task_id=bad, queue=QUEUE)
    meta = eventually(lambda: (found := cluster.meta(bad))["status"] == "FAILURE" and found, within=60)
    assert meta["result"]["exc_message"][0]["code"] == "bad_run_id"
    assert not meta["traceback"]


@pytest.mark.requirement("RUN-01")
def test_a_conflicting_message_is_dropped_and_noted_and_the_run_goes_on(
    cluster: Cluster, app: Celery, name: str
) -> None:
    app.send_task(TASK, kwargs={"request": say("short")}, task_id=name, queue=QUEUE)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    for text in ("echo another", "echo another", "echo a third"):
        app.send_task(TASK, kwargs={"request": say(text)}, task_id=name, queue=QUEUE)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert len({event.data["digest"] for event in of_type(events, "run.conflict")}) == 2
    assert types(events).count("chat.requested") == 1
    assert AsyncResult(name, app=app).get(timeout=120)["message"]["content"].startswith("one two")
    eventually(lambda: cluster.logged("run.conflict", name) == 3)


@pytest.mark.broker("redis", "what is in a list is any bytes; an AMQP client writes messages only")
@pytest.mark.requirement("RUN-13")
def test_an_entry_that_is_no_message_disturbs_nothing(cluster: Cluster, app: Celery, name: str) -> None:
    bad_encoding = envelope(QUEUE, *by_hand(name, TASK, say("echo x"))).replace("base64", "rot13")
    for poison in ("{", '{"body": 1}', "", bad_encoding):
        cluster.redis.lpush(QUEUE, poison)
    sent = app.send_task(TASK, kwargs={"request": say("echo after")}, task_id=name, queue=QUEUE)
    assert sent.get(timeout=120)["message"]["content"] == "after"
    assert all(process.lives for process in cluster.processes)


@pytest.mark.requirement("RUN-13")
def test_a_message_that_cannot_be_read_disturbs_nothing(cluster: Cluster, app: Celery, name: str) -> None:
    headers, body = by_hand(f"poison-{name}", TASK, say("echo x"))
    for poison in (b"{", b"[]", b"\xff\xfe", b""):
        cluster.queues.put(QUEUE, headers, poison)
    cluster.queues.put(QUEUE, {}, body)
    cluster.queues.put(QUEUE, {"task": "no.such.task", "id": f"unknown-{name}"}, body)
    sent = app.send_task(TASK, kwargs={"request": say("echo after")}, task_id=name, queue=QUEUE)
    assert sent.get(timeout=120)["message"]["content"] == "after"
    assert all(process.lives for process in cluster.processes)
