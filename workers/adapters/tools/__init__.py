"""Tools that run in the worker: `@tool` marks a function, `Registry` finds and runs the marked ones."""

from workers.adapters.tools.marks import CallContext, tool
from workers.adapters.tools.registry import Registry

__all__ = ["CallContext", "Registry", "tool"]
