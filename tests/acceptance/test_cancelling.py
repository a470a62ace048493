"""Ending a run from outside: by signal, by Celery's revoke, too late."""

from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from api_contracts.failure import RunNotFound
from tests.acceptance.cluster import Cluster, remote, say
from tests.acceptance.journal import is_right, types
from tests.waiting import eventually

WORKERS = ["chat-1@here", "chat-2@here"]


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Celery]:
    with cluster.foreign_app() as app:
        yield app


def by_client(cluster: Cluster, _: Celery, run_id: str) -> None:
    assert cluster.client.cancel(run_id, "enough")


def by_signal_task(_: Cluster, app: Celery, run_id: str) -> None:
    signal = {"type": "cancel", "reason": "enough"}
    sent = app.send_task(
        "fireworks.runs.signal", kwargs={"run_id": run_id, "signal": signal}, queue="fireworks.control"
    )
    assert sent.get(timeout=120) == "sent"


def by_revoke(_: Cluster, app: Celery, run_id: str) -> None:
    replies = app.control.revoke(run_id, reply=True, destination=WORKERS, timeout=10)
    said = sorted(reply["ok"] for each in replies for reply in each.values())
    assert len(said) == 2
    assert said[0] == f"runs {run_id} asked to cancel"
    assert said[1] in (said[0], f"runs {run_id} had ended before"), "the second may come after the end"


def by_terminate(_: Cluster, app: Celery, run_id: str) -> None:
    app.control.revoke(run_id, terminate=True)


@pytest.mark.requirement("RUN-06", "RUN-26")
@pytest.mark.parametrize("way", [by_client, by_signal_task, by_revoke, by_terminate], ids=lambda way: way.__name__)
def test_a_cancelled_run_is_revoked_and_its_connection_to_the_provider_closed(
    cluster: Cluster, app: Celery, name: str, way: Callable[[Cluster, Celery, str], None]
) -> None:
    before = cluster.provider()
    cluster.client.chat.submit(say("stall"), run_id=name)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    way(cluster, app, name)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert types(events)[-2:] == ["run.cancelling", "run.cancelled"]
    assert events[-1].data["reason"] in ("enough", "revoked")
    result = cluster.client.result(name)
    assert result.status == "cancelled"
    assert result.message is not None
    assert str(result.message["content"]).startswith("one")
    eventually(lambda: cluster.meta(name)["status"] == "REVOKED")
    eventually(lambda: cluster.provider()["disconnected"] == before["disconnected"] + 1)
    assert cluster.provider()["active"] == before["active"]


@pytest.mark.requirement("CHAT-21", "RUN-06")
def test_an_interrupt_keeps_what_was_said_and_closes_the_connection_to_the_provider(
    cluster: Cluster, name: str
) -> None:
    before = cluster.provider()
    cluster.client.chat.submit(say("stall"), run_id=name)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    assert cluster.client.interrupt(name, by="ann")
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert types(events)[-3:] == ["chat.message", "chat.usage", "run.completed"]
    result = cluster.client.result(name)
    said = "".join(event.data["text"] for event in events if event.type == "chat.delta")
    assert (result.status, result.interrupted, result.message) == (
        "completed", True, {"role": "assistant", "content": said},
    )  # fmt: skip
    assert said.startswith("one")
    assert events[-3].data["by"] == "ann"
    assert result.usage.estimated
    eventually(lambda: cluster.meta(name)["status"] == "SUCCESS")
    eventually(lambda: cluster.provider()["disconnected"] == before["disconnected"] + 1)
    assert cluster.provider()["active"] == before["active"]


@pytest.mark.requirement("CHAT-21", "TOOL-10")
def test_an_interrupt_stops_the_calls_whose_tools_say_so_and_the_run_goes_on_with_the_others(
    cluster: Cluster, name: str
) -> None:
    tools = ["wait_pure", remote("charge", effect="keyed")]
    cluster.client.chat.submit(say(f"use late {name}", tools=tools), run_id=name)
    eventually(lambda: cluster.board.marks(f"{name}.there") == ["charged"], within=60)
    eventually(lambda: cluster.board.marks(f"{name}.here") == ["begun"], within=60)
    cluster.client.interrupt(name)
    eventually(lambda: "tool.call_cancelled" in types(cluster.client.events(name)), within=60)
    for each in ("here", "there"):
        cluster.board.open_gate(f"{name}.{each}")
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    result = cluster.client.result(name)
    assert {call.name: call.state for call in result.tool_calls} == {"wait_pure": "cancelled", "charge": "succeeded"}
    assert result.message is not None
    assert result.message["content"] == f"told: The call was stopped. + {name}.there was charged"
    assert not result.interrupted


@pytest.mark.requirement("RUN-06", "RUN-26")
@pytest.mark.parametrize("way", [by_client, by_signal_task, by_revoke], ids=lambda way: way.__name__)
def test_a_run_that_nobody_has_started_is_cancelled_though_no_worker_serves_its_queue(
    cluster: Cluster, app: Celery, name: str, way: Callable[[Cluster, Celery, str], None]
) -> None:
    """The control queue's workers do it."""
    cluster.client.chat.submit(say("stall", lane="background"), run_id=name)
    way(cluster, app, name)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert events[-1].type == "run.cancelled"
    assert types(events).count("chat.delta") <= 1
    eventually(lambda: cluster.meta(name)["status"] == "REVOKED")
    cluster.redis.delete("fireworks.chat.bg")


@pytest.mark.requirement("RUN-06")
def test_a_signal_after_the_end_changes_nothing_and_says_so(cluster: Cluster, app: Celery, name: str) -> None:
    cluster.client.chat.complete(say("echo x"), run_id=name, timeout_s=60)
    eventually(lambda: cluster.announced(name))
    before = cluster.client.events(name), cluster.meta(name)
    assert cluster.client.cancel(name) is False
    app.control.revoke(name, reply=True, destination=WORKERS, timeout=10)
    signalled = app.send_task(
        "fireworks.runs.signal", kwargs={"run_id": name, "signal": {"type": "cancel"}}, queue="fireworks.control"
    )
    assert signalled.get(timeout=120) == "finished"
    assert (cluster.client.events(name), cluster.meta(name)) == before
    with pytest.raises(RunNotFound):
        cluster.client.cancel(f"{name}-never-was")


@pytest.mark.requirement("RUN-26")
def test_a_revoked_id_that_is_no_run_is_left_to_celery(cluster: Cluster, app: Celery, name: str) -> None:
    app.control.revoke(name, reply=True, destination=WORKERS, timeout=10)
    revoked = app.control.inspect(destination=WORKERS, timeout=10).revoked()
    assert {worker: name in ids for worker, ids in revoked.items()} == dict.fromkeys(WORKERS, True)
