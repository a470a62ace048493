"""Streams as the provider writes them (WIRE 1.6), for tests of the codec and the assembler."""

import json
from typing import Any


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk with one choice."""
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "accounts/a/models/m",
    }
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {**head, "choices": [choice], **more}


def usage_only(**usage: Any) -> dict[str, Any]:
    """Return the last chunk of the newer models: no choices, only the usage."""
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": usage}


def call(index: int | None, *, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    """Return a fragment of a tool call with what is given, and nothing else."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fragment = {"index": index, "id": call_id, "function": function or None}
    return {key: value for key, value in fragment.items() if value is not None}


def sse(*chunks: dict[str, Any], done: bool = True, end: str = "\n") -> bytes:
    """Return the bytes of a stream of `chunks`, not escaped, so that characters have several bytes."""
    events = [f"data: {json.dumps(c, ensure_ascii=False)}{end}{end}" for c in chunks]
    return "".join([*events, f"data: [DONE]{end}{end}" if done else ""]).encode()
