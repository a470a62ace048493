"""Chats: the provider's model, and the tools of this worker."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from api_contracts.failure import Failure
from workers.core.chat.cards import ToolCard


class ProviderFailed(Exception):
    """The provider did not answer as asked; `failure` is the contract's shape of why."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(f"{failure.code}: {failure.message}")


class ChatModel(Protocol):
    """The provider's chat endpoint, always streamed (WIRE 1.6)."""

    def stream(
        self, body: Mapping[str, Any], *, credential: str | None, request_id: str
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Yield the chunks of each network read; raise `ProviderFailed`. Closing it closes the connection."""
        ...


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a call in the worker came to: `content` for the model, `detail` for the operator when it failed."""

    ok: bool
    content: str
    detail: str = ""


class ToolBox(Protocol):
    """The tools that are registered in this worker."""

    def card(self, name: str) -> ToolCard | None:
        """Return the tool's card, or None when it is not registered here."""
        ...

    async def run(self, name: str, arguments: Mapping[str, Any], *, key: str) -> ToolOutcome:
        """Run the tool; never raises for what the tool did. `key` is the same for each repeat of one call."""
        ...
