"""Counting tokens: a stable tokenizer of its own. No model has it; what matters is that every count agrees with it."""

import json
import re
from collections.abc import Sequence
from typing import Any

from workers.emulator.schema import ChatBody, ChatMessage

# Up to six word characters with the blank before them, any other character alone: the pieces join back to the text.
_PIECE = re.compile(r" ?\w{1,6}|[^\w]", re.DOTALL)

_PER_MESSAGE = 4
_PER_PROMPT = 3
_PER_MEDIUM = 256


def pieces(text: str) -> list[str]:
    """The tokens of a text; joined, they are the text."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """How many tokens a text has."""
    return sum(1 for _ in _PIECE.finditer(text))


def message_tokens(message: ChatMessage, *, with_reasoning: bool = True) -> int:
    """Prompt tokens of one message, images and other media at a flat rate."""
    media = sum(1 for part in message.parts if part.type != "text")
    total = _PER_MESSAGE + count(message.text) + media * _PER_MEDIUM
    if with_reasoning and message.reasoning_content:
        total += count(message.reasoning_content)
    return total + sum(count(call.function.name) + count(call.function.text) for call in message.tool_calls or ())


def preamble_tokens(body: ChatBody) -> int:
    """Prompt tokens ahead of the messages: the tools on offer."""
    tools: list[dict[str, Any]] = [tool.function.model_dump(exclude_none=True) for tool in body.tools or ()]
    return _PER_PROMPT + (count(json.dumps(tools, ensure_ascii=False)) if tools else 0)


def prompt_tokens(body: ChatBody) -> int:
    """Prompt tokens of a request, after the eviction that `prompt_truncate_len` asks for."""
    keep = body.reasoning_history != "disabled"
    sizes = [message_tokens(message, with_reasoning=keep) for message in body.messages]
    return _evicted(body.messages, sizes, preamble_tokens(body), body.prompt_truncate_len)


def _evicted(messages: Sequence[ChatMessage], sizes: Sequence[int], preamble: int, limit: int | None) -> int:
    """The oldest messages go first and system messages stay (WIRE 1.2); the newest message is never evicted."""
    total = preamble + sum(sizes)
    for message, size in list(zip(messages, sizes, strict=True))[:-1]:
        if limit is None or total <= limit:
            break
        if message.role != "system":
            total -= size
    return total
