"""Tools of MCP servers: real server processes, by both transports, and what their death means for a call."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually, eventually_async
from workers.adapters.tools.mcp_config import McpServer
from workers.adapters.tools.mcp_servers import McpTools
from workers.ports import ToolOutcome, ToolsAway

pytestmark = [pytest.mark.requirement("TOOL-18"), pytest.mark.long]

ROOT = Path(__file__).parents[2]
EFFECTS = {"add": "pure", "hang": "keyed", "once": "at_most_once"}


class Stand:
    """A server and the tools that a worker makes of it."""

    def __init__(self, folder: Path, transport: str) -> None:
        self.folder = folder
        self.transport = transport
        self.argv = [sys.executable, "-m", "tests.contract.mcp_server", str(folder)]
        self.served: subprocess.Popen[bytes] | None = None
        given: dict[str, Any] = {"command": self.argv}
        if transport == "http":
            with closing(socket.socket()) as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            given = {"url": f"http://127.0.0.1:{self.port}/mcp"}
        self.tools = McpTools("tests", McpServer.model_validate({**given, "effects": EFFECTS}))

    def serve(self) -> None:
        """Start the server, where it is not the worker that does."""
        if self.transport == "http":
            log = (self.folder / "log").open("ab")
            self.served = subprocess.Popen([*self.argv, str(self.port)], cwd=ROOT, stdout=log, stderr=log)
            log.close()

    async def ready(self) -> None:
        self.serve()
        self.tools.start()
        assert await self.tools.connected(60)

    def calls(self, tool: str) -> list[dict[str, Any]]:
        """Return what reached the server."""
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        return [call for call in map(json.loads, lines) if call["tool"] == tool]

    async def reached(self, tool: str, times: int = 1) -> int:
        async def seen() -> bool:
            return len(self.calls(tool)) >= times

        await eventually_async(seen, within=60)
        return int(self.calls(tool)[-1]["pid"])

    def kill(self, pid: int) -> None:
        """SIGKILL, and start it again."""
        os.kill(pid, signal.SIGKILL)
        if self.served:
            self.served.wait()
            self.serve()

    async def close(self) -> None:
        await self.tools.close()
        if self.served:
            self.served.kill()
            self.served.wait()


@pytest.fixture(params=["stdio", "http"])
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path, request.param)
    await made.ready()
    try:
        yield made
    finally:
        await made.close()


def call(stand: Stand, tool: str, **arguments: Any) -> "asyncio.Task[ToolOutcome]":
    return asyncio.create_task(stand.tools.run(f"tests_{tool}", arguments, key=f"key-of-{tool}"))


async def test_a_server_tells_its_tools_and_answers_calls(stand: Stand) -> None:
    card = stand.tools.card("tests_add")
    assert card is not None
    assert (card.description, card.effect, card.timeout_s, card.task) == ("Add two numbers.", "pure", 60.0, None)
    assert card.parameters["required"] == ["a", "b"]
    hello = stand.tools.card("tests_say_hello")
    assert hello is not None, "a name that the provider refuses is spelled as it allows"
    assert hello.effect == "at_most_once", "what nobody vouched for"
    assert stand.tools.card("tests_nothing") is None
    assert stand.tools.card("elsewhere") is None
    assert await call(stand, "add", a=1, b=2) == ToolOutcome(ok=True, content="3")
    assert stand.calls("add")[0]["key"] == "key-of-add"
    several = await asyncio.gather(*(call(stand, "say_hello", name=str(number)) for number in range(20)))
    assert [each.content for each in several] == [f"Hello {number}" for number in range(20)]


async def test_what_fails_is_told_and_disturbs_nothing(stand: Stand) -> None:
    failed = await call(stand, "fail")
    assert not failed.ok
    assert "fail" in failed.content
    assert failed.detail
    unfit = await call(stand, "add", a="x", b=2)
    assert not unfit.ok
    assert await call(stand, "big") == ToolOutcome(
        ok=False, content="The tool's result is too large.", detail="70000 bytes"
    )
    assert (await call(stand, "add", a=1, b=1)).content == "2"


async def test_a_call_that_may_be_repeated_is_made_again_under_its_key_when_the_server_dies(stand: Stand) -> None:
    (stand.folder / "hold").touch()
    waiting = call(stand, "hang")
    first = await stand.reached("hang")
    stand.kill(first)
    again = await stand.reached("hang", times=2)
    (stand.folder / "hold").unlink()
    assert await asyncio.wait_for(waiting, 60) == ToolOutcome(ok=True, content="at last")
    assert first != again
    assert [each["key"] for each in stand.calls("hang")] == ["key-of-hang"] * 2


async def test_a_call_that_must_not_be_repeated_is_of_unknown_outcome_when_the_server_dies(stand: Stand) -> None:
    (stand.folder / "hold").touch()
    waiting = call(stand, "once")
    stand.kill(await stand.reached("once"))
    outcome = await asyncio.wait_for(waiting, 60)
    assert (outcome.ok, outcome.code) == (False, "outcome_unknown")
    assert (await asyncio.wait_for(call(stand, "add", a=2, b=2), 60)).content == "4", "the server is used again"
    assert len(stand.calls("once")) == 1


async def test_a_call_that_finds_the_server_dead_waits_for_it_whatever_its_effect(stand: Stand) -> None:
    await call(stand, "add", a=1, b=1)
    stand.kill(await stand.reached("add"))
    assert await asyncio.wait_for(call(stand, "once"), 60) == ToolOutcome(ok=True, content="done")
    assert len(stand.calls("once")) == 1


async def test_a_call_that_is_stopped_leaves_the_line_in_order(stand: Stand) -> None:
    (stand.folder / "hold").touch()
    waiting = call(stand, "once")
    await stand.reached("once")
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert (await asyncio.wait_for(call(stand, "add", a=2, b=3), 60)).content == "5"
    (stand.folder / "hold").unlink()


async def test_a_server_that_is_not_there_yet_says_so_and_is_found_later(tmp_path: Path) -> None:
    stand = Stand(tmp_path, "http")
    try:
        stand.tools.start()
        assert not await stand.tools.connected(0.3)
        with pytest.raises(ToolsAway, match="the MCP server tests"):
            stand.tools.card("tests_add")
        stand.serve()
        assert await stand.tools.connected(60)
        assert stand.tools.card("tests_add") is not None
    finally:
        await stand.close()


async def test_the_worker_ends_the_process_that_it_started(tmp_path: Path) -> None:
    stand = Stand(tmp_path, "stdio")
    await stand.ready()
    await call(stand, "add", a=1, b=1)
    pid = await stand.reached("add")
    await stand.close()
    gone: Callable[[], bool] = lambda: not Path(f"/proc/{pid}").exists()  # noqa: E731 - a name for the wait
    eventually(gone)
