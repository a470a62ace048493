"""The provider's request body for the next answer (WIRE 1.2): closed schema, nothing of ours in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from api_contracts.chat import ChatRequest
from api_contracts.sampling import Sampling, ToolChoice, named_tool
from workers.core.chat.cards import CATCH_ALL, ToolCard

_SENT = frozenset(Sampling.model_fields) - {"tool_choice"} | {"model"}


def body_of(
    request: ChatRequest, cards: Mapping[str, ToolCard], later: Sequence[Mapping[str, Any]], *, round_: int, tools: bool
) -> dict[str, Any]:
    """Return the body: the request's messages and the `later` ones, with tools or told not to use them.

    A forced `tool_choice` holds for the first round only: forced in every round, a run would never answer.
    """
    body = request.model_dump(mode="json", exclude_none=True, include=set(_SENT)) | request.extra
    body["messages"] = [message.to_wire() for message in request.messages] + list(later)
    if shown := [_shown(card) for card in cards.values() if card.name != CATCH_ALL]:
        body["tools"] = shown
        choice = request.tool_choice if round_ == 1 and _is_there(request.tool_choice, cards) else None
        body["tool_choice"] = "none" if not tools else choice or "auto"
    return body


def chars_of(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return the size of the texts in `messages`, in the provider's form, in characters: pictures are not counted."""
    return sum(len(text) for message in messages for text in _texts(message))


def bytes_of(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return the same in bytes of UTF-8: characters that need more bytes need more tokens."""
    return sum(len(text.encode(errors="replace")) for message in messages for text in _texts(message))


def _texts(message: Mapping[str, Any]) -> list[str]:
    content = message.get("content") or ""
    texts = [content] if isinstance(content, str) else [str(part.get("text") or "") for part in content]
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return texts + [str(function[name]) for function in functions for name in ("name", "arguments")]


def _is_there(choice: ToolChoice | None, cards: Mapping[str, ToolCard]) -> bool:
    return (name := named_tool(choice)) is None or name in cards


def _shown(card: ToolCard) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": card.name, "description": card.description, "parameters": dict(card.parameters)},
    }
