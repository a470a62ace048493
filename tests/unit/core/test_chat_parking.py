"""How a chat waits: in its worker for a moment, parked for longer; what wakes it, and when it asks again."""

from typing import Any

import pytest

from api_contracts import chat, runs
from tests.unit.core.turns import (
    BUSY,
    LATER,
    RUN,
    T0,
    Life,
    World,
    check,
    completed,
    kinds,
    local,
    remote,
    request,
    says,
    wants,
)
from workers.core.chat.acts import CallSent
from workers.core.runs.frame import HOLD_S, Begin, Draining, Park, Retry, SignalArrived

CANCEL = SignalArrived("5-0", "cancel", {"reason": "changed my mind"})
DRAIN = Draining(force_at=T0 + 15)
PROVIDER = "waits to ask the provider again"
SERVICES = "waits for other services"


def asking(**fields: Any) -> Life:
    return Life(request(**fields), [local("look"), remote("pay")]).begin()


def told_to_wait(jitter: float = 0.0, **fields: Any) -> Life:
    """Return a chat that was asked to come back in 20 s, and so is parked."""
    life = asking(**fields)
    life.failed(LATER, jitter)
    return life


def next_life(life: Life, now: float, *facts: object, begin: Begin | None = None) -> Life:
    again = Life(life.request, life.cards, list(life.journal), now)
    again.feed(begin or Begin("x"), *facts)
    return again


def waiting_for_a_service(*names: str, **fields: Any) -> Life:
    life = asking(**fields)
    life.answered(wants(*(names or ("pay",))))
    life.feed(CallSent("1.0"))
    return life


# -- the provider says when --------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-07", "CHAT-10")
def test_a_chat_that_is_told_to_wait_for_long_parks_until_then() -> None:
    life = asking()
    assert kinds(life.failed(LATER, jitter=0.0)) == ["chat.replaced", "Park"]
    assert life.last(Park) == Park(T0 + 20, PROVIDER)
    assert life.last(chat.ChatReplaced).retry_at == T0 + 20
    check(life)


@pytest.mark.requirement("RUN-07", "CHAT-10")
@pytest.mark.parametrize("wait_s", [0.0, 1.0, HOLD_S / 1.25])
def test_a_short_wait_keeps_its_worker(wait_s: float) -> None:
    life = asking()
    assert kinds(life.failed(BUSY.model_copy(update={"retry_after_s": wait_s}))) == ["chat.replaced"]
    due = life.machine.deadline
    assert due is not None
    assert due <= T0 + HOLD_S
    assert kinds(life.at(due)) == ["chat.requested", "AskModel"]


@pytest.mark.requirement("CHAT-10")
def test_no_two_chats_that_were_told_the_same_wait_come_back_together() -> None:
    wakes = [told_to_wait(jitter / 100).last(Park).until for jitter in range(101)]
    assert (wakes[0], wakes[-1]) == (T0 + 20, T0 + 25)
    assert len(set(wakes)) == 101


@pytest.mark.requirement("RUN-07", "CHAT-10")
def test_the_next_life_asks_when_it_is_time() -> None:
    again = next_life(told_to_wait(), T0 + 20)
    assert kinds(again.trace) == ["run.resumed", "chat.requested", "AskModel"]
    assert again.machine.deadline is None, "it has waited, and asks once"
    again.answered(says("at last"))
    assert again.result["message"]["content"] == "at last"
    check(again)


@pytest.mark.requirement("RUN-07", "CHAT-10")
def test_a_life_that_begins_too_early_parks_again_and_one_that_is_nearly_there_waits() -> None:
    """A letter that means nothing woke it, or its worker died before it had parked."""
    life = told_to_wait()
    early = next_life(life, T0 + 3)
    assert kinds(early.trace) == ["run.resumed", "Park"]
    assert early.last(Park).until == T0 + 20
    near = next_life(life, T0 + 20 - HOLD_S)
    assert kinds(near.trace) == ["run.resumed"]
    assert near.machine.deadline == T0 + 20
    assert kinds(near.at(T0 + 20)) == ["chat.requested", "AskModel"]
    check(early)
    check(near)


@pytest.mark.requirement("CHAT-10", "RUN-04")
def test_a_crash_in_a_short_wait_makes_it_no_shorter() -> None:
    life = asking()
    life.failed(BUSY.model_copy(update={"retry_after_s": 3.0}), jitter=0.0)
    assert life.parked is None
    again = next_life(life, T0 + 1)
    assert kinds(again.trace) == ["run.resumed"]
    assert again.machine.deadline == T0 + 3


@pytest.mark.requirement("RUN-07")
def test_tries_are_counted_over_parks() -> None:
    world = World(request(), [], lambda said, attempt: LATER)
    life = world.live()
    assert life.result["failure"]["code"] == "busy"
    assert [e.TYPE for e, _ in world.journal].count("chat.requested") == 5
    assert world.now >= T0 + 4 * 20


@pytest.mark.requirement("RUN-07", "RUN-06")
def test_a_cancel_ends_a_parked_chat_at_once() -> None:
    again = next_life(told_to_wait(), T0 + 1, CANCEL)
    assert kinds(again.trace) == ["run.resumed", "Park", "run.cancelling", "Finish"], "what follows a park voids it"
    assert again.result["status"] == "cancelled"
    check(again)


@pytest.mark.requirement("RUN-07", "RUN-18")
def test_an_operators_retry_does_not_wait() -> None:
    life = told_to_wait()
    word = Retry("9-0", "ann", "it is well again")
    again = next_life(life, T0 + 1, begin=Begin("x", word))
    assert kinds(again.trace) == ["run.resumed", "chat.requested", "AskModel"]
    check(again)
    killed = Life(life.request, life.cards, again.journal[:-1], T0 + 2)
    assert killed.events[-1].TYPE == "run.resumed"
    assert kinds(killed.feed(Begin("y"))) == ["run.resumed", "chat.requested", "AskModel"], "the word is in the journal"


@pytest.mark.requirement("RUN-07", "RUN-18")
def test_a_chat_that_is_reopened_does_not_wait_for_what_was_before_its_end() -> None:
    life = told_to_wait()
    life = next_life(life, T0 + 1, CANCEL)
    result = {"run_id": RUN, "kind": "chat", "status": "cancelled"}
    journal = [*life.journal, (runs.RunCancelled(result=result), T0 + 1)]
    again = Life(life.request, life.cards, journal, T0 + 2)
    assert kinds(again.feed(Begin("z"))) == ["run.resumed", "chat.requested", "AskModel"], "its word is gone"


@pytest.mark.requirement("RUN-07", "RUN-12")
def test_a_deadline_that_comes_first_wakes_it_and_ends_it() -> None:
    life = told_to_wait(deadline_s=10)
    assert life.last(Park).until == T0 + 10
    again = next_life(life, T0 + 10)
    assert again.result["failure"]["code"] == "deadline_exceeded"


@pytest.mark.requirement("RUN-05", "RUN-07")
def test_a_draining_worker_parks_what_waits_for_long_and_hands_over_what_waits_for_a_moment() -> None:
    life = asking()
    life.feed(DRAIN)
    assert kinds(life.failed(LATER)) == ["chat.replaced", "Park"]
    short = asking()
    short.feed(DRAIN)
    assert kinds(short.failed(BUSY)) == ["chat.replaced", "StopAll", "Release"]
    early = Life(life.request, life.cards, life.journal, T0 + 1)
    early.feed(DRAIN, Begin("x"))
    assert early.parked == Park(T0 + 25, PROVIDER)


# -- another service works ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-07")
def test_a_chat_that_waits_for_a_service_keeps_its_worker_for_a_moment_and_parks() -> None:
    life = waiting_for_a_service()
    assert life.machine.deadline == T0 + HOLD_S
    assert life.at(T0 + HOLD_S - 1) == []
    assert kinds(life.at(T0 + HOLD_S)) == ["Park"]
    assert life.last(Park) == Park(T0 + 60, SERVICES), "the call's deadline wakes it"
    check(life)


@pytest.mark.requirement("RUN-07")
def test_a_quick_service_is_met_by_the_life_that_called_it() -> None:
    life = waiting_for_a_service()
    life.at(T0 + HOLD_S - 1)
    assert kinds(life.feed(life.letter("1.0", value=7))) == [
        "tool.call_result", "tool.batch_joined", "chat.requested", "AskModel",
    ]  # fmt: skip
    assert life.machine.deadline is None


@pytest.mark.requirement("RUN-07", "RUN-06")
def test_the_result_wakes_it_and_the_next_life_goes_on_at_once() -> None:
    life = waiting_for_a_service()
    life.at(T0 + HOLD_S)
    again = next_life(life, T0 + 30, life.letter("1.0", value=7))
    assert kinds(again.trace) == [
        "run.resumed", "tool.call_result", "tool.batch_joined", "chat.requested", "AskModel",
    ]  # fmt: skip
    assert again.told() == ["7"]
    check(again)


@pytest.mark.requirement("RUN-07", "TOOL-07")
def test_a_service_that_never_answers_wakes_it_by_the_calls_deadline() -> None:
    world = World(
        request(), [remote("pay")], lambda said, _: says("never mind") if said else wants("pay"), frozenset({"pay"})
    )
    life = world.live()
    assert completed(life)
    assert life.ledger() == {"1.0": "timed_out"}
    assert kinds(life.trace)[:2] == ["run.resumed", "tool.call_timed_out"], "in a life of its own"
    check(life)


@pytest.mark.requirement("RUN-07")
def test_while_a_tool_of_its_own_runs_it_does_not_park() -> None:
    life = waiting_for_a_service("pay", "look")
    assert life.at(T0 + HOLD_S) == []
    assert kinds(life.settled("1.1")) == ["tool.call_result"]
    assert kinds(life.at(T0 + 2 * HOLD_S)) == ["Park"]


@pytest.mark.requirement("RUN-07")
def test_a_call_that_is_sent_anew_is_waited_for_anew() -> None:
    life = waiting_for_a_service("pay", "pay", parallel_tools=1)
    life.now = T0 + 4
    assert kinds(life.feed(life.letter("1.0", value=1)))[-1] == "SendCall"
    assert life.at(T0 + HOLD_S) == [], "its message is on its way"
    life.feed(CallSent("1.1"))
    assert kinds(life.at(T0 + 2 * HOLD_S)) == ["Park"]
    check(life)


@pytest.mark.requirement("RUN-07")
def test_for_a_call_that_is_nearly_given_up_nobody_parks() -> None:
    life = Life(request(), [remote("pay", timeout_s=2 * HOLD_S)]).begin()
    life.answered(wants("pay"))
    life.feed(CallSent("1.0"))
    assert life.machine.deadline == T0 + 2 * HOLD_S
    assert kinds(life.at(T0 + 2 * HOLD_S))[0] == "tool.call_timed_out"


@pytest.mark.requirement("RUN-07", "TOOL-06")
def test_of_two_results_the_first_wakes_it_and_it_parks_again_for_the_second() -> None:
    life = waiting_for_a_service("pay", "pay")
    life.feed(CallSent("1.1"))
    life.at(T0 + HOLD_S)
    again = next_life(life, T0 + 20, life.letter("1.0", value=1))
    assert kinds(again.trace) == ["run.resumed", "tool.call_result"]
    assert kinds(again.at(T0 + 20 + HOLD_S)) == ["Park"]
    last = next_life(again, T0 + 40, again.letter("1.1", "2-0", value=2))
    assert last.told() == ["1", "2"]
    check(last)
