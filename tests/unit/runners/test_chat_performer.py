"""The chat's effects, each a task that posts facts (`runners.chat`)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api_contracts.chat import Usage
from api_contracts.failure import Failure
from api_contracts.metering import Timings
from tests.unit.runners.cell import chunk, says, wants
from tests.waiting import idle
from workers.adapters.fireworks.errors import failure_of
from workers.adapters.memory.bell import MemoryBell
from workers.adapters.memory.breakers import MemoryBreakers
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.model import OUT_OF_SCRIPT, Hold, MemoryModel
from workers.adapters.tools import CallContext, Happened, Registry, Reply, tool
from workers.core.chat.acts import (
    AskModel,
    AskTool,
    CallProgressed,
    CallReconciled,
    CallSent,
    CallSettled,
    FollowUp,
    ModelAnswered,
    ModelFailed,
    ModelSaid,
    RunTool,
    SendCall,
    StopAll,
    StopModel,
    StopTool,
)
from workers.core.runs.frame import Effect, Passing
from workers.ports import StoreUnavailable
from workers.runners.chat import ChatPerformer
from workers.runners.chime import INTERVAL_S
from workers.runners.circuits import Circuits

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
        self.breakers = MemoryBreakers(self.clock)
        self.performer = ChatPerformer(
            "run-1", self.model, Registry([wait]), self.bell, self.clock, lambda: 0.25,
            Circuits(self.breakers, self.clock),
        )  # fmt: skip

    async def perform(self, *effects: Effect) -> list[Any]:
        for effect in effects:
            self.performer.perform(effect, self.heard)
        await idle()
        return self.posted

    def heard(self, fact: object) -> None:
        self.posted.append(fact.fact if isinstance(fact, Passing) else fact)

    async def run_tools(self, *names: str) -> None:
        await self.perform(*[RunTool(name, "wait", {"name": name}, f"key of {name}") for name in names])


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.performer.close()


@pytest.mark.requirement("CHAT-02")
async def test_the_first_text_is_posted_at_once_and_later_texts_together_within_30_ms(stage: Stage) -> None:
    stage.clock.advance(-stage.clock.now() % INTERVAL_S)
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


@pytest.mark.requirement("CHAT-03")
async def test_a_usage_that_nobody_told_is_estimated_from_the_texts_and_not_from_pictures(stage: Stage) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f" * 4, "arguments": "{}" * 8}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "x" * 10_000}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "x" * 40}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "y" * 20},
    ]
    stage.model.add(says("a" * 8))
    answered = (await stage.perform(AskModel(3, {"model": "m", "messages": messages}, None)))[-1]
    assert answered.answer.usage == Usage(prompt_tokens=20, completion_tokens=2, estimated=True)


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


@pytest.mark.requirement("CHAT-21")
async def test_the_model_can_be_stopped_alone(stage: Stage) -> None:
    stage.model.add(says("a", Hold(), "b"))
    await stage.perform(ASK)
    await stage.run_tools("x")
    await stage.perform(StopModel())
    assert (stage.model.open, stage.stopped) == (0, [])


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


# -- circuits ----------------------------------------------------------------------------------------------------------


async def ask_in_vain(stage: Stage, failure: Failure, times: int = 1, ask: AskModel = ASK) -> list[str]:
    """Ask so often, of a model that fails so; return the codes of what was posted."""
    stage.posted.clear()
    for _ in range(times):
        stage.model.add([failure])
        await stage.perform(ask)
    return [each.failure.code for each in stage.posted]


def answered(status: int) -> Failure:
    return failure_of(status, {}, b"", now=0.0)


@pytest.mark.requirement("OPS-11", "CHAT-12")
@pytest.mark.parametrize("failure", [answered(s) for s in (408, 500, 502, 503, 504, 520)], ids=lambda f: f.message)
async def test_a_model_that_fails_five_times_in_a_row_is_not_asked_for_a_while(stage: Stage, failure: Failure) -> None:
    assert await ask_in_vain(stage, failure, 5) == [failure.code] * 5
    (refused,) = (await stage.perform(ASK))[5:]
    assert (refused.failure.code, refused.failure.retryable) == ("provider_circuit_open", True)
    assert refused.failure.retry_after_s == 15.0
    assert len(stage.model.asked) == 5
    other = AskModel(3, ASK.body | {"model": "n"}, "theirs")
    stage.model.add(says("yes"))
    assert isinstance((await stage.perform(other))[-1], ModelAnswered)


@pytest.mark.requirement("OPS-11", "CHAT-09")
@pytest.mark.parametrize("status", [402, 412])
async def test_an_account_in_bad_standing_is_asked_for_nothing_more_until_a_probe_works(
    stage: Stage, status: int
) -> None:
    assert await ask_in_vain(stage, answered(status)) == ["provider_account"]
    other_model = AskModel(3, ASK.body | {"model": "n"}, "theirs")
    (_, refused) = await stage.perform(other_model)
    assert (refused.failure.code, refused.failure.category) == ("provider_circuit_open", "account")
    assert (refused.failure.retry_after_s, len(stage.model.asked)) == (60.0, 1)
    stage.model.add(says("yes"), says("yes"), says("yes"))
    assert isinstance((await stage.perform(AskModel(3, ASK.body, None)))[-1], ModelAnswered), "another account"
    stage.clock.advance(60)
    await stage.perform(other_model)
    assert isinstance((await stage.perform(ASK))[-1], ModelAnswered)
    assert len(stage.model.asked) == 4


@pytest.mark.requirement("OPS-11", "CHAT-09")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 425, 429])
async def test_what_says_nothing_of_the_model_opens_no_circuit(stage: Stage, status: int) -> None:
    assert len(set(await ask_in_vain(stage, answered(status), 7))) == 1
    assert len(stage.model.asked) == 7
    assert stage.breakers.circuits == {}


@pytest.mark.requirement("OPS-11")
async def test_one_probe_finds_out_whether_the_model_is_back(stage: Stage) -> None:
    await ask_in_vain(stage, BUSY, 5)
    stage.clock.advance(15)
    hold = Hold()
    stage.model.add(says("a", hold), says("b"))
    await stage.perform(ASK, ASK)
    assert len(stage.model.asked) == 6, "the second did not wait for the first"
    assert [each.failure.code for each in stage.posted[5:] if isinstance(each, ModelFailed)] == [
        "provider_circuit_open"
    ]
    hold.go.set()
    await idle()
    await stage.perform(ASK)
    assert isinstance(stage.posted[-1], ModelAnswered)
    assert stage.breakers.circuits == {}


@pytest.mark.requirement("OPS-11")
async def test_a_probe_that_the_provider_answers_with_a_refusal_has_found_it_alive(stage: Stage) -> None:
    await ask_in_vain(stage, BUSY, 5)
    stage.clock.advance(15)
    assert await ask_in_vain(stage, answered(400)) == ["provider_bad_request"]
    assert stage.breakers.circuits == {}


@pytest.mark.requirement("OPS-11", "CHAT-05")
async def test_answers_that_break_off_count(stage: Stage) -> None:
    for _ in range(5):
        stage.model.add([chunk({"content": "a"})])
        await stage.perform(ASK)
    stage.posted.clear()
    assert (await stage.perform(ASK))[-1].failure.code == "provider_circuit_open"


@pytest.mark.requirement("OPS-11", "RUN-21")
async def test_without_the_store_every_circuit_is_closed(stage: Stage) -> None:
    class Away:
        async def enter(self, account: str | None, model: str) -> Any:
            raise StoreUnavailable("away")

        async def failed(self, account: str | None, model: str, scope: str) -> None:
            raise StoreUnavailable("away")

        worked = enter

    circuits = Circuits(Away(), stage.clock)
    performer = ChatPerformer("run-1", stage.model, Registry([]), stage.bell, stage.clock, lambda: 0.25, circuits)
    stage.model.add([BUSY], says("a"))
    for _ in range(2):
        performer.perform(ASK, stage.heard)
        await idle()
    assert [type(each) for each in stage.posted] == [ModelFailed, ModelSaid, ModelAnswered]


@pytest.mark.requirement("TOOL-17")
@pytest.mark.parametrize("sync", [True, False])
async def test_what_a_tool_tells_of_itself_is_posted_once_a_second_at_most(stage: Stage, sync: bool) -> None:
    def work(context: CallContext) -> str:
        for done in range(3):
            context.progress({"done": done})
        with pytest.raises(TypeError):
            context.progress(object())
        return "all done"

    async def later(context: CallContext) -> str:
        return work(context)

    act = tool(effect="pure", name="act")(work if sync else later)
    performer = ChatPerformer(
        "run-1", stage.model, Registry([act]), stage.bell, stage.clock, lambda: 0.25,
        Circuits(stage.breakers, stage.clock),
    )  # fmt: skip
    settled = asyncio.Event()

    def post(fact: object) -> None:
        stage.heard(fact)
        if isinstance(fact, CallSettled):
            settled.set()

    performer.perform(RunTool("1.0", "act", {}, "k"), post)
    await asyncio.wait_for(settled.wait(), 10)
    await idle()
    assert CallProgressed("1.0", '{"done": 0}') in stage.posted
    assert CallSettled("1.0", ok=True, content="all done") in stage.posted
    assert len(stage.posted) == 2
    await performer.close()


@pytest.mark.requirement("TOOL-11")
async def test_a_tool_is_asked_what_became_of_a_lost_call(stage: Stage) -> None:
    @tool(effect="at_most_once", reconcile=lambda: Happened("it burns"))
    async def fire() -> None: ...

    performer = ChatPerformer(
        "run-1", stage.model, Registry([fire]), stage.bell, stage.clock, lambda: 0.25,
        Circuits(stage.breakers, stage.clock),
    )  # fmt: skip
    settled = asyncio.Event()

    def post(fact: object) -> None:
        stage.heard(fact)
        settled.set()

    performer.perform(AskTool("1.0", "fire", {}, "k"), post)
    await asyncio.wait_for(settled.wait(), 10)
    assert stage.posted == [CallReconciled("1.0", happened=True, content="it burns")]
    await performer.close()


# -- times -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-19")
async def test_an_answer_comes_with_its_times(stage: Stage) -> None:
    first, last = Hold(), Hold()
    stage.model.times = (0.125, 0.25, {"server_processing_time": 9.0})
    performance = {"server-processing-time": "0.75", "prefill-duration": "0.5"}
    stage.model.add(
        [
            chunk({"role": "assistant"}),
            first,
            chunk({"content": "a"}),
            last,
            chunk({}, "stop") | {"perf_metrics": performance},
        ]
    )
    await stage.perform(ASK)
    stage.clock.advance(1.5)
    first.go.set()
    await idle()
    stage.clock.advance(2.0)
    last.go.set()
    await idle()
    assert stage.posted[-1].timings == Timings(
        connect_s=0.125, first_byte_s=0.25, first_token_s=1.5, processing_s=3.5,
        server={"server_processing_time": 0.75, "prefill_duration": 0.5},
    )  # fmt: skip


@pytest.mark.requirement("TOOL-14")
@pytest.mark.parametrize("closes_first", [True, False])
async def test_what_follows_from_a_result_is_done_once_that_is_in_the_journal(stage: Stage, closes_first: bool) -> None:
    done = []

    async def after() -> None:
        await asyncio.to_thread(done.append, "followed")

    @tool(effect="pure")
    async def give() -> Reply:
        return Reply(0, run_llm=False, after=after)

    performer = ChatPerformer(
        "run-1", stage.model, Registry([give]), stage.bell, stage.clock, lambda: 0.25,
        Circuits(stage.breakers, stage.clock),
    )  # fmt: skip
    performer.perform(RunTool("1.0", "give", {}, "k"), stage.posted.append)
    await idle()
    assert stage.posted == [CallSettled("1.0", ok=True, content="0", run_llm=False, follows=True)]
    assert done == [], "it is not in the journal yet"
    performer.perform(FollowUp("1.0"), stage.posted.append)
    if not closes_first:
        performer.perform(StopAll(), stage.posted.append)
    await performer.close()
    assert done == ["followed"], "the end of the run has a moment for it"
