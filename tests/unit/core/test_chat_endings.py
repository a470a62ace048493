"""How a chat ends before its answer, or goes on elsewhere: cancel, conflict, draining."""

from typing import Any

import pytest

from api_contracts import chat, runs
from api_contracts.chat import Effect
from tests.unit.core.turns import BUSY, T0, Life, World, check, completed, kinds, local, remote, request, says, wants
from workers.core.chat.acts import (
    AskModel,
    CallSent,
    CallSettled,
    ModelAnswered,
    ModelFailed,
    ModelSaid,
    RunTool,
    SendCall,
)
from workers.core.runs.frame import Begin, Draining, SignalArrived, Woke

CANCEL = SignalArrived("5-0", "cancel", {"reason": "changed my mind"})
DRAIN = Draining(force_at=T0 + 15)


def asking(**fields: Any) -> Life:
    return Life(request(**fields), [local("look"), remote("pay")]).begin()


def calling(*names: Any, **fields: Any) -> Life:
    life = asking(**fields)
    life.answered(wants(*names))
    return life


# -- cancel ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-06")
def test_a_cancel_while_the_model_speaks_keeps_what_was_said() -> None:
    life = asking()
    life.feed(ModelSaid(1, "I thi", ""), ModelSaid(1, "nk", ""))
    assert kinds(life.feed(CANCEL)) == ["run.cancelling", "StopAll", "Finish"]
    assert life.last(runs.RunCancelling) == runs.RunCancelling(inbox="5-0", reason="changed my mind")
    assert life.result["status"] == "cancelled"
    assert life.result["message"] == {"role": "assistant", "content": "I think"}
    assert life.end is not None
    assert (life.end.reason, life.end.failure) == ("changed my mind", None)
    check(life)


@pytest.mark.requirement("RUN-06", "TOOL-12")
@pytest.mark.parametrize(
    ("effect", "state"),
    [
        ("pure", "cancelled"),
        ("idempotent", "outcome_unknown"),
        ("keyed", "outcome_unknown"),
        ("at_most_once", "outcome_unknown"),
    ],
)
@pytest.mark.parametrize("make", [local, remote])
def test_a_cancel_while_tools_run_settles_each_by_what_it_may_have_done(make: Any, effect: Effect, state: str) -> None:
    life = Life(request(parallel_tools=1), [make("act", effect)]).begin()
    life.answered(wants("act", "act"))
    assert kinds(life.feed(CANCEL))[:3] == ["run.cancelling", "StopAll", f"tool.call_{state}"]
    assert life.ledger() == {"1.0": state, "1.1": "cancelled"}, "the second never began"
    assert [line["state"] for line in life.result["tool_calls"]] == [state, "cancelled"]
    check(life)


@pytest.mark.requirement("RUN-06")
def test_a_cancel_before_the_start_ends_the_run_before_it_answers() -> None:
    life = Life(request())
    life.feed(Begin("w"), CANCEL)
    assert life.result["status"] == "cancelled"
    check(life)


@pytest.mark.requirement("RUN-06")
def test_a_cancel_during_a_pause_ends_it() -> None:
    life = asking()
    life.failed(BUSY)
    assert kinds(life.feed(CANCEL)) == ["run.cancelling", "Finish"]


@pytest.mark.requirement("RUN-04", "RUN-06")
@pytest.mark.parametrize("effect", ["pure", "at_most_once"])
def test_a_cancel_that_was_taken_is_finished_by_the_successor(effect: Effect) -> None:
    life = Life(request(), [remote("act", effect)]).begin()
    life.answered(wants("act"))
    life.feed(CANCEL)
    taken = 1 + life.types.index("run.cancelling")
    assert taken < len(life.journal)
    for kept in range(taken, len(life.journal) + 1):
        again = Life(request(), [remote("act", effect)], journal=life.journal[:kept]).begin()
        assert (again.result["status"], again.ledger()) == ("cancelled", life.ledger())
        assert not any(isinstance(action, AskModel | SendCall) for action in again.trace)
        check(again)


@pytest.mark.requirement("RUN-06")
@pytest.mark.parametrize("data", [{}, {"reason": None}, {"reason": ""}])
def test_a_cancel_needs_no_reason(data: dict[str, Any]) -> None:
    life = asking()
    life.feed(SignalArrived("1-0", "cancel", data))
    assert life.end is not None
    assert life.end.reason == ""


@pytest.mark.requirement("RUN-06", "TOOL-12")
def test_after_the_end_nothing_changes_anything() -> None:
    life = asking()
    life.answered(says())
    late = [CANCEL, Begin("x"), ModelSaid(1, "x", ""), ModelAnswered(1, says()), ModelFailed(1, BUSY, 1), Woke(), DRAIN]
    assert life.feed(*late, CallSettled("1.0", ok=True, content=""), CallSent("1.0")) == []


@pytest.mark.requirement("RUN-06")
@pytest.mark.parametrize("kind", ["", "approve", "something new"])
def test_a_signal_that_changes_nothing_is_noted(kind: str) -> None:
    life = asking()
    assert kinds(life.feed(SignalArrived("1-0", kind, {"by": "ann"}))) == ["run.ignored"]
    assert life.last(runs.RunIgnored).signal == kind
    assert life.machine.cursor == "1-0"


@pytest.mark.requirement("RUN-01")
def test_a_conflict_is_noted_and_the_run_goes_on() -> None:
    life = asking()
    assert kinds(life.feed(SignalArrived("3-0", "conflict", {"digest": "d2"}))) == ["run.conflict"]
    assert life.last(runs.RunConflicted) == runs.RunConflicted(inbox="3-0", digest="d2")
    life.answered(says())
    assert life.result["status"] == "completed"
    check(life)


# -- draining ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-05")
def test_a_draining_worker_lets_the_model_finish() -> None:
    life = asking()
    assert life.feed(DRAIN) == []
    life.answered(says())
    assert life.result["status"] == "completed"


@pytest.mark.requirement("RUN-05")
def test_a_draining_worker_hands_over_instead_of_beginning_calls() -> None:
    life = asking()
    life.feed(DRAIN)
    assert kinds(life.answered(wants("look", "pay"))) == [
        "chat.message", "chat.usage", "tool.batch_started", "StopAll", "Release",
    ]  # fmt: skip
    check(life)


@pytest.mark.requirement("RUN-05")
def test_a_draining_worker_waits_for_its_tools_and_begins_no_other() -> None:
    life = calling("look", "look", parallel_tools=1)
    assert life.feed(DRAIN) == []
    assert kinds(life.settled("1.0")) == ["tool.call_result", "StopAll", "Release"]
    check(life)


@pytest.mark.requirement("RUN-05")
def test_a_draining_worker_hands_over_between_two_rounds() -> None:
    life = calling("look")
    life.feed(DRAIN)
    assert kinds(life.settled("1.0")) == ["tool.call_result", "tool.batch_joined", "StopAll", "Release"]


@pytest.mark.requirement("RUN-05")
def test_an_idle_run_is_handed_over_at_once() -> None:
    waiting = calling("pay")
    waiting.feed(CallSent("1.0"))
    assert kinds(waiting.feed(DRAIN)) == ["StopAll", "Release"]
    pausing = asking()
    pausing.failed(BUSY)
    assert kinds(pausing.feed(DRAIN)) == ["StopAll", "Release"]
    check(waiting)


@pytest.mark.requirement("RUN-05")
def test_a_draining_worker_does_not_sit_out_a_pause() -> None:
    life = asking()
    life.feed(DRAIN)
    assert kinds(life.failed(BUSY)) == ["chat.replaced", "StopAll", "Release"]


@pytest.mark.requirement("RUN-05", "TOOL-11")
def test_a_draining_worker_lets_a_call_get_to_the_broker() -> None:
    life = calling("pay")
    assert life.feed(DRAIN) == []
    assert kinds(life.feed(CallSent("1.0"))) == ["tool.call_started", "StopAll", "Release"]
    check(life)


@pytest.mark.requirement("RUN-05")
@pytest.mark.parametrize("names", [(), ("look",), ("pay",)])
def test_when_the_time_is_over_the_run_is_handed_over_as_it_is(names: tuple[str, ...]) -> None:
    life = calling(*names) if names else asking()
    life.feed(DRAIN)
    assert life.machine.deadline == T0 + 15
    assert life.at(T0 + 14) == []
    assert kinds(life.at(T0 + 15)) == ["StopAll", "Release"]
    check(life)


@pytest.mark.requirement("RUN-05")
def test_a_run_that_comes_to_a_draining_worker_is_handed_over_before_it_begins() -> None:
    life = Life(request())
    assert kinds(life.feed(DRAIN, Begin("w"))) == ["StopAll", "Release"]
    assert life.types == []


@pytest.mark.requirement("RUN-05", "RUN-12")
def test_a_draining_run_still_takes_cancels_and_deadlines() -> None:
    cancelled, late = asking(), asking(deadline_s=10)
    cancelled.feed(DRAIN, CANCEL)
    assert cancelled.result["status"] == "cancelled"
    late.feed(DRAIN)
    late.at(T0 + 10)
    assert late.result["failure"]["code"] == "deadline_exceeded"


@pytest.mark.requirement("RUN-05", "TOOL-11", "TOOL-12")
@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_handing_over_in_the_middle_of_a_batch_begins_every_call_exactly_once(parallel: int) -> None:
    cards = [local("a", "at_most_once"), remote("b", "at_most_once")]
    asked = request(parallel_tools=parallel)
    world = World(asked, cards, lambda said, _: says() if said else wants("b", "b", "a", "a", "b"))
    life = Life(asked, cards).begin()
    life.feed(ModelAnswered(1, wants("b", "b", "a", "a", "b")), DRAIN)
    while not life.released:
        life.feed(*[CallSent(call_id) for call_id in life.ledger()])
        life.feed(*[CallSettled(c, ok=True, content="ran") for c, s in life.ledger().items() if s == "running"])
    begun = {action.call_id for action in life.trace if isinstance(action, RunTool)}
    world.journal = life.journal
    world.inbox = [life.letter(c, f"{n}-0", value=1) for n, c in enumerate(life.ledger(), 1) if c not in begun]
    second = world.live()
    assert completed(second)
    assert set(second.ledger().values()) == {"succeeded"}, "nothing is unknown: nobody died"
    check(second)


@pytest.mark.requirement("RUN-04")
def test_a_successor_says_that_the_lost_answer_is_void_and_asks_again() -> None:
    life = asking()
    life.feed(ModelSaid(1, "half", ""))
    again = Life(request(), life.cards, journal=life.journal).begin()
    assert kinds(again.trace) == ["run.resumed", "chat.replaced", "chat.requested", "AskModel"]
    assert again.last(chat.ChatReplaced) == chat.ChatReplaced(attempt=1, reason="its worker was lost")
    assert again.attempt == 2
    again.answered(says("whole"))
    assert again.result["message"]["content"] == "whole"
    check(again)
