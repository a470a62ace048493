"""A route of models: failover, what it keeps, when it gives up; the budget of retries of a whole run (CHAT-10, 12)."""

import pytest

from api_contracts.chat import BatchJoined, ChatReplaced, ChatRequested
from api_contracts.failure import Failure
from api_contracts.runs import RunFailedEvent
from tests.unit.core.turns import BUSY, LATER, REFUSED, T0, Life, begun, check, local, request, says, wants
from workers.core.chat.acts import AskModel
from workers.core.chat.tries import MOST_REFUSALS
from workers.core.circuit import refusal
from workers.core.retry import BUDGET

GONE = Failure(code="provider_model_not_found", category="not_found", message="no such model", at_fault="caller")
SUSPENDED = Failure(code="provider_account", category="account", message="pay", at_fault="us")
SHUT = refusal("model", 20.0)
ROUTE = ["best", "next", {"model": "last", "credential": "theirs"}]


def routed(**fields: object) -> Life:
    return Life(request(model="", route=ROUTE, **fields), [local("look"), local("pay", "at_most_once")]).begin()


def asked(life: Life) -> list[str]:
    return [event.model for event in life.events if isinstance(event, ChatRequested)]


def fail(life: Life, *failures: Failure, jitter: float = 0.0) -> None:
    for failure in failures:
        life.failed(failure, jitter)
        if life.machine.deadline is not None and not life.end:
            life.at(life.machine.deadline)


@pytest.mark.requirement("CHAT-12")
def test_the_first_of_the_route_is_asked_first() -> None:
    life = routed()
    ask = life.last(AskModel)
    assert (ask.body["model"], ask.credential, "route" in ask.body) == ("best", None, False)
    life.answered(says("yes"))
    assert life.result["status"] == "completed"


@pytest.mark.requirement("CHAT-12")
@pytest.mark.parametrize("failure", [BUSY, LATER, GONE, SUSPENDED, SHUT], ids=lambda each: each.code)
def test_where_one_fails_the_next_is_asked_at_once_for_the_same(failure: Failure) -> None:
    life = routed()
    first = life.last(AskModel).body
    life.failed(failure, 1.0)
    assert life.last(ChatReplaced).next == 1
    assert life.machine.deadline == life.now
    life.at(life.now)
    second = life.last(AskModel)
    assert second.body == first | {"model": "next"}
    life.failed(failure, 1.0)
    life.at(life.now)
    assert (life.last(AskModel).body["model"], life.last(AskModel).credential) == ("last", "theirs")
    check(life)


@pytest.mark.requirement("CHAT-12")
def test_what_the_caller_did_wrong_helps_no_other_model() -> None:
    life = routed()
    life.failed(REFUSED)
    assert life.result["failure"]["code"] == "refused"


@pytest.mark.requirement("CHAT-12")
def test_tools_are_kept_and_no_effect_is_repeated() -> None:
    life = routed()
    life.answered(wants("look", "pay"))
    life.settled("1.0", "seen")
    life.settled("1.1", "paid")
    assert isinstance(life.events[-2], BatchJoined)
    fail(life, BUSY, GONE)
    ask = life.last(AskModel)
    assert ask.body["model"] == "last"
    assert [(m["role"], m.get("content")) for m in ask.body["messages"][-2:]] == [("tool", "seen"), ("tool", "paid")]
    assert begun(life.trace) == {"1.0": 1, "1.1": 1}
    life.answered(says("done"))
    assert life.result["rounds"] == 2
    assert [call["state"] for call in life.result["tool_calls"]] == ["succeeded", "succeeded"]
    check(life)


@pytest.mark.requirement("CHAT-12")
def test_calls_of_a_model_that_came_second_are_made_once_and_the_next_answer_begins_at_the_first_again() -> None:
    life = routed()
    fail(life, BUSY)
    life.answered(wants("pay"))
    assert asked(life) == ["best", "next"]
    life.settled("1.0", "paid")
    assert asked(life) == ["best", "next", "best"], "an unusable model costs a look at its circuit"
    fail(life, SHUT)
    life.answered(says("done"))
    assert asked(life) == ["best", "next", "best", "next"]
    assert begun(life.trace) == {"1.0": 1}
    check(life)


@pytest.mark.requirement("CHAT-12", "RUN-04")
def test_a_successor_asks_the_model_whose_turn_it_was() -> None:
    life = routed()
    life.failed(BUSY)
    again = Life(life.request, life.cards, list(life.journal), life.now).begin()
    again.at(again.now)
    assert again.last(AskModel).body["model"] == "next"
    third = Life(life.request, life.cards, list(again.journal), life.now).begin()
    assert third.last(AskModel).body["model"] == "next", "a lost worker is no failure of the model"
    check(third)


@pytest.mark.requirement("CHAT-12")
def test_once_round_there_is_a_pause_and_it_doubles() -> None:
    life, pauses = routed(), []
    for _ in range(3):
        fail(life, BUSY, BUSY)
        life.failed(BUSY, 1.0)
        pauses.append((life.machine.deadline or 0.0) - life.now)
        life.at(life.now + pauses[-1])
    assert pauses == [0.5, 1.0, 2.0]
    assert asked(life) == ["best", "next", "last"] * 3 + ["best"]


@pytest.mark.requirement("CHAT-12")
def test_the_pause_is_that_of_the_least_patient_who_may_recover() -> None:
    life = routed()
    fail(life, LATER, BUSY)
    life.failed(GONE, 1.0)
    assert life.machine.deadline == life.now + 0.5
    other = routed()
    fail(other, LATER, GONE)
    other.failed(SUSPENDED, 0.0)
    assert other.parked is not None, "20 s are no time to hold a worker"
    assert other.parked.until == other.now + 20.0


@pytest.mark.requirement("CHAT-12")
def test_models_that_are_all_gone_end_the_run() -> None:
    life = routed()
    fail(life, GONE, SUSPENDED, GONE)
    assert life.result["failure"]["code"] == "provider_model_not_found"
    assert asked(life) == ["best", "next", "last"]


@pytest.mark.requirement("CHAT-12", "OPS-11")
def test_a_run_that_nobody_may_ask_waits_parked_costs_no_try_and_gives_up_in_the_end() -> None:
    life, ways = Life(request(limits={"retries": 0})).begin(), 0
    while life.end is None:
        life.failed(SHUT, 1.0)
        ways += 1
        if life.end is None:
            assert life.parked is not None
            assert life.parked.until == pytest.approx(life.now + 25.0)
            life = Life(life.request, life.cards, list(life.journal), life.parked.until or 0.0).begin()
            life.at(life.machine.deadline or life.now)
    assert ways == MOST_REFUSALS
    assert life.result["failure"]["code"] == "provider_circuit_open"


@pytest.mark.requirement("CHAT-12", "OPS-11")
def test_an_open_circuit_between_failures_does_not_fill_the_tries_again() -> None:
    life = Life(request()).begin()
    for _ in range(BUDGET):
        fail(life, SHUT)
        if life.parked:
            life = Life(life.request, life.cards, list(life.journal), life.parked.until or 0.0).begin()
            life.at(life.machine.deadline or life.now)
        fail(life, BUSY)
    assert life.result["failure"]["code"] == "busy"


# -- the budget of a run -----------------------------------------------------------------------------------------------


def failing_before_each_answer(retries: int, answers: int) -> Life:
    """One failure before each answer: no answer uses up its own tries."""
    life = Life(request(limits={"retries": retries, "rounds": 50}), [local("look")]).begin()
    for number in range(1, answers + 1):
        fail(life, BUSY)
        if life.end is not None:
            break
        life.answered(wants("look"))
        life.settled(f"{number}.0")
    return life


@pytest.mark.requirement("CHAT-10")
def test_the_retries_of_all_answers_come_out_of_one_budget() -> None:
    life = failing_before_each_answer(retries=3, answers=10)
    assert life.result["failure"]["code"] == "busy"
    assert [type(event) for event in life.events].count(ChatReplaced) == 4, "three were made good"
    check(life)


@pytest.mark.requirement("CHAT-10")
def test_a_budget_of_nothing_means_no_retry() -> None:
    assert failing_before_each_answer(retries=0, answers=1).result["failure"]["code"] == "busy"


@pytest.mark.requirement("CHAT-10", "RUN-04")
def test_the_budget_is_counted_over_lives() -> None:
    life = failing_before_each_answer(retries=3, answers=3)
    again = Life(life.request, life.cards, list(life.journal), life.now).begin()
    again.failed(BUSY)
    assert again.result["failure"]["code"] == "busy"


@pytest.mark.requirement("CHAT-10", "RUN-18")
def test_a_run_that_an_operator_retries_has_its_budget_again() -> None:
    tries = Life(request()).machine.state.tries
    life = failing_before_each_answer(retries=1, answers=5)
    assert life.end is not None
    assert life.machine.state.tries.spent == 2
    state = life.machine.state
    state.fold(RunFailedEvent(failure=BUSY, result={}), T0)
    assert state.tries == tries
