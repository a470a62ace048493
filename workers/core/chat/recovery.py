"""Calls that a model writes as JSON text instead of making them (TOOL-20): some older ones do (WIRE 7.7). Pure.

{"name": "look", "arguments": {...}}        also "parameters" for "arguments", and text in the place of the object
{"type": "function", "function": {...}}     the provider's own form, or one of these without "function"
[{...}, {...}]                              several
```json ... ```, <tool_call> ... </tool_call>, <|python_tag|> ...   around any of them
"""

import json
from collections.abc import Container
from dataclasses import replace
from typing import Any, Final

from workers.core.chat.assembler import Answer, AssembledCall
from workers.core.chat.schema import strict_json

_OPEN, _CLOSE, _TAG, _FENCE = "<tool_call>", "</tool_call>", "<|python_tag|>", "```"
_LONGEST: Final = 256 * 1024
"""Characters. A longer text is no call."""


def with_calls(answer: Answer, known: Container[str]) -> Answer:
    """Return the answer as one that makes the calls that its whole text is, if each is of a `known` tool."""
    text = answer.message.get("content")
    if answer.calls or answer.finish_reason not in ("stop", "tool_calls") or not isinstance(text, str):
        return answer
    found = _calls_in(text) if len(text) <= _LONGEST else []
    if not found or any(name not in known for name, _ in found):
        return answer
    calls = tuple(AssembledCall(place, "", name, arguments) for place, (name, arguments) in enumerate(found))
    return replace(answer, calls=calls, finish_reason="tool_calls", message=answer.message | {"content": None})


def _calls_in(text: str) -> list[tuple[str, str]]:
    """Return name and arguments of each call; none unless the text is calls and nothing else."""
    try:
        values = [strict_json(piece) for piece in _pieces(text.strip())]
    except (ValueError, RecursionError):
        return []
    made = [_call(each) for value in values for each in (value if isinstance(value, list) else [value])]
    calls = [call for call in made if call is not None]
    return calls if len(calls) == len(made) else []


def _pieces(text: str) -> list[str]:
    """Take off what stands around the JSON. No pattern: a text that nearly fits one could take for ever."""
    if text.startswith(_OPEN):
        return [piece.strip().removesuffix(_CLOSE) for piece in text.removeprefix(_OPEN).split(_OPEN)]
    if text.startswith(_TAG):
        return [text.removeprefix(_TAG)]
    if text.startswith(_FENCE) and text.endswith(_FENCE):
        return [text.strip("`").removeprefix("json")]
    return [text] if text.startswith(("{", "[")) else []


def _call(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return None
    inner = value["function"] if isinstance(value.get("function"), dict) else value
    name = inner.get("name")
    arguments = inner.get("arguments", inner.get("parameters", {}))
    if not isinstance(name, str) or not isinstance(arguments, dict | str):
        return None
    return name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
