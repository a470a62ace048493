"""What the core knows of a tool: where it runs and what a repeat of it would do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api_contracts.chat import Effect


@dataclass(frozen=True, slots=True)
class ToolCard:
    """A tool as the model sees it, and as a crash must treat it.

    `task` and `queue` are set for a tool of another service; without them it runs in the worker.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    effect: Effect
    timeout_s: float = 60.0
    task: str | None = None
    queue: str | None = None
