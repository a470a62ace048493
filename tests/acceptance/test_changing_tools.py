"""Tools that are stopped, come and go while a chat goes on: by the model, and between the turns of a conversation."""

from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, remote, say
from tests.acceptance.journal import is_right, of_type
from tests.waiting import eventually
from workers.core.chat.cancelling import CANCEL

pytestmark = pytest.mark.requirement("TOOL-19")


def test_the_model_cancels_a_call_that_runs_in_the_background(cluster: Cluster, name: str) -> None:
    result = cluster.client.chat.complete(say(f"drop {name}", tools=["linger"]), run_id=name)
    assert result.message is not None
    assert result.message["content"] == "heard: The call was stopped."
    assert [(call.name, call.state) for call in result.tool_calls] == [("linger", "cancelled"), (CANCEL, "succeeded")]
    eventually(lambda: cluster.board.marks(name) == ["begun", "stopped"], within=60)
    events = list(cluster.client.events(name))
    assert is_right(events)
    (cancelled,) = of_type(events, "tool.call_cancelled")
    assert cancelled.data["by"] == "call 2.0"


def test_tools_come_and_go_between_the_turns_of_a_conversation(cluster: Cluster, name: str) -> None:
    chat = cluster.client.chat

    def turn(text: str, **settings: Any) -> str:
        part = {"id": name, "settings": {"tools": settings}} if settings else name
        result = chat.complete(say(text, tools=["lookup"], conversation=part))
        assert result.message is not None
        return str(result.message["content"])

    assert turn(f"use lookup {name}") == f"told: {name} was looked up"
    assert turn(f"use read {name}", read=remote("read"), lookup=False) == f"told: {name} was read"
    assert turn(f"use lookup {name}") == "told: The tool lookup is not available."
    found = cluster.client.conversations.read(name)
    assert found is not None
    news = [m["content"] for m in found.messages if str(m["content"]).startswith("News of the tools")]
    assert news == ["News of the tools: from here on there is read. lookup is not available any more."]
    assert cluster.board.marks(name) == ["lookup", "read"]
