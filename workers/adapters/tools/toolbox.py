"""`ToolBox` of a worker: its own functions (`FW_TOOLS`) and the tools of MCP servers (`FW_MCP_FILE`)."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workers.adapters.tools.mcp_config import McpServer, read_servers
from workers.adapters.tools.registry import Registry
from workers.core.chat.cards import CATCH_ALL, ToolCard
from workers.errors import Misconfigured
from workers.ports import Reconciled, ToolOutcome

if TYPE_CHECKING:
    from workers.adapters.tools.mcp_servers import McpTools

PATIENCE_S: Final = 3.0
"""So long a worker that starts waits for its servers; the runs of one that is late are parked until it is there."""


class Tools:
    """All of them. `start` it on the loop that calls them; `close` ends what it started."""

    def __init__(self, registry: Registry, servers: Mapping[str, McpServer]) -> None:
        self._registry = registry
        self._servers = _made(servers) if servers else []

    @classmethod
    def load(cls, modules: str, servers: Path | None) -> "Tools":
        """Import the modules and read the file; raise `Misconfigured`."""
        return cls(Registry.load(modules), read_servers(servers))

    @property
    def names(self) -> list[str]:
        """What a request may name now: our own functions, then what each server that is there offers."""
        return [*self._registry.names, *(name for server in self._servers for name in server.names)]

    async def start(self, within_s: float = PATIENCE_S) -> list[str]:
        """Connect the servers, and wait a while for what they offer; return those that are not there yet."""
        for server in self._servers:
            server.start()
        there = await asyncio.gather(*(server.connected(within_s) for server in self._servers))
        return [server.name for server, is_there in zip(self._servers, there, strict=True) if not is_there]

    async def close(self) -> None:
        """Let the servers go."""
        await asyncio.gather(*(server.close() for server in self._servers))

    def card(self, name: str) -> ToolCard | None:
        """See the port."""
        if (found := self._registry.card(name)) or name == CATCH_ALL:
            return found
        return next((card for server in self._servers if (card := server.card(name))), None)

    async def run(self, name: str, arguments: Mapping[str, Any], *, key: str) -> ToolOutcome:
        """See the port."""
        server = next((server for server in self._servers if not self._registry.card(name) and server.has(name)), None)
        return await (server or self._registry).run(name, arguments, key=key)

    async def reconcile(self, name: str, arguments: Mapping[str, Any], *, key: str) -> Reconciled:
        """See the port. A server of MCP knows nothing of lost calls."""
        return (
            await self._registry.reconcile(name, arguments, key=key) if self._registry.card(name) else Reconciled(None)
        )


def _made(servers: Mapping[str, McpServer]) -> "list[McpTools]":
    """The SDK is an extra: only who names servers needs it."""
    try:
        from workers.adapters.tools.mcp_servers import McpTools
    except ImportError as exc:
        raise Misconfigured(f"FW_MCP_FILE: pip install 'fireworks-workers[mcp]' ({exc})") from exc
    return [McpTools(name, config) for name, config in servers.items()]
