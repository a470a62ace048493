"""An MCP server over stdio that a worker starts (`FW_MCP_FILE`). Each tool marks its process, then does as named."""

import os
from pathlib import Path

import anyio.to_thread
from mcp.server.mcpserver import MCPServer

from tests.acceptance.apps.board import REDIS, Board

server = MCPServer("desk")


async def _wait(key: str) -> None:
    board = Board()
    board.mark(key, str(os.getpid()))
    await anyio.to_thread.run_sync(board.pass_gate, key)
    board.close()


@server.tool()
async def wait(key: str) -> str:
    """Look something up, once the gate is open."""
    await _wait(key)
    return f"{key} was waited for"


@server.tool()
async def sign(key: str) -> str:
    """Do something that must not be repeated, once the gate is open."""
    await _wait(key)
    return f"{key} was signed"


def servers_file(folder: Path, python: str) -> Path:
    """Write the file that names this server; return its path."""
    path = folder / "mcp.toml"
    lines = ["[servers.desk]", f'command = ["{python}", "-m", "{__name__}"]', f'inherit = ["{REDIS}"]']
    path.write_text("\n".join([*lines, 'effects = { wait = "pure" }', ""]))
    return path


if __name__ == "__main__":
    server.run("stdio")
