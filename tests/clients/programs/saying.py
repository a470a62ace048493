"""What the programs share: each checks by `assert`, and says at its end which version passed what."""

import json
from importlib.metadata import version

MODEL = "accounts/fireworks/models/emulated-classic"
NEW = "accounts/fireworks/models/emulated-new"
QUESTION = [{"role": "user", "content": "Tell me something"}]
WEATHER = [{"role": "user", "content": "What is the weather in Oslo?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather now", "parameters": CITY}}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def passed(package: str, *checks: str) -> None:
    """Print the last line."""
    print(json.dumps({"package": package, "version": version(package), "passed": checks}))


def with_result(call_id: str, name: str, arguments: str) -> list[dict]:
    """Return the dialogue after the tool was called."""
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    told = {"role": "tool", "tool_call_id": call_id, "content": '{"sky": "clear"}'}
    return [*WEATHER, {"role": "assistant", "content": None, "tool_calls": [call]}, told]
