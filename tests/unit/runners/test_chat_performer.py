"""The chat's effects, each a task that posts facts (`runners.chat`)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api_contracts.failure import Failure
from tests.unit.runners.cell import chunk, says, wants
from tests.waiting import idle
from workers.adapters.memory.bell import MemoryBell
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.model import OUT_OF_SCRIPT, Hold, MemoryModel
from workers.adapters.tools import Registry, tool
from workers.core.chat.acts import (
    AskModel,
    CallSent,
    CallSettled,
    ModelAnswered,
    ModelFailed,
    ModelSaid,
    RunTool,
    SendCall,
    StopAll,
    StopTool,
)
from workers.core.runs.frame import Effect
from workers.runners.chat import ChatPerformer

BUSY = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
ASK = AskModel(3, {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, "theirs")
SEND = SendCall("run-1", "1.0", "task-1", "token", "svc.pay", "svc", {})


class Stage:
    """A performer, what it works with, and what it posted."""

    def __init__(self) -> None:
        self.model = MemoryModel()
        self.bell = MemoryBell()
        self.clock = ManualClock()
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.go = asyncio.Event()

        @tool(effect="pure")
        async def wait(name: str) -> str:
            """Wait to be let go."""
            self.started.append(name)
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped.append(name)
                raise
            return f"{name} is done"

        self.posted: list[Any] = []
        self.performer = ChatPerformer("run-1", self.model, Registry([wait]), self.bell, self.clock, lambda: 0.25)

    async def perform(self, *effects: Effect) -> list[Any]:
        for effect in effects:
            self.performer.perform(effect, self.posted.append)
        await idle()
        return self.posted

    async def run_tools(self, *names: str) -> None:
        await self.perform(*[RunTool(name, "wait", {"name": name}, f"key of {name}") for name in names])


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.performer.close()


@pytest.mark.requirement("CHAT-02")
async def test_the_first_text_is_posted_at_once_and_later_texts_together_after_30_ms(stage: Stage) -> None:
    stage.model.add(says("a", "b", "c", Hold()))
    assert await stage.perform(ASK) == [ModelSaid(3, "a", "")]
    stage.clock.advance(0.029)
    await idle()
    assert len(stage.posted) == 1
    stage.clock.advance(0.001)
    await idle()
    assert stage.posted[1:] == [ModelSaid(3, "bc", "")]


@pytest.mark.requirement("CHAT-02")
async def test_the_end_of_the_answer_waits_for_no_timer(stage: Stage) -> None:
    stage.model.add(says("a", "b"))
    posted = await stage.perform(ASK)
    assert posted[:2] == [ModelSaid(3, "a", ""), ModelSaid(3, "b", "")]
    assert isinstance(posted[2], ModelAnswered)
    assert (posted[2].attempt, posted[2].answer.message["content"]) == (3, "ab")
    stage.clock.advance(1)
    await idle()
    assert len(posted) == 3


async def test_the_model_is_asked_with_the_credential_and_an_id_of_the_attempt(stage: Stage) -> None:
    stage.model.add(says("a"))
    await stage.perform(ASK)
    (asked,) = stage.model.asked
    assert (asked.body, asked.credential, asked.request_id) == (ASK.body, "theirs", "run-1.3")


@pytest.mark.requirement("CHAT-06")
async def test_thought_is_posted_apart_from_text(stage: Stage) -> None:
    stage.model.add([chunk({"reasoning_content": "hm"}), chunk({"content": "yes"}), chunk({}, "stop")])
    assert (await stage.perform(ASK))[:2] == [ModelSaid(3, "", "hm"), ModelSaid(3, "yes", "")]


@pytest.mark.requirement("CHAT-02", "CHAT-10")
async def test_a_failing_answer_is_posted_after_what_was_said_with_a_throw_of_the_dice(stage: Stage) -> None:
    stage.model.add([chunk({"content": "a"}), chunk({"content": "b"}), BUSY])
    assert await stage.perform(ASK) == [
        ModelSaid(3, "a", ""), ModelSaid(3, "b", ""), ModelFailed(3, BUSY, 0.25),
    ]  # fmt: skip
    assert stage.model.open == 0


@pytest.mark.requirement("CHAT-05")
async def test_an_answer_that_breaks_off_is_a_failure_that_may_pass(stage: Stage) -> None:
    stage.model.add([chunk({"content": "a"})])
    failed = (await stage.perform(ASK))[-1]
    assert isinstance(failed, ModelFailed)
    assert (failed.failure.code, failed.failure.retryable) == ("provider_stream_cut", True)


async def test_a_model_out_of_script_says_so(stage: Stage) -> None:
    assert await stage.perform(ASK) == [ModelFailed(3, OUT_OF_SCRIPT, 0.25)]


async def test_calls_come_with_the_answer(stage: Stage) -> None:
    stage.model.add(wants("wait", "wait"))
    (answered,) = await stage.perform(ASK)
    assert [call.name for call in answered.answer.calls] == ["wait", "wait"]


async def test_a_defect_is_posted_as_it_is(stage: Stage) -> None:
    stage.model.add([KeyError("broken")])
    (posted,) = await stage.perform(ASK)
    assert isinstance(posted, KeyError)


@pytest.mark.requirement("CHAT-21")
async def test_stopping_everything_closes_the_stream_and_stops_the_tools(stage: Stage) -> None:
    stage.model.add(says("a", Hold(), "b"))
    await stage.perform(ASK)
    await stage.run_tools("x", "y")
    assert stage.model.open == 1
    await stage.perform(StopAll())
    assert (stage.model.open, sorted(stage.stopped)) == (0, ["x", "y"])
    assert stage.posted == [ModelSaid(3, "a", "")]


@pytest.mark.requirement("TOOL-07")
async def test_one_tool_can_be_stopped_alone(stage: Stage) -> None:
    await stage.run_tools("x", "y")
    await stage.perform(StopTool("x"), StopTool("never begun"))
    stage.go.set()
    await idle()
    assert stage.stopped == ["x"]
    assert stage.posted == [CallSettled("y", ok=True, content="y is done")]


async def test_closing_returns_when_everything_has_stopped(stage: Stage) -> None:
    stage.model.add(says(Hold()))
    await stage.perform(ASK)
    await stage.run_tools("x")
    await stage.performer.close()
    assert (stage.model.open, stage.stopped) == (0, ["x"])
    await stage.performer.close()


@pytest.mark.requirement("TOOL-08")
async def test_a_tool_that_fails_settles_its_call(stage: Stage) -> None:
    (settled,) = await stage.perform(RunTool("1.0", "wait", {"wrong": 1}, "k"))
    assert (settled.call_id, settled.ok) == ("1.0", False)


@pytest.mark.requirement("TOOL-03")
async def test_a_call_is_posted_as_sent_once_the_broker_has_it(stage: Stage) -> None:
    assert await stage.perform(SEND) == [CallSent("1.0")]
    assert stage.bell.calls == [SEND]


@pytest.mark.requirement("RUN-21")
async def test_a_call_is_sent_when_the_broker_is_back(stage: Stage) -> None:
    stage.bell.away = True
    assert await stage.perform(SEND) == []
    for _ in range(3):
        stage.clock.advance(1)
        await idle()
    assert stage.posted == []
    stage.bell.away = False
    stage.clock.advance(1)
    await idle()
    assert (stage.posted, stage.bell.calls) == ([CallSent("1.0")], [SEND])


@pytest.mark.requirement("TOOL-07", "TOOL-12")
async def test_a_call_that_was_given_up_is_not_sent_when_the_broker_is_back(stage: Stage) -> None:
    stage.bell.away = True
    await stage.perform(SEND)
    await stage.perform(StopTool("1.0"))
    stage.bell.away = False
    stage.clock.advance(10)
    await idle()
    assert (stage.posted, stage.bell.calls) == ([], [])


async def test_an_effect_of_another_kind_of_work_is_refused(stage: Stage) -> None:
    with pytest.raises(TypeError, match="a chat has no effect Effect"):
        stage.performer.perform(Effect(), stage.posted.append)
