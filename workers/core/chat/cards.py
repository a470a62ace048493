"""What the core knows of a tool: where it runs and what a repeat of it would do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api_contracts.chat import Effect, OnInterrupt, Shown

CATCH_ALL: Final = "*"
"""The card of a worker's handler for tools of any other name. No tool of a request can have this name."""


RESERVED: Final = "fw_"
"""What the names of the service's own tools begin with."""


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
    reconciles: bool = False
    """Whether it can say what became of a call that was lost."""
    on_interrupt: OnInterrupt | None = None
    show: Shown = "result"
    wait: bool = True
    """False: its calls run in the background."""
    cancel: bool | None = None
    """Whether the model may cancel calls of it in the background; None: see `cancellable`."""
    approval_s: float | None = None
    """So long a call waits for somebody to approve it; None: it needs no approval."""

    @property
    def stops(self) -> bool:
        """Whether an interrupt stops its calls: by default those of which nothing can be left half done (FEAT D3)."""
        return self.on_interrupt == "cancel" if self.on_interrupt else self.effect == "pure"

    @property
    def cancellable(self) -> bool:
        """Whether the model may cancel its calls: by default, too, those of which nothing can be left half done."""
        return self.effect == "pure" if self.cancel is None else self.cancel
