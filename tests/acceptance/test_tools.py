"""Tools: in the worker, in another service; absent, broken, late."""

import pytest

from api_contracts import keys
from api_contracts.chat import ChatResult
from api_contracts.keys import derived_task_id
from api_contracts.runs import Event
from tests.acceptance.apps import tool_service
from tests.acceptance.cluster import CELERY, QUIET, Cluster, remote, say
from tests.acceptance.journal import is_right, lives, of_type, types
from tests.waiting import eventually
from workers.core.chat.background import RUNS

SECRET = "table vaults"
"""In the text of what the failing tools raise."""


def finished(cluster: Cluster, run_id: str) -> tuple[list[Event], ChatResult]:
    events = list(cluster.client.follow(run_id, timeout_s=60))
    assert is_right(events)
    return events, cluster.client.result(run_id)


def said(result: ChatResult) -> str:
    assert result.message is not None
    return str(result.message["content"])


@pytest.mark.requirement("TOOL-01")
def test_a_tool_of_the_worker_is_called_and_answered(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say(f"use lookup {name}", tools=["lookup"]), run_id=name)
    events, result = finished(cluster, name)
    assert said(result) == f"told: {name} was looked up"
    assert cluster.board.marks(name) == ["lookup"]
    assert [(call.name, call.state) for call in result.tool_calls] == [("lookup", "succeeded")]
    order = [kind for kind in types(events) if kind.startswith("tool.")]
    assert order == ["tool.batch_started", "tool.call_reserved", "tool.call_started", "tool.call_result",
                     "tool.batch_joined"]  # fmt: skip


@pytest.mark.requirement("TOOL-03")
def test_a_tool_of_another_service_answers_without_a_shared_result_backend(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say(f"use read {name}", tools=[remote("read")]), run_id=name)
    events, result = finished(cluster, name)
    assert said(result) == f"told: {name} was read"
    assert cluster.board.marks(name) == ["read"]
    (reserved,) = of_type(events, "tool.call_reserved")
    assert cluster.redis.keys(f"celery-task-meta-{reserved.data['task_id']}") == []


@pytest.mark.requirement("TOOL-06")
def test_parallel_calls_are_joined_once_and_answered_by_one_turn(cluster: Cluster, name: str) -> None:
    tools = ["lookup", remote("read")]
    cluster.client.chat.submit(say(f"use both {name}", tools=tools), run_id=name)
    events, result = finished(cluster, name)
    assert said(result) == f"told: {name}.here was looked up + {name}.there was read"
    assert types(events).count("chat.requested") == result.rounds == 2
    assert types(events).count("tool.batch_joined") == 1
    assert types(events).count("tool.call_result") == 2
    assert cluster.board.marks(f"{name}.here") + cluster.board.marks(f"{name}.there") == ["lookup", "read"]


@pytest.mark.requirement("TOOL-02")
def test_a_tool_that_nobody_knows_is_answered_to_the_model_as_not_available(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say("use no_such_tool x", tools=["lookup"]), run_id=name)
    _, result = finished(cluster, name)
    assert said(result) == "told: The tool no_such_tool is not available."
    assert [call.state for call in result.tool_calls] == ["failed"]


@pytest.mark.requirement("TOOL-04")
def test_arguments_that_do_not_fit_go_back_to_the_model_which_mends_them(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say(f"misread {name}", tools=[remote("read")]), run_id=name)
    events, result = finished(cluster, name)
    assert said(result) == f"told: {name} was read"
    assert [call.state for call in result.tool_calls] == ["failed", "succeeded"]
    assert result.tool_calls[0].content == (
        "The arguments were refused: 'key' is a required property. "
        "Call the tool again with arguments that fit its schema."
    )
    began = {event.data["call_id"] for event in of_type(events, "tool.call_started")}
    assert result.tool_calls[0].call_id not in began
    assert cluster.board.marks(name) == ["read"]


@pytest.mark.requirement("TOOL-08")
@pytest.mark.parametrize("tool", ["raises", "broken", "bare"])
def test_a_raising_tool_gives_the_model_a_neutral_text_and_the_operator_the_detail(
    cluster: Cluster, name: str, tool: str
) -> None:
    wanted = "raises" if tool == "raises" else remote(tool)
    cluster.client.chat.submit(say(f"use {tool} {name}", tools=[wanted]), run_id=name)
    events, result = finished(cluster, name)
    (failed,) = of_type(events, "tool.call_failed")
    assert failed.data["content"] == "The tool failed."
    assert said(result) == "told: The tool failed."
    if tool == "bare":
        (reserved,) = of_type(events, "tool.call_reserved")
        assert failed.data["detail"] == f"failed, see task {reserved.data['task_id']} in the tool's service"
    else:
        assert failed.data["detail"].startswith("LookupError: ")
        assert SECRET in failed.data["detail"]
    assert SECRET not in result.model_dump_json()


@pytest.mark.requirement("TOOL-07", "TOOL-08", "TOOL-11")
@pytest.mark.parametrize(("effect", "state"), [("idempotent", "timed_out"), ("at_most_once", "outcome_unknown")])
def test_a_tool_that_never_answers_is_answered_by_its_deadline(
    cluster: Cluster, name: str, effect: str, state: str
) -> None:
    """Its service does not know the task: no callback will ever come."""
    tool = remote("absent", effect=effect, timeout_s=1)
    cluster.client.chat.submit(say(f"use absent {name}", tools=[tool]), run_id=name)
    events, result = finished(cluster, name)
    assert [call.state for call in result.tool_calls] == [state]
    assert said(result).startswith("told: ")
    assert types(events).count("chat.requested") == 2
    assert len(set(lives(events))) == 1


@pytest.mark.requirement("TOOL-08")
def test_a_call_that_its_service_lost_is_answered_by_its_deadline_and_the_run_goes_on(
    cluster: Cluster, name: str
) -> None:
    """Revoked, dropped, killed at work: from none of them comes a callback."""
    queue, node = f"doomed-{name}", f"doomed-{name}@here"
    options = ("-n", node, "-Q", queue, "-P", "threads", "-c", "2", *QUIET)
    doomed = cluster.start("doomed", *CELERY, tool_service.__name__, "worker", *options).ready()
    fates = {"read": "revoked", "dropped": "dropped", "charge": "killed"}
    with cluster.foreign_app() as app:
        revoked = derived_task_id(f"{name}-revoked", "1.0")
        assert app.control.revoke(revoked, reply=True, destination=[node], timeout=10)
    for tool, fate in fates.items():
        wanted = remote(tool, queue=queue, effect="idempotent", timeout_s=8)
        cluster.client.chat.submit(say(f"use {tool} {name}.{fate}", tools=[wanted]), run_id=f"{name}-{fate}")
    eventually(lambda: cluster.board.marks(f"{name}.killed") == ["charged"], within=60)
    eventually(lambda: cluster.board.marks(f"{name}.dropped") == ["dropped"], within=60)
    doomed.kill()
    for fate in fates.values():
        _, result = finished(cluster, f"{name}-{fate}")
        assert [call.state for call in result.tool_calls] == ["timed_out"], fate
        assert said(result) == "told: The tool did not answer in time."
    assert cluster.board.marks(f"{name}.revoked") == []


@pytest.mark.requirement("TOOL-12", "TOOL-07")
def test_a_late_result_is_recorded_and_not_applied(cluster: Cluster, name: str) -> None:
    tools = ["wait_pure", remote("charge", effect="idempotent", timeout_s=1)]
    cluster.client.chat.submit(say(f"use late {name}", tools=tools), run_id=name)
    eventually(lambda: "tool.call_timed_out" in types(cluster.client.events(name)), within=60)
    cluster.board.open_gate(f"{name}.there")
    eventually(lambda: "tool.call_late_result" in types(cluster.client.events(name)), within=60)
    cluster.board.open_gate(f"{name}.here")
    _, result = finished(cluster, name)
    assert {call.name: call.state for call in result.tool_calls} == {"wait_pure": "succeeded", "charge": "timed_out"}
    assert said(result) == f"told: {name}.here was waited for + The tool did not answer in time."


@pytest.mark.requirement("TOOL-13", "TOOL-10")
def test_a_call_in_the_background_is_answered_by_one_more_turn_when_it_is_over(cluster: Cluster, name: str) -> None:
    """The run says that it goes on, tells how far it is, is parked, and wakes by the result."""
    tool = remote("charge", effect="keyed", wait=False)
    cluster.client.chat.submit(say(f"use charge {name}", tools=[tool]), run_id=name)
    eventually(lambda: types(cluster.client.events(name)).count("chat.message") == 2, within=60)
    (reserved,) = of_type(cluster.client.events(name), "tool.call_reserved")
    news = {"call_id": reserved.data["call_id"], "token": reserved.data["token"], "final": False, "value": "half"}
    assert cluster.client.signal(name, "tool_result", news)
    eventually(lambda: cluster.redis.hget(keys.lease(name), "parked") == "1", within=60)
    cluster.board.open_gate(name)
    events, result = finished(cluster, name)
    assert cluster.board.marks(name) == ["charged"]
    first, second, third = (event.data["message"] for event in of_type(events, "chat.message"))
    assert first["tool_calls"]
    assert second["content"] == f"told: {RUNS}"
    assert third["content"] == said(result) == f"heard: {name} was charged"
    assert [call.state for call in result.tool_calls] == ["succeeded"]
    assert types(events).count("chat.requested") == result.rounds == 3
    assert [event.data["content"] for event in of_type(events, "tool.call_progress")] == ["half"]
    order = [kind for kind in types(events) if kind in ("tool.batch_joined", "run.parked", "tool.call_result")]
    assert order == ["tool.batch_joined", "run.parked", "tool.call_result"]


@pytest.mark.requirement("TOOL-12")
def test_a_forged_result_is_not_believed(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=name)
    reserved = eventually(lambda: of_type(cluster.client.events(name), "tool.call_reserved"), within=60)[0]
    for token in ("", "forged"):
        forged = {"call_id": reserved.data["call_id"], "token": token, "ok": True, "value": "forged"}
        assert cluster.client.signal(name, "tool_result", forged)
    right = {"call_id": reserved.data["call_id"], "token": reserved.data["token"], "ok": True, "value": "right"}
    for _ in range(2):
        cluster.client.signal(name, "tool_result", right)
    events, result = finished(cluster, name)
    cluster.board.open_gate(name)
    assert said(result) == "told: right"
    assert types(events).count("tool.call_result") == 1
