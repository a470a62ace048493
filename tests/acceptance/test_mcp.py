"""Tools of an MCP server that the workers start: called, and killed in the middle of a call."""

import os
import signal

import pytest

from tests.acceptance.cluster import Cluster, say
from tests.acceptance.journal import is_right, of_type
from tests.waiting import eventually


def begun(cluster: Cluster, run_id: str, tool: str) -> int:
    """Have the model call the tool; return the pid of the server that works on it."""
    cluster.client.chat.submit(say(f"use {tool} {run_id}", tools=[tool]), run_id=run_id)
    return int(eventually(lambda: cluster.board.marks(run_id), within=60)[0])


@pytest.mark.requirement("TOOL-18")
def test_a_pure_call_is_made_again_when_its_server_dies(cluster: Cluster, name: str) -> None:
    os.kill(begun(cluster, name, "desk_wait"), signal.SIGKILL)
    first, second = eventually(lambda: len(m := cluster.board.marks(name)) == 2 and m, within=60)
    cluster.board.open_gate(name, times=2)  # Redis may still hold the dead server's place
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert first != second
    assert of_type(events, "tool.call_result")[0].data["content"] == f"{name} was waited for"
    assert cluster.client.chat.result(name).message == {
        "role": "assistant", "content": f"told: {name} was waited for",
    }  # fmt: skip


@pytest.mark.requirement("TOOL-18", "TOOL-11")
def test_a_call_that_is_at_most_once_is_of_unknown_outcome_when_its_server_dies(cluster: Cluster, name: str) -> None:
    os.kill(begun(cluster, name, "desk_sign"), signal.SIGKILL)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert len(of_type(events, "tool.call_outcome_unknown")) == 1
    (call,) = cluster.client.chat.result(name).tool_calls
    assert (call.name, call.state, call.effect) == ("desk_sign", "outcome_unknown", "at_most_once")
    assert len(cluster.board.marks(name)) == 1
