"""Values that the emulator's tests are made of."""

import json
from typing import Any

from workers.emulator.catalogue import DEFAULT_MODELS
from workers.emulator.config import EmulatorConfig
from workers.emulator.dialogue import Dialogue, read_dialogue
from workers.emulator.direction import Ask, Director, Take
from workers.emulator.errors import Refused
from workers.emulator.schema import ChatBody
from workers.emulator.state import EmulatorState
from workers.emulator.validation import Accepted, accept

CLASSIC, NEW, REASONING, SMALL = (card.id for card in DEFAULT_MODELS)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather now",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


def chat(text: str = "Tell me something", **fields: Any) -> dict[str, Any]:
    """A request body with one user message."""
    return {"model": CLASSIC, "messages": [{"role": "user", "content": text}]} | fields


def with_results(text: str, *results: str, name: str = "get_weather", **fields: Any) -> dict[str, Any]:
    """A request body whose last messages are tool results."""
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for number in range(len(results))
    ]
    answers = [
        {"role": "tool", "tool_call_id": f"call_{number}", "content": result} for number, result in enumerate(results)
    ]
    asked = {"role": "assistant", "content": None, "tool_calls": calls}
    return chat(text, **fields) | {"messages": [{"role": "user", "content": text}, asked, *answers]}


def accepted(body: dict[str, Any], config: EmulatorConfig | None = None) -> Accepted:
    """The body, checked."""
    return accept(json.dumps(body).encode(), config or EmulatorConfig(), "request-1")


def refusal(body: Any, config: EmulatorConfig | None = None) -> tuple[int, dict[str, Any]]:
    """Status and error body of a request that must be refused."""
    try:
        accept(json.dumps(body).encode(), config or EmulatorConfig(), "request-1")
    except Refused as refused:
        return refused.reply.status, json.loads(refused.reply.text)
    raise AssertionError(f"accepted: {body}")


def message_of(body: dict[str, Any], config: EmulatorConfig | None = None) -> str:
    """The error message of a request that must be refused with 400 in shape E1."""
    status, error = refusal(body, config)
    assert status == 400
    assert error["error"] | {"message": ""} == {
        "object": "error",
        "type": "invalid_request_error",
        "code": "invalid_request_error",
        "message": "",
    }
    return str(error["error"]["message"])


def dialogue(body: dict[str, Any]) -> Dialogue:
    """The facts of a body."""
    return read_dialogue(ChatBody.model_validate(body))


def director(config: EmulatorConfig | None = None) -> Director:
    """A director with a memory of its own."""
    config = config or EmulatorConfig()
    return Director(config, EmulatorState(config.seed))


def take(body: dict[str, Any], *faults: str, config: EmulatorConfig | None = None) -> Take:
    """The answer to a body from a fresh server."""
    return director(config).direct(accepted(body, config), Ask("request-1", 1_790_000_000.0, faults))
