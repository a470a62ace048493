"""Tools: in the worker, in another service; absent, broken, late."""

import pytest

from api_contracts.chat import ChatResult
from api_contracts.runs import Event
from tests.acceptance.cluster import Cluster, remote, say
from tests.acceptance.journal import is_right, lives, of_type, types
from tests.waiting import eventually

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
