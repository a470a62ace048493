"""When a chat may ask the provider (OPS-10): the pacer, and the performer that asks it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api_contracts.chat import Usage
from api_contracts.failure import Failure
from tests.unit.runners.cell import says
from tests.waiting import idle
from workers.adapters.memory.bell import MemoryBell
from workers.adapters.memory.breakers import MemoryBreakers
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.limits import MemoryLimiter
from workers.adapters.memory.model import MemoryModel
from workers.adapters.tools import Registry
from workers.core.chat.acts import AskModel, ModelAnswered, ModelFailed, StopAll
from workers.core.chat.assembler import Answer
from workers.core.circuit import refusal
from workers.core.limits.meters import HOLD_S, LEARNED, NOT_STATED, Amounts, Fixed, Lane, Stated, Told, Word
from workers.core.runs.frame import Passing
from workers.ports import ProviderFailed, StoreUnavailable
from workers.runners.chat import ChatPerformer
from workers.runners.circuits import Circuits
from workers.runners.pacing import Pace, Pacer, Ticket
from workers.settings import Settings

pytestmark = pytest.mark.requirement("OPS-10")

M = "accounts/a/models/m"
BODY: dict[str, Any] = {"model": M, "messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 100}
ASK = AskModel(1, BODY, None)
FIXED: Fixed = (None, None, None, 2_400.0)  # a bucket of 400, 30 a second
SHORT = Word(stated=(*NOT_STATED[:3], Stated(2_400.0, 0.1)))


class Counted(MemoryLimiter):
    """One that counts what it is asked and told; while `away` it says nothing."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.asked: list[tuple[Amounts, Word]] = []
        self.told: list[Word] = []
        self.away = False

    async def ask(self, account: str | None, model: str, lane: Lane, cost: Amounts, word: Word, fixed: Fixed) -> Told:
        if self.away:
            raise StoreUnavailable("away")
        self.asked.append((cost, word))
        return await super().ask(account, model, lane, cost, word, fixed)

    async def hear(self, account: str | None, model: str, word: Word, fixed: Fixed) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.told.append(word)
        await super().hear(account, model, word, fixed)

    @property
    def level(self) -> float:
        """What is left of the generated tokens."""
        return self.models[None, M].meters[3].level


class Stage:
    """A pacer over a limiter, and a performer that asks it."""

    def __init__(self, fixed: Fixed = FIXED) -> None:
        self.clock = ManualClock()
        self.limiter = Counted(self.clock)
        self.pacer = Pacer(self.limiter, self.clock, fixed)
        self.model = MemoryModel()
        self.posted: list[Any] = []
        circuits = Circuits(MemoryBreakers(self.clock), self.clock)
        self.performer = ChatPerformer(
            "run-1", self.model, Registry([]), MemoryBell(), self.clock, lambda: 0.25, circuits, pace=Pace(self.pacer)
        )

    async def enter(self, lane: Lane = "interactive", **body: Any) -> Ticket:
        return await self.pacer.enter(None, BODY | body, lane)

    async def drain(self, ahead_s: float = 0.0) -> None:
        """Take the bucket, and so much ahead."""
        await self.limiter.ask(None, M, "interactive", Amounts(generated=400 + 30 * ahead_s), Word(), FIXED)

    async def ask_model(self) -> list[Any]:
        self.performer.perform(ASK, self.posted.append)
        await idle()
        return self.posted


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.performer.close()


def answer(**usage: int) -> Answer:
    return Answer({"role": "assistant", "content": "a"}, None, "stop", (), Usage(**usage), None, None, True)


async def test_a_short_wait_is_waited_here(stage: Stage) -> None:
    await stage.drain(ahead_s=3)
    stage.model.add(says("a"))
    assert await stage.ask_model() == []
    stage.clock.advance(2.9)
    await idle()
    assert stage.model.asked == []
    stage.clock.advance(0.2)
    await idle()
    assert [type(each) for each in stage.posted] == [Passing, ModelAnswered]


async def test_a_longer_wait_is_a_failure_that_says_when_and_asks_nobody(stage: Stage) -> None:
    await stage.drain(ahead_s=HOLD_S + 1)
    (failed,) = await stage.ask_model()
    assert isinstance(failed, ModelFailed)
    assert failed.failure.code == "held_back"
    assert failed.failure.retry_after_s == pytest.approx(HOLD_S + 1)
    assert stage.model.asked == []
    before = stage.limiter.level
    await stage.ask_model()
    assert stage.limiter.level == before, "who is held back pays nothing"


async def test_background_asks_again_within_the_5_s_and_is_held_back_after_them(stage: Stage) -> None:
    await stage.drain()
    stage.clock.advance(4)  # 120 of the 200 that are left to interactive requests
    waiting = asyncio.create_task(stage.enter("background"))
    await idle()
    assert not waiting.done()
    await stage.enter()  # somebody comes first
    stage.clock.advance(2.7)
    await idle()
    with pytest.raises(ProviderFailed, match="held_back"):
        await waiting


async def test_one_round_trip_carries_the_question_and_what_was_heard_before(stage: Stage) -> None:
    ticket = await stage.enter()
    stage.pacer.heard(None, M, Word(stated=(Stated(60.0, 0.9), None, None, None)))
    await stage.pacer.ended(ticket, answer(prompt_tokens=100, completion_tokens=40))
    assert (len(stage.limiter.asked), stage.limiter.told) == (1, [])
    await stage.enter()
    (first, _), (_, word) = stage.limiter.asked
    assert first == Amounts(1.0, 100.0, 100.0, 100.0)
    assert word == Word(Amounts(0.0, 0.0, 0.0, 60.0), (Stated(60.0, 0.9), None, None, None))
    assert stage.limiter.level == pytest.approx(400 - 40 - 100)


@pytest.mark.parametrize("word", [Word(refused=True), SHORT])
async def test_what_others_have_to_know_is_told_at_once(stage: Stage, word: Word) -> None:
    ticket = await stage.enter()
    stage.pacer.heard(None, M, word)
    await stage.pacer.ended(ticket, answer(completion_tokens=100, prompt_tokens=100))
    assert [(each.refused, each.stated) for each in stage.limiter.told] == [(word.refused, word.stated)]
    await stage.enter()
    assert stage.limiter.asked[-1][1] == Word(), "and once"


@pytest.mark.parametrize(
    ("failure", "back"),
    [
        (Failure(code="busy", category="rate_limit", message="", at_fault="provider", provider_status=429), 100.0),
        (Failure(code="lost", category="transport", message="", at_fault="provider"), 0.0),
        (refusal("model", 9.0), 100.0),
    ],
)
async def test_an_attempt_that_was_refused_took_no_tokens(stage: Stage, failure: Failure, back: float) -> None:
    await stage.pacer.ended(await stage.enter(), failure)
    await stage.enter()
    word = stage.limiter.asked[-1][1]
    assert word.back.generated == back
    assert word.back.requests == (1.0 if failure.code == "provider_circuit_open" else 0.0)


async def test_a_run_that_is_stopped_leaves_nothing_behind(stage: Stage) -> None:
    await stage.drain(ahead_s=3)
    await stage.ask_model()
    stage.performer.perform(StopAll(), stage.posted.append)
    await idle()
    stage.clock.advance(60)
    assert (await stage.enter()).cost.generated == 100
    assert stage.limiter.level == pytest.approx(400 - 100)


@pytest.mark.requirement("RUN-21")
async def test_without_the_store_nobody_waits(stage: Stage) -> None:
    await stage.drain(ahead_s=60)
    stage.limiter.away = True
    stage.model.add(says("a"))
    stage.pacer.heard(None, M, Word(refused=True))
    assert [type(each) for each in await stage.ask_model()] == [Passing, ModelAnswered]


async def test_a_deployment_of_its_own_has_no_such_limits(stage: Stage) -> None:
    for model in (f"{M}#accounts/a/deployments/d", "accounts/a/deployments/d"):
        for _ in range(20):
            ticket = await stage.enter(model=model, max_tokens=10_000)
        stage.pacer.heard(None, model, Word(refused=True))
        await stage.pacer.ended(ticket, answer(completion_tokens=5))
    assert (stage.limiter.asked, stage.limiter.told) == ([], [])


async def test_limits_are_learned_from_answers() -> None:
    stage = Stage(LEARNED)
    for _ in range(50):
        await stage.enter()
    ticket = await stage.enter()
    stage.pacer.heard(None, M, SHORT)
    await stage.pacer.ended(ticket, answer(prompt_tokens=100, completion_tokens=100))
    assert (await stage.enter()).cost.generated == 100
    later = asyncio.create_task(stage.enter())
    await idle()
    assert not later.done(), "now there is a queue"
    stage.clock.advance(5)
    await later
    await stage.performer.close()


def test_an_operators_limits_stand_in_the_order_of_the_meters() -> None:
    settings = Settings(
        redis_url="redis://localhost/0", limit_requests=1, limit_prompt_tokens=2, limit_uncached_tokens=3,
        limit_generated_tokens=4,
    )  # fmt: skip
    assert settings.limits == (1, 2, 3, 4)
    assert settings.model_copy(update={"limit_prompt_tokens": None}).limits == (1, None, 3, 4)


# -- an attempt that is foreseen ---------------------------------------------------------------------------------------


async def foreseen(stage: Stage) -> list[Any]:
    stage.performer.foresee(ASK, stage.posted.append)
    await idle()
    return stage.posted


async def test_leave_is_asked_for_while_the_attempt_is_put_on_record_and_the_model_only_then(stage: Stage) -> None:
    stage.model.add(says("a"))
    assert await foreseen(stage) == []
    assert len(stage.limiter.asked) == 1
    assert stage.model.asked == []
    assert [type(each) for each in await stage.ask_model()] == [Passing, ModelAnswered]
    assert (len(stage.limiter.asked), len(stage.model.asked)) == (1, 1)


async def test_what_comes_of_a_foreseen_attempt_is_told_when_it_is_on_record(stage: Stage) -> None:
    await stage.drain(ahead_s=HOLD_S + 1)
    assert await foreseen(stage) == []
    assert [type(each) for each in await stage.ask_model()] == [ModelFailed]
