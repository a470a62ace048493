"""What lies outside of the service in the golden stories. It remembers nothing: whatever it says follows from what it
is asked, so that a run that goes on from the middle of its journal meets the same world.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from api_contracts.chat import Effect
from api_contracts.failure import Failure
from workers.core.chat.cards import ToolCard
from workers.ports import Clock, ProviderFailed, ToolOutcome

PACE_S: Final = 0.2
HERE: Final[dict[str, Effect]] = {"look": "pure", "note": "idempotent", "charge": "keyed", "fire": "at_most_once"}
ELSEWHERE: Final[dict[str, Effect]] = {"ship": "keyed", "bill": "at_most_once"}
DENIED: Final = Failure(code="denied", category="bad_request", message="not like this", at_fault="caller")
BUSY: Final = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
SOURCES: Final[list[dict[str, Any]]] = [
    {"id": "mill", "content": "The mill was built in 1874.", "metadata": {"title": "On the Mill"}},
    {"id": "lamp", "content": "Its lamp burned oil until 1931."},
]
CITED: Final = 'It was "built in 1874" [1]. Its lamp burned oil [2].'
UNCITED: Final = "It is an old mill."


class Oracle:
    """`ChatModel`: does what the user says.

    `use A B, then C` asks for the tools A and B in one answer, for C in the next, and tells what they said; `stumble`
    fails at first, `fail` for good; a prompt with `badly` in it is not answered in form before it is asked again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def stream(
        self, body: Mapping[str, Any], *, credential: str | None, request_id: str, times: object = None,
        lull: object = None,
    ) -> AsyncGenerator[list[dict[str, Any]], None]:  # fmt: skip
        """See the port."""
        said = str(body["messages"][-1]["content"]) if body["messages"][-1]["role"] == "user" else ""
        for piece in _answer(body):
            await self._clock.sleep_until(self._clock.now() + PACE_S)
            if "fail" in said.split():
                raise ProviderFailed(DENIED)
            yield [piece]
            if "stumble" in said.split() and request_id.endswith(".1"):
                raise ProviderFailed(BUSY)


def _answer(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = body["messages"]
    asked = next(str(message["content"]) for message in reversed(messages) if message["role"] == "user")
    if "response_format" in body:
        return _words(UNCITED if "badly" in asked and not _is_tight(body) else CITED)
    rounds = [each.split() for each in asked.removeprefix("use ").split(", then ")] if asked.startswith("use") else []
    done = sum(bool(message.get("tool_calls")) for message in messages)
    if done < len(rounds):
        return _calls(rounds[done])
    told = [str(message["content"]) for message in messages if message["role"] == "tool"]
    return _words(" ".join(["All is told:", *told]))


def _is_tight(body: Mapping[str, Any]) -> bool:
    """Whether the service asks for the second time, under its tighter form."""
    return "Write short sentences" in str(body["messages"][0]["content"])


def _calls(tools: list[str]) -> list[dict[str, Any]]:
    calls = [
        {"index": n, "id": f"call-{n}-{tool}", "function": {"name": tool, "arguments": json.dumps({"what": tool})}}
        for n, tool in enumerate(tools)
    ]
    return [_chunk({"content": "Let me see."}), _chunk({"tool_calls": calls}), _chunk({}, "tool_calls")]


def _words(text: str) -> list[dict[str, Any]]:
    usage = {"prompt_tokens": 7, "completion_tokens": len(text.split()), "total_tokens": 7 + len(text.split())}
    said = [_chunk({"content": word}) for word in text.split(" ")[:1] + [f" {each}" for each in text.split(" ")[1:]]]
    return [*said, _chunk({}, "stop") | {"usage": usage}]


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


class Tools:
    """`ToolBox`: the tools that run in the worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def card(self, name: str) -> ToolCard | None:
        """See the port."""
        return ToolCard(name, name, {"type": "object"}, HERE[name]) if name in HERE else None

    async def run(self, name: str, arguments: Mapping[str, Any], *, key: str) -> ToolOutcome:
        """See the port."""
        await self._clock.sleep_until(self._clock.now() + PACE_S)
        return ToolOutcome(ok=True, content=answer_of(name))


def answer_of(tool: str) -> str:
    """Return what a tool says."""
    return f"{tool} is done."


def remote(tool: str) -> dict[str, Any]:
    """Return a tool of the other service, as a request names it."""
    return {"name": tool, "task": f"svc.{tool}", "queue": "svc", "effect": ELSEWHERE[tool], "timeout_s": 3600}
