"""An MCP server of the tests: `python -m tests.contract.mcp_server FOLDER [PORT]`, stdio without a port.

What its tools do is seen in the folder: each call adds a line to `calls`; a call of `hang` or `once` waits while the
file `hold` is there.
"""

import json
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer

from tests.waiting import eventually_async
from workers.adapters.tools.mcp_config import KEY

FOLDER = Path(sys.argv[1])
server = MCPServer("tests")


def note(tool: str, context: Context) -> None:
    meta = context.request_context.meta or {}
    with (FOLDER / "calls").open("a") as file:
        file.write(json.dumps({"tool": tool, "pid": os.getpid(), "key": dict(meta).get(KEY)}) + "\n")


async def held() -> None:
    async def let_go() -> bool:
        return not (FOLDER / "hold").exists()

    await eventually_async(let_go, within=300)


@server.tool()
def add(a: int, b: int, context: Context) -> int:
    """Add two numbers."""
    note("add", context)
    return a + b


@server.tool(name="say.hello")
def say_hello(name: str) -> str:
    """Greet."""
    return f"Hello {name}"


@server.tool()
def fail(context: Context) -> str:
    """Fail."""
    note("fail", context)
    raise ValueError("no such shelf")


@server.tool()
def big() -> str:
    """Say too much."""
    return "x" * 70_000


@server.tool()
async def hang(context: Context) -> str:
    """Wait, then answer."""
    note("hang", context)
    await held()
    return "at last"


@server.tool()
async def once(context: Context) -> str:
    """Do what must not be repeated, then wait."""
    note("once", context)
    await held()
    return "done"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")
