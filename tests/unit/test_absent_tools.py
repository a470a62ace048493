"""A request for tools of a server that has not told them yet."""

from typing import Any, cast

import pytest

from api_contracts.runs import RunQueued
from workers.bootstrap import Parts, WorkerKinds
from workers.core.runs.later import NeedsAbsent
from workers.ports import ToolsAway

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": ["docs_search"]}


class Absent:
    def card(self, name: str) -> None:
        raise ToolsAway("the MCP server docs")


@pytest.mark.requirement("TOOL-18")
def test_such_a_run_is_not_refused_it_waits() -> None:
    absent: Any = Absent()
    others = {name: cast("Any", None) for name in Parts.__slots__ if name != "tools"}
    kinds = WorkerKinds(Parts(tools=absent, **others))
    with pytest.raises(NeedsAbsent, match="the MCP server docs"):
        kinds.prepare("run-1", RunQueued(kind="chat", digest=""), REQUEST, 0.0)
