"""The provider's request body for the next answer (WIRE 1.2): closed schema, nothing of ours in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from api_contracts.chat import ChatRequest
from api_contracts.runs import Request
from workers.core.chat.cards import ToolCard

_OURS = frozenset(Request.model_fields) | {"messages", "tools", "tool_choice", "parallel_tools", "limits", "extra"}


def body_of(
    request: ChatRequest, cards: Mapping[str, ToolCard], later: Sequence[Mapping[str, Any]], *, round_: int, tools: bool
) -> dict[str, Any]:
    """Return the body: the request's messages and the `later` ones, with tools or told not to use them.

    A forced `tool_choice` holds for the first round only: forced in every round, a run would never answer.
    """
    body = request.model_dump(mode="json", exclude_none=True, exclude=set(_OURS)) | request.extra
    body["messages"] = [m.model_dump(mode="json", exclude_none=True) for m in request.messages] + list(later)
    if cards:
        body["tools"] = [_shown(card) for card in cards.values()]
        choice = request.tool_choice if round_ == 1 else None
        body["tool_choice"] = "none" if not tools else choice or "auto"
    return body


def _shown(card: ToolCard) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": card.name, "description": card.description, "parameters": dict(card.parameters)},
    }
