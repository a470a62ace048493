"""What a run under budgets asks before and tells after each attempt (OPS-12), and how it waits for its budget."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from api_contracts.failure import Failure
from api_contracts.metering import Price
from api_contracts.runs import RunQueued
from tests.unit.runners.cell import QUESTION, Cell, ChatKinds, Worker, says
from tests.waiting import idle
from workers.adapters.memory.bell import MemoryBell
from workers.adapters.memory.breakers import MemoryBreakers
from workers.adapters.memory.budgets import MemoryBudgets
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.limits import MemoryLimiter
from workers.adapters.memory.model import Hold, MemoryModel, Step
from workers.adapters.tools import Registry
from workers.core.chat.acts import AskModel, ModelAnswered, ModelFailed, StopModel
from workers.core.chat.ceiling import Ceiling, ceiling_of
from workers.core.chat.turn import ChatTurn
from workers.core.circuit import refusal
from workers.core.limits.budgets import AGAIN_S, AWAY_S, Purse, Told
from workers.core.limits.costs import held_back
from workers.core.limits.meters import Amounts, Fixed, Word
from workers.core.runs.frame import Machine
from workers.ports import ProviderFailed, StoreUnavailable
from workers.runners.allowance import Allowance
from workers.runners.chat import ChatPerformer
from workers.runners.circuits import Circuits
from workers.runners.drive import Performer
from workers.runners.outcome import Dropped, Ended, Parked
from workers.runners.pacing import Pace, Pacer

pytestmark = pytest.mark.requirement("OPS-12")

PRICES = {"m": Price(prompt="1", completion="1")}
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
MOST = ceiling_of(BODY, PRICES).units
TOKEN = 1000
"""Units that a token costs."""
HOUR_S = 3600
BUSY = Failure(code="busy", category="overloaded", message="", retryable=True, at_fault="provider")


def counted(text: str, prompt: int, completion: int) -> list[Step]:
    """Return an answer with the provider's count."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return [*says(text), {"id": "c-1", "model": "m", "choices": [], "usage": usage}]


class Books(MemoryBudgets):
    """Those that can be away."""

    away = False

    async def reserve(self, purses: Sequence[Purse], reservation: str, amount: int) -> Told:
        if self.away:
            raise StoreUnavailable("away")
        return await super().reserve(purses, reservation, amount)

    async def settle(self, purses: Sequence[Purse], reservation: str, amount: int) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().settle(purses, reservation, amount)


class Stage:
    """A performer under two budgets, and what it posted."""

    def __init__(self, limit: int = 10 * MOST, pace: Pace | None = None) -> None:
        self.clock = ManualClock()
        self.books = Books(self.clock)
        self.purses = [Purse("day", ("acme",), 10 * limit, 24 * HOUR_S), Purse("hour", ("acme",), limit, HOUR_S)]
        self.model = MemoryModel()
        self.posted: list[Any] = []
        self.allowance = Allowance("run-1", self.purses, PRICES, self.books, self.clock)
        self.performer = ChatPerformer(
            "run-1", self.model, Registry([]), MemoryBell(), self.clock, lambda: 0.25,
            Circuits(MemoryBreakers(self.clock), self.clock), pace=pace, allowance=self.allowance,
        )  # fmt: skip

    async def ask(self, attempt: int = 1, **fields: Any) -> Any:
        self.posted.clear()
        self.performer.perform(AskModel(attempt, BODY | fields, None), self.posted.append)
        await idle()
        return self.posted[-1] if self.posted else None

    @property
    def spent(self) -> list[tuple[int, int]]:
        """What is settled and what is reserved, in each book."""
        return [(book.settled, sum(book.open.values())) for book in self.books.books.values()]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.performer.close()


async def test_the_most_is_reserved_before_it_is_asked_and_what_it_cost_settled_after(stage: Stage) -> None:
    hold = Hold()
    stage.model.add([hold, *counted("a", 20, 3)])
    await stage.ask()
    assert hold.reached.is_set()
    assert stage.spent == [(0, MOST)] * 2
    hold.go.set()
    await idle()
    assert isinstance(stage.posted[-1], ModelAnswered)
    assert stage.spent == [(23 * TOKEN, 0)] * 2


async def test_what_was_reserved_is_what_is_sent(stage: Stage) -> None:
    stage.model.add(counted("a", 1, 1))
    await stage.ask(max_tokens=None)
    assert stage.model.asked[0].body["max_tokens"] == 2048


async def test_an_answer_that_nobody_counted_stays_spent_as_it_was_reserved(stage: Stage) -> None:
    stage.model.add(says("a"))
    assert isinstance(await stage.ask(), ModelAnswered)
    assert stage.spent == [(0, MOST)] * 2


@pytest.mark.parametrize(
    ("failure", "reserved"),
    [
        (BUSY.model_copy(update={"provider_status": 429}), 0),
        (BUSY.model_copy(update={"provider_status": 400, "retryable": False}), 0),
        (refusal("model", 9.0), 0),
        (held_back(9.0), 0),
        (BUSY.model_copy(update={"provider_status": 408}), MOST),
        (BUSY.model_copy(update={"provider_status": 503}), MOST),
        (BUSY, MOST),
    ],
)
async def test_what_the_provider_refused_is_refunded_and_what_may_have_cost_is_not(
    stage: Stage, failure: Failure, reserved: int
) -> None:
    stage.model.add([failure])
    assert (await stage.ask()).failure == failure
    assert stage.spent == [(0, reserved)] * 2


async def test_an_attempt_that_the_limiter_holds_back_is_refunded_and_one_without_budget_takes_no_turn() -> None:
    clock = ManualClock()
    limiter, fixed = MemoryLimiter(clock), Fixed((None, None, None, 600.0))
    stage = Stage(pace=Pace(Pacer(limiter, clock, fixed)))
    await limiter.ask(None, "m", "interactive", Amounts(generated=1_000), Word(), fixed)
    assert (await stage.ask()).failure.code == "held_back"
    assert stage.spent == [(0, 0)] * 2
    before = limiter.models[None, "m"].meters[3].level
    await stage.books.reserve(stage.purses, "other", 10 * MOST)
    assert (await stage.ask()).failure.code == "over_budget"
    assert limiter.models[None, "m"].meters[3].level == before
    await stage.performer.close()


async def test_one_that_is_stopped_stays_spent(stage: Stage) -> None:
    hold = Hold()
    stage.model.add([hold])
    await stage.ask()
    stage.performer.perform(StopModel(), stage.posted.append)
    await idle()
    assert stage.spent == [(0, MOST)] * 2


async def test_nobody_is_asked_beyond_the_budget(stage: Stage) -> None:
    await stage.books.reserve(stage.purses, "other", 10 * MOST - 1)
    failed = await stage.ask()
    assert isinstance(failed, ModelFailed)
    assert (failed.failure.code, failed.failure.retryable) == ("over_budget", True)
    assert "'hour'" in failed.failure.message
    assert failed.failure.retry_after_s == AGAIN_S, "some of it may be given back"
    await stage.books.settle(stage.purses, "other", 10 * MOST - 1)
    failed = await stage.ask(2)
    assert failed.failure.retry_after_s == HOUR_S - stage.clock.now() % HOUR_S
    assert stage.model.asked == []
    stage.clock.advance(failed.failure.retry_after_s)
    stage.model.add(counted("a", 1, 1))
    assert isinstance(await stage.ask(3), ModelAnswered)


@pytest.mark.parametrize(
    ("fields", "code"), [({"model": "x"}, "price_unknown"), ({"max_tokens": 10**6}, "budget_too_small")]
)
async def test_what_can_never_be_paid_for_fails_at_once(stage: Stage, fields: dict[str, Any], code: str) -> None:
    failed = await stage.ask(**fields)
    assert (failed.failure.code, failed.failure.retryable) == (code, False)
    assert (stage.model.asked, stage.spent) == ([], [])


@pytest.mark.requirement("RUN-21")
async def test_without_the_books_nobody_is_asked(stage: Stage) -> None:
    stage.books.away = True
    failed = await stage.ask()
    assert (failed.failure.code, failed.failure.retry_after_s) == ("budget_not_known", AWAY_S)
    assert stage.model.asked == []


@pytest.mark.requirement("RUN-21")
async def test_what_cannot_be_settled_stays_spent_and_the_answer_is_there(stage: Stage) -> None:
    hold = Hold()
    stage.model.add([hold, *counted("a", 1, 1)])
    await stage.ask()
    stage.books.away = True
    hold.go.set()
    await idle()
    assert isinstance(stage.posted[-1], ModelAnswered)
    assert stage.spent == [(0, MOST)] * 2


async def test_each_attempt_is_reserved_for_itself_also_a_summary_in_another_life(stage: Stage) -> None:
    first = await stage.allowance.reserve(0, BODY)
    assert (await stage.allowance.reserve(0, BODY)).id == first.id, "the same question"
    stage.clock.advance(1)
    ids = {first.id, (await stage.allowance.reserve(0, BODY)).id, (await stage.allowance.reserve(1, BODY)).id}
    assert (len(ids), stage.spent) == (3, [(0, 3 * MOST)] * 2)
    for attempt in range(2, 9):
        await stage.allowance.reserve(attempt, BODY)
    with pytest.raises(ProviderFailed, match="over_budget"):
        await stage.allowance.reserve(9, BODY)


# -- whole runs --------------------------------------------------------------------------------------------------------

ASKED = ceiling_of(QUESTION, PRICES)


class Thrifty(ChatKinds):
    """Chats under one budget of one question an hour."""

    def __init__(self, cell: Cell, books: MemoryBudgets) -> None:
        super().__init__(cell)
        self._books = books

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        cell, (turn, _) = self._cell, super().prepare(run_id, queued, request, at)
        assert isinstance(turn, ChatTurn)
        assert isinstance(ASKED, Ceiling)
        purse = Purse("hour", (), ASKED.units + 200 * TOKEN, HOUR_S)  # 200: what a run's own fields add
        allowance = Allowance(run_id, [purse], PRICES, self._books, cell.clock)
        return turn, ChatPerformer(
            run_id, cell.model, cell.tools, cell.bell, cell.clock, lambda: 0.0, cell.circuits, allowance=allowance
        )


async def given_waiting(cell: Cell, books: MemoryBudgets) -> tuple[Worker, str]:
    """Return a worker and a run that waits parked for its budget, which another run has spent."""
    worker = cell.worker(kinds=Thrifty(cell, books))
    cell.model.add(counted("a", 300, 1))
    first = await worker.serve(await cell.submitted())
    assert isinstance(first, Ended)
    run_id = await cell.submitted()
    outcome = await worker.serve(run_id)
    assert isinstance(outcome, Parked)
    assert await worker.reception.park(outcome)
    assert len(worker.keeper) == len(worker.reception) == 0, "it holds nothing"
    last = await cell.last(run_id)
    assert (last.type, last.data["why"]) == ("run.parked", "waits to ask the provider again")
    assert last.data["until"] == cell.clock.now() + HOUR_S - cell.clock.now() % HOUR_S, "the end of the window"
    return worker, run_id


@pytest.mark.requirement("RUN-07", "RUN-17")
async def test_a_run_parks_until_its_window_ends_and_goes_on_in_another_worker() -> None:
    cell = Cell()
    books = MemoryBudgets(cell.clock)
    worker, run_id = await given_waiting(cell, books)
    await worker.die()
    left = HOUR_S - cell.clock.now() % HOUR_S
    cell.clock.advance(left - 1)
    other = cell.worker("bob", kinds=Thrifty(cell, books))
    await other.sweeper.sweep()
    assert await other.serve(run_id) == Dropped("parked"), "it is not its time yet"
    cell.clock.advance(2)
    assert await other.sweeper.sweep() == 1
    cell.model.add(counted("b", 300, 1))
    outcome = await other.serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == "b"
    assert len(cell.model.asked) == 2, "each run asked once"
    assert [book.settled for book in books.books.values()] == [301 * TOKEN]


@pytest.mark.requirement("RUN-06", "RUN-07")
async def test_a_signal_wakes_a_run_that_waits_for_its_budget() -> None:
    cell = Cell()
    books = MemoryBudgets(cell.clock)
    worker, run_id = await given_waiting(cell, books)
    assert await cell.store.signal(run_id, "cancel", {}, "1") == "woken"
    assert await worker.sweeper.wake(run_id)
    assert isinstance(await worker.serve(run_id), Ended)
    assert (await cell.last(run_id)).type == "run.cancelled"
    assert len(cell.model.asked) == 1


@pytest.mark.requirement("RUN-04")
async def test_a_run_whose_worker_died_pays_for_each_attempt_once() -> None:
    cell = Cell()
    books, hold = MemoryBudgets(cell.clock), Hold()
    worker, run_id = cell.worker(kinds=Thrifty(cell, books)), await cell.submitted(max_tokens=10)
    cell.model.add([hold])
    await worker.begin(run_id)
    assert hold.reached.is_set()
    (book,) = books.books.values()
    (dead,) = book.open.values()
    await worker.die()
    await cell.pass_time(15)
    other = cell.worker("bob", kinds=Thrifty(cell, books))
    assert await other.sweeper.sweep() == 1
    cell.model.add(counted("b", 30, 1))
    assert isinstance(await other.serve(run_id), Ended)
    assert (book.settled, sum(book.open.values())) == (31 * TOKEN, dead), "what the dead reserved stays spent"


async def test_nothing_is_reserved_before_the_attempt_is_on_record(stage: Stage) -> None:
    stage.performer.foresee(AskModel(1, BODY, None), stage.posted.append)
    await idle()
    assert stage.books.books == {}
    stage.model.add(says("a"))
    assert isinstance(await stage.ask(), ModelAnswered)
