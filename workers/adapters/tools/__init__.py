"""Tools of this worker: functions that `@tool` marked (`Registry`), MCP servers (`mcp_servers`); `Tools` has both."""

from workers.adapters.tools.marks import CallContext, DidNotHappen, Happened, Reply, catch_all, tool
from workers.adapters.tools.registry import Registry
from workers.adapters.tools.toolbox import Tools

__all__ = ["CallContext", "DidNotHappen", "Happened", "Registry", "Reply", "Tools", "catch_all", "tool"]
