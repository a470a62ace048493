"""What lies outside of the service in the simulated world: the provider, tools and their effects, another service."""

import json
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from api_contracts.chat import Effect
from api_contracts.client.envelope import opened
from api_contracts.failure import Failure
from workers.core.chat.acts import SendCall
from workers.core.chat.cards import ToolCard
from workers.ports import ProviderFailed, ToolOutcome

if TYPE_CHECKING:
    from tests.sim.world import World

HERE: Final[dict[str, Effect]] = {"look": "pure", "note": "idempotent", "charge": "keyed", "fire": "at_most_once"}
"""Tools of the worker."""
ELSEWHERE: Final[dict[str, Effect]] = {"ship": "keyed", "bill": "at_most_once"}
"""Tools of another service, which guards them."""
BROKEN_OFF: Final = Failure(
    code="provider_stream_broken", category="transport", message="broken off", retryable=True, at_fault="provider"
)


def answer_of(tool: str) -> str:
    """Return what a tool says when its effect happened."""
    return f"{tool} is done"


class Provider:
    """`ChatModel`: asks for the tools of each round, then tells what they said. It remembers nothing."""

    def __init__(self, world: "World", rounds: Sequence[Sequence[str]]) -> None:
        self._world = world
        self._rounds = rounds

    async def stream(
        self, body: Mapping[str, Any], *, credential: str | None, request_id: str
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """See the port."""
        self._world.found += faults_of(body["messages"])
        asked = sum(bool(message.get("tool_calls")) for message in body["messages"])
        chunks = _wants(self._rounds[asked]) if asked < len(self._rounds) else _tells(body["messages"])
        breaks = self._world.plan.lossy and self._world.chance.random() < 0.1
        for number, chunk in enumerate(chunks):
            await self._world.clock.sleep_until(self._world.clock.now() + self._world.chance.uniform(0.05, 0.4))
            if breaks and number == len(chunks) - 1:
                raise ProviderFailed(BROKEN_OFF)
            yield [chunk]


def faults_of(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say where calls and results do not match (each call has one result before the model is asked again)."""
    wanted = [call["id"] for message in messages for call in message.get("tool_calls") or []]
    given = [str(message.get("tool_call_id")) for message in messages if message["role"] == "tool"]
    return [] if sorted(wanted) == sorted(given) else [f"the model was told {given} for {wanted}"]


def _wants(tools: Sequence[str]) -> list[dict[str, Any]]:
    calls = [
        {"index": n, "id": f"call-{n}-{tool}", "function": {"name": tool, "arguments": json.dumps({"what": tool})}}
        for n, tool in enumerate(tools)
    ]
    return [_chunk({"content": "Let me see."}), *(_chunk({"tool_calls": [call]}) for call in calls),
            _chunk({}, "tool_calls")]  # fmt: skip


def _tells(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    said = [str(message["content"]) for message in messages if message["role"] == "tool"]
    return [*(_chunk({"content": f"{each}. "}) for each in ["All told", *said]), _chunk({}, "stop")]


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


@dataclass
class Effects:
    """What happened in the world beyond recall, by tool and key."""

    begun: Counter[tuple[str, str]] = field(default_factory=Counter)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)


class HereTools:
    """`ToolBox`: the tools that run in the worker."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def card(self, name: str) -> ToolCard | None:
        """See the port."""
        return ToolCard(name, name, {"type": "object"}, HERE[name]) if name in HERE else None

    async def run(self, name: str, arguments: Mapping[str, Any], *, key: str) -> ToolOutcome:
        """See the port. The effect happens in the middle of the time that it takes."""
        world = self._world
        world.effects.begun[name, key] += 1
        await world.latency()
        if HERE[name] != "keyed" or not world.effects.done[name, key]:
            world.effects.done[name, key] += 1
        await world.latency()
        return ToolOutcome(ok=True, content=answer_of(name))


class ToolService:
    """The other service: it never dies, but its broker may lose and double. Every tool of it is guarded."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._marks: dict[str, str | None] = {}

    async def take(self, call: SendCall) -> None:
        """Run a call, and link what it came to back to the run."""
        world, tool = self._world, call.task.removeprefix("svc.")
        world.effects.begun[tool, call.task_id] += 1
        if call.task_id not in self._marks:
            self._marks[call.task_id] = None
            await world.latency()
            world.effects.done[tool, call.task_id] += 1
            await world.latency()
            self._marks[call.task_id] = answer_of(tool)
        value = self._marks[call.task_id]
        if value is not None:  # else another delivery is at it, and will tell
            world.broker.deliver(call, {"call_id": call.call_id, "token": call.token} | opened(value, "result"))
