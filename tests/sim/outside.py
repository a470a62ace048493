"""What lies outside of the service in the simulated world: the provider, tools and their effects, another service."""

import json
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from api_contracts.chat import Effect
from api_contracts.client.envelope import opened
from api_contracts.failure import Failure
from tests.sim.spending import USAGE
from tests.sim.talks import is_news, is_of_tools, mixed
from workers.core.chat.acts import SendCall
from workers.core.chat.background import RUNS, tells
from workers.core.chat.cancelling import CANCEL
from workers.core.chat.cards import ToolCard
from workers.ports import ProviderFailed, ToolOutcome

if TYPE_CHECKING:
    from tests.sim.world import World

HERE: Final[dict[str, Effect]] = {"look": "pure", "note": "idempotent", "charge": "keyed", "fire": "at_most_once"}
"""Tools of the worker."""
ELSEWHERE: Final[dict[str, Effect]] = {"ship": "keyed", "bill": "at_most_once"}
"""Tools of another service, which guards them."""
SOURCES: Final = {"a": "The lighthouse was built in 1874.", "b": "The lamp burned oil until 1931."}
CITED: Final = 'It was "built in 1874" [1]. Its lamp burned oil until 1931 [2].'
BROKEN_OFF: Final = Failure(
    code="provider_stream_broken", category="transport", message="broken off", retryable=True, at_fault="provider"
)


SENT_AWAY: Final = Failure(
    code="provider_overloaded", category="overloaded", message="come back later", retryable=True, at_fault="provider",
    retry_after_s=20.0,
)  # fmt: skip
GIVEN_UP: Final = "call-0-charge"
"""The call that a model cancels, where it cancels any."""
SLOW_S: Final = 12.0
"""So long the other service takes where the run has to wait: longer than a run keeps its worker."""


def answer_of(tool: str) -> str:
    """Return what a tool says when its effect happened."""
    return f"{tool} is done"


class Provider:
    """`ChatModel`: asks for the tools of each round, then tells what they said. It remembers nothing."""

    def __init__(self, world: "World", rounds: Sequence[Sequence[str]]) -> None:
        self._world = world
        self._rounds = rounds

    async def stream(
        self, body: Mapping[str, Any], *, credential: str | None, request_id: str, times: object = None,
        lull: object = None,
    ) -> AsyncGenerator[list[dict[str, Any]], None]:  # fmt: skip
        """See the port."""
        self._world.found += faults_of(body["messages"]) + mixed(body["messages"])
        messages = _of_this_turn(body["messages"])
        asked = sum(bool(message.get("tool_calls")) for message in messages)
        if self._world.scenario.waits and asked not in self._world.sent_away:
            self._world.sent_away.add(asked)
            raise ProviderFailed(SENT_AWAY)
        offered = {tool["function"]["name"] for tool in body.get("tools") or ()}
        self._world.found += self._untold(body["messages"], offered, is_first=request_id.endswith(".1"))
        if asked < len(self._rounds) and offered.issuperset(self._rounds[asked]):
            chunks = _wants(self._rounds[asked])
        else:
            chunks = _wants(doubts) if (doubts := _in_doubt(messages)) else _tells(messages)
        if self._world.scenario.is_short:
            self._world.found += [] if self._world.forgot else self._world.books.faults()
            chunks[-1] |= {"usage": USAGE}
        breaks = self._world.breaks_off()
        for number, chunk in enumerate(chunks):
            await self._world.clock.sleep_until(self._world.clock.now() + self._world.chance.uniform(0.05, 0.4))
            if breaks and number == len(chunks) - 1:
                raise ProviderFailed(BROKEN_OFF)
            yield [chunk]

    def _untold(self, messages: Sequence[Mapping[str, Any]], offered: Set[str], *, is_first: bool) -> list[str]:
        """Say where the model does not know once of a tool that came after it was asked first.

        What came after an attempt that never reached the provider is news as well.
        """
        world = self._world
        news = [str(each["content"]) for each in messages if is_of_tools(each)]
        if world.began_with is None:
            world.began_with = offered if is_first else offered - ({"note"} if news else set())
        come = offered - world.began_with - {CANCEL}
        if world.scenario.talks or world.forgot:  # whoever lives on after a wipe asks with what had come before it
            return []
        return [] if len(news) == len(come) else [f"the model was told {news} of {come}"]


class CitingProvider:
    """`ChatModel` that answers from the sources, in pieces."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def stream(
        self, body: Mapping[str, Any], *, credential: str | None, request_id: str, times: object = None,
        lull: object = None,
    ) -> AsyncGenerator[list[dict[str, Any]], None]:  # fmt: skip
        """See the port."""
        world = self._world
        breaks = world.breaks_off()
        for place in range(0, len(CITED), 9):
            await world.clock.sleep_until(world.clock.now() + world.chance.uniform(0.05, 0.4))
            if breaks and place > len(CITED) / 2:
                raise ProviderFailed(BROKEN_OFF)
            yield [_chunk({"content": CITED[place : place + 9]})]
        yield [_chunk({}, "stop")]


async def signal(world: "World", run_id: str, after_s: float, kind: str, signal_id: str) -> None:
    """Be somebody who signals. In a lossy world signals overtake each other, and are sent again."""
    late = world.chance.uniform(0.0, 3.0) if world.plan.lossy else 0.0
    await world.clock.sleep_until(world.clock.now() + after_s + late)
    changed: dict[str, Any] = {"prompt": "names"} if world.scenario.words else {"tools": {"note": True}}
    data = {"settings": changed} if kind == "update_settings" else {"reason": "enough"}
    for _ in range(2 if world.plan.lossy and world.chance.random() < 0.3 else 1):
        if await world.store.signal(run_id, kind, data, signal_id) == "woken" and not world.plan.lossy:
            world.wake(run_id)
        await world.latency()


async def approve(world: "World", run_id: str) -> None:
    """Be somebody who looks now and then, and lets every call be made that waits."""
    while True:
        await world.clock.sleep_until(world.clock.now() + 7.0)
        events = await world.store.read(run_id)
        waiting = [e.data["call_id"] for e in events if e.type == "tool.call_reserved" and e.data.get("approval")]
        judged = {e.data["call_id"] for e in events if e.type == "tool.call_approved"}
        for call_id in waiting:
            if call_id not in judged:
                data = {"call_id": call_id, "by": "ann"}
                if await world.store.signal(run_id, "approve", data, f"approve-{call_id}") == "woken":
                    world.wake(run_id)


async def retry(world: "World", run_id: str, after_s: float) -> None:
    """Be an operator who retries what did not complete, until it lives or there is no need to."""
    await world.clock.sleep_until(world.clock.now() + after_s)
    while await world.store.retry(run_id, "ann", "once more") in ("telling", "running", "woken", "missing"):
        await world.clock.sleep_until(world.clock.now() + 2.0)
    world.retried = True
    world.wake(run_id)


def faults_of(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say where calls and results do not match (each call has one result before the model is asked again).

    Of a call that ran in the background the model hears once more, and only of such a call.
    """
    wanted = [call["id"] for message in messages for call in message.get("tool_calls") or []]
    given = [str(message.get("tool_call_id")) for message in messages if message["role"] == "tool"]
    ran = [str(message.get("tool_call_id")) for message in messages if message.get("content") == RUNS]
    late = [call_id for message in messages if is_news(message) for call_id in wanted if tells(message, call_id)]
    wrong = [] if sorted(wanted) == sorted(given) else [f"the model was told {given} for {wanted}"]
    return wrong if len(set(late)) == len(late) and set(late) <= set(ran) else [*wrong, f"news of {late}, {ran} ran"]


def _of_this_turn(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return what follows the last question."""
    last = max(place for place, message in enumerate(messages) if message["role"] == "user" and not is_news(message))
    return messages[last + 1 :]


def _in_doubt(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the tools that a model would call once more: those with a key of which it heard nothing certain."""
    names = {call["id"]: call["function"]["name"] for each in messages for call in each.get("tool_calls") or []}
    told = [(names[str(each["tool_call_id"])], str(each["content"])) for each in messages if each["role"] == "tool"]
    certain = {name for name, content in told if "not known" not in content}
    return [name for name, _ in told if name not in certain and (HERE | ELSEWHERE).get(name) == "keyed"]


def _wants(tools: Sequence[str]) -> list[dict[str, Any]]:
    calls = [
        {"index": n, "id": f"call-{n}-{tool}", "function": {"name": tool, "arguments": json.dumps(_given(tool))}}
        for n, tool in enumerate(tools)
    ]
    return [_chunk({"content": "Let me see."}), *(_chunk({"tool_calls": [call]}) for call in calls),
            _chunk({}, "tool_calls")]  # fmt: skip


def _given(tool: str) -> dict[str, str]:
    return {"id": GIVEN_UP} if tool == CANCEL else {"what": tool}


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
        if name not in HERE:
            return None
        scenario = self._world.scenario
        wait_s, cancel = 600.0 if scenario.approved else None, scenario.gives_up or None
        return ToolCard(
            name, name, {"type": "object"}, HERE[name], approval_s=wait_s, wait=not scenario.background, cancel=cancel
        )

    async def run(self, name: str, arguments: Mapping[str, Any], *, key: str) -> ToolOutcome:
        """See the port. The effect happens in the middle of the time that it takes."""
        world = self._world
        world.effects.begun[name, key] += 1
        is_slow = world.scenario.gives_up and name == "charge"
        await (world.clock.sleep_until(world.clock.now() + SLOW_S) if is_slow else world.latency())
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
            await (world.clock.sleep_until(world.clock.now() + SLOW_S) if world.scenario.waits else world.latency())
            world.effects.done[tool, call.task_id] += 1
            await world.latency()
            self._marks[call.task_id] = answer_of(tool)
        value = self._marks[call.task_id]
        if value is not None:  # else another delivery is at it, and will tell
            world.broker.deliver(call, {"call_id": call.call_id, "token": call.token} | opened(value, "result"))
