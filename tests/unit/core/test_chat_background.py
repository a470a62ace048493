"""Calls in the background (TOOL-13): the run goes on, or parks, and what comes of them starts one more turn."""

from dataclasses import replace
from typing import Any

import pytest

from api_contracts import chat
from api_contracts.runs import RunCancelled
from tests.unit.core.turns import BUSY, LATER, T0, Life, begun, check, kinds, local, remote, request, says, wants
from workers.core.chat.acts import AskModel, CallProgressed, CallSent, CallSettled, ModelSaid, SendCall, TurnOpened
from workers.core.chat.background import RUNS, news
from workers.core.runs.frame import Draining, Park, SignalArrived
from workers.core.runs.turns import Opened

BUILD = replace(remote("build", "keyed", 600.0), wait=False)
BREW = replace(local("brew", "idempotent", 600.0), wait=False)
LOOK = local("look")


def calling(*names: str, **fields: Any) -> Life:
    life = Life(request(**fields), [BUILD, BREW, LOOK]).begin()
    life.answered(wants(*names))
    return life


def asked(life: Life) -> list[dict[str, Any]]:
    """Return what the model was asked last, after the request's own message."""
    return list(life.last(AskModel).body["messages"][1:])


def turns(life: Life) -> int:
    return life.types.count("chat.requested")


def again(life: Life) -> Life:
    """Return the next life of the run."""
    return Life(life.request, life.cards, list(life.journal), life.now + 1).begin()


# -- the run goes on, or parks -----------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-13", "TOOL-10")
@pytest.mark.parametrize("name", ["build", "brew"])
def test_the_model_is_asked_again_at_once_and_told_that_the_call_runs(name: str) -> None:
    life = calling(name)
    assert turns(life) == 2
    assert asked(life)[-1] == {"role": "tool", "tool_call_id": "p0", "content": RUNS}
    assert life.last(chat.CallReserved).wait is False
    check(life)


@pytest.mark.requirement("TOOL-10")
def test_a_call_beside_it_is_waited_for_as_its_own_tool_says() -> None:
    life = calling("build", "look")
    assert turns(life) == 1
    life.settled("1.1", "seen")
    assert [each["content"] for each in asked(life)[1:]] == [RUNS, "seen"]
    check(life)


@pytest.mark.requirement("TOOL-13")
def test_the_run_does_not_end_with_an_answer_but_parks_until_the_call_is_over() -> None:
    life = calling("build")
    life.feed(CallSent("1.0"))
    life.answered(says("it is being built"))
    assert life.end is None
    assert life.parked is None, "the result of a quick service meets this life"
    life.at(T0 + 5)
    assert life.last(Park).until == T0 + 600, "the call's deadline"
    check(life)


@pytest.mark.requirement("TOOL-13")
def test_a_call_of_the_worker_keeps_it() -> None:
    life = calling("brew")
    life.answered(says())
    life.at(T0 + 100)
    assert "Park" not in kinds(life.trace)
    assert life.end is None


@pytest.mark.requirement("TOOL-13")
@pytest.mark.parametrize("is_answered", [False, True])
def test_its_news_are_kept_while_the_run_goes_on_and_change_nothing(is_answered: bool) -> None:
    life = calling("build", "brew")
    life.feed(CallSent("1.0"))
    if is_answered:
        life.answered(says())
    deadline = life.machine.deadline
    letter = life.letter("1.0", "5-0", final=False, value={"done": 3})
    assert kinds(life.feed(letter)) == ["tool.call_progress"]
    assert kinds(life.feed(CallProgressed("1.1", "half"))) == ["tool.call_progress"]
    assert [e.content for e in life.events if isinstance(e, chat.CallProgress)] == ['{"done": 3}', "half"]
    assert (turns(life), life.machine.deadline) == (2, deadline)


@pytest.mark.requirement("TOOL-13", "TOOL-05")
def test_it_takes_no_place_from_those_that_are_waited_for() -> None:
    life = calling("build", "look", "brew", "look", parallel_tools=1)
    assert life.ledger() == {"1.0": "reserved", "1.1": "running"}
    life.settled("1.1")
    assert life.ledger() == {"1.0": "reserved", "1.1": "succeeded", "1.2": "running", "1.3": "running"}
    check(life)


@pytest.mark.requirement("TOOL-13")
def test_a_worker_that_drains_hands_the_run_over_with_its_call() -> None:
    life = calling("build")
    life.feed(CallSent("1.0"))
    life.answered(says())
    assert kinds(life.feed(Draining(T0 + 9)))[-1] == "Release"
    after = again(life)
    assert kinds(after.trace) == ["run.resumed"]
    assert after.end is None


# -- the late result starts one more turn ------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-13")
def test_what_comes_of_it_is_told_and_answered_by_one_more_turn() -> None:
    life = calling("build")
    life.feed(CallSent("1.0"))
    life.answered(says("it is being built"))
    life.feed(life.letter("1.0", "5-0", value="it stands"))
    assert turns(life) == 3
    assert asked(life)[-3:] == [
        {"role": "tool", "tool_call_id": "p0", "content": RUNS},
        {"role": "assistant", "content": "it is being built"},
        news("p0", "build", "it stands"),
    ]
    life.answered(says("done"))
    assert (life.result["status"], life.result["message"]["content"]) == ("completed", "done")
    assert life.result["tool_calls"][0]["content"] == "it stands"
    check(life)


@pytest.mark.requirement("TOOL-13")
def test_however_often_the_result_comes_there_is_one_more_turn() -> None:
    life = calling("build")
    life.answered(says())
    life.feed(*[life.letter("1.0", f"{number}-0", value="it stands") for number in (5, 6, 7)])
    assert life.types.count("tool.call_late_result") == 2
    life.answered(says())
    assert (turns(life), life.result["status"]) == (3, "completed")
    check(life)


@pytest.mark.requirement("TOOL-13")
def test_results_that_come_while_the_model_speaks_are_told_by_one_turn_after_it() -> None:
    life = calling("build", "brew")
    life.feed(ModelSaid(2, "both are under", ""))
    assert kinds(life.feed(life.letter("1.0", "5-0", value="it stands"))) == ["tool.call_result"]
    assert kinds(life.settled("1.1", "it is hot")) == ["tool.call_result"], "the answer is not broken off"
    life.answered(says("both are under way"))
    assert asked(life)[-2:] == [news("p0", "build", "it stands"), news("p1", "brew", "it is hot")]
    life.answered(says())
    assert (turns(life), life.result["status"]) == (3, "completed")
    check(life)


@pytest.mark.requirement("TOOL-13")
def test_a_turn_that_is_due_anyway_tells_it() -> None:
    life = calling("build")
    life.answered(wants("look"))
    life.feed(life.letter("1.0", "5-0", value="it stands"))
    assert turns(life) == 2, "the model waits for another call"
    life.settled("2.0", "seen")
    assert [each["content"] for each in asked(life)[-2:]] == ["seen", news("p0", "build", "it stands")["content"]]
    life.answered(says())
    assert (turns(life), life.result["status"]) == (3, "completed")
    check(life)


@pytest.mark.requirement("TOOL-13")
def test_a_result_that_is_there_before_the_others_is_a_result_like_any() -> None:
    life = calling("brew", "look")
    life.settled("1.0", "it is hot")
    life.settled("1.1", "seen")
    assert life.told() == ["it is hot", "seen"]
    life.answered(says())
    assert (turns(life), life.result["status"]) == (2, "completed")


@pytest.mark.requirement("TOOL-13")
def test_a_call_that_failed_or_was_late_is_told_of_too() -> None:
    life = calling("build", "brew")
    life.answered(says())
    life.settled("1.1", "", ok=False)
    assert asked(life)[-1] == news("p1", "brew", "The tool failed.")
    life.answered(says())
    assert life.end is None
    life.at(T0 + 600)
    assert asked(life)[-1] == news("p0", "build", "The tool did not answer in time.")
    life.answered(says())
    assert life.result["status"] == "completed"
    check(life)


@pytest.mark.requirement("TOOL-13", "TOOL-14")
def test_a_result_that_wants_no_answer_starts_none() -> None:
    life = calling("brew")
    life.answered(says("on it"))
    life.feed(CallSettled("1.0", ok=True, content="", run_llm=False))
    assert (turns(life), life.result["message"]["content"]) == (2, "on it")
    check(life)


@pytest.mark.requirement("TOOL-13", "TOOL-16")
@pytest.mark.parametrize("limits", [{"rounds": 2}, {"calls": 2}])
def test_the_last_turn_waits_for_every_call(limits: dict[str, int]) -> None:
    life = calling("build", "brew", limits=limits)
    assert turns(life) == 1
    life.settled("1.1", "it is hot")
    assert turns(life) == 1
    life.feed(life.letter("1.0", "5-0", value="it stands"))
    assert [each["content"] for each in asked(life)[1:3]] == [RUNS, RUNS]
    assert asked(life)[3:] == [news("p0", "build", "it stands"), news("p1", "brew", "it is hot")]
    life.answered(says())
    assert (life.result["status"], life.result["rounds"]) == ("completed", 2)
    check(life)


@pytest.mark.requirement("TOOL-13")
def test_the_extra_turn_may_fail_and_is_tried_again() -> None:
    life = calling("brew")
    life.answered(says())
    life.settled("1.0", "it is hot")
    life.failed(BUSY)
    life.at(life.machine.deadline or 0.0)
    assert asked(life)[-1] == news("p0", "brew", "it is hot")
    life.answered(says("all told"))
    assert life.result["message"]["content"] == "all told"
    check(life)


@pytest.mark.requirement("TOOL-13", "TOOL-07")
def test_a_run_that_waits_for_the_provider_still_gives_the_call_up_in_time() -> None:
    life = Life(request(), [replace(BUILD, timeout_s=10.0)]).begin()
    life.answered(wants("build"))
    life.feed(CallSent("1.0"))
    life.failed(LATER)
    assert life.last(Park).until == T0 + 10
    life = Life(life.request, life.cards, list(life.journal), T0 + 10).begin()
    life.at(T0 + 10)
    assert life.ledger() == {"1.0": "timed_out"}
    assert (turns(life), life.last(Park).until) == (2, life.machine.state.retry_at)


@pytest.mark.requirement("TOOL-13", "TOOL-15")
def test_a_call_that_waits_for_approval_keeps_no_answer_waiting() -> None:
    life = Life(request(), [replace(BUILD, approval_s=1e6)]).begin()
    life.answered(wants("build"))
    assert asked(life)[-1]["content"] == RUNS
    life.failed(BUSY)
    assert life.parked is None, "the model is asked again in a moment"
    life.at(life.machine.deadline or 0.0)
    life.answered(says("somebody has to approve it"))
    assert life.last(Park).until == T0 + 1e6
    life = again(life)
    life.feed(SignalArrived("5-0", "approve", {"call_id": "1.0"}))
    life.feed(CallSent("1.0"), life.letter("1.0", "6-0", value="it stands"))
    assert asked(life)[-1] == news("p0", "build", "it stands")
    check(life)


# -- interrupt, cancel, death ------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-13", "TOOL-10", "CHAT-21")
@pytest.mark.parametrize("is_said", [False, True])
@pytest.mark.parametrize("policy", ["cancel", "finish"])
def test_an_interrupt_does_to_it_what_its_tool_says(is_said: bool, policy: Any) -> None:
    life = Life(request(), [replace(BREW, on_interrupt=policy)]).begin()
    life.answered(wants("brew"))
    if is_said:
        life.answered(says("on it"))
    else:
        life.feed(ModelSaid(2, "on", ""))
    did = kinds(life.feed(SignalArrived("5-0", "interrupt", {})))
    if policy == "cancel":
        assert life.ledger() == {"1.0": "outcome_unknown"}
        assert life.result["interrupted"]
        assert life.result["message"]["content"] == ("on it" if is_said else "on")
        assert ("StopModel" in did, "StopTool" in did) == (not is_said, True)
        first_effect = next(n for n, each in enumerate(did) if each.startswith("Stop"))
        assert all("." not in each for each in did[first_effect:]), "all of it is on record before anything is done"
    else:
        assert ("run.ignored" in did) == is_said
        life.settled("1.0", "it is hot")
        assert asked(life)[-1] == news("p0", "brew", "it is hot")
        life.answered(says("it is hot"))
        assert life.result["interrupted"] is False
    assert life.result["status"] == "completed"
    check(life)


@pytest.mark.requirement("TOOL-13", "CHAT-10")
@pytest.mark.parametrize("is_late", [False, True])
def test_after_an_interrupt_the_provider_is_not_asked_sooner_than_it_said(is_late: bool) -> None:
    life = calling("brew")
    if not is_late:
        life.settled("1.0", "it is hot")
    life.failed(LATER)
    due = life.last(chat.ChatReplaced).retry_at
    life = Life(life.request, life.cards, list(life.journal), T0 + 1).begin(SignalArrived("5-0", "interrupt", {}))
    if is_late:
        life.settled("1.0", "it is hot")
    assert (turns(life), life.end) == (2, None)
    assert life.last(Park).until == due
    assert kinds(life.feed(SignalArrived("6-0", "interrupt", {}))) == ["run.ignored"], "nothing is said twice"
    life.at(due)
    assert asked(life)[-1] == news("p0", "brew", "it is hot")
    life.answered(says())
    assert (turns(life), life.result["status"]) == (3, "completed")
    check(life)


@pytest.mark.requirement("TOOL-13")
@pytest.mark.parametrize("is_said", [False, True])
def test_a_cancel_ends_the_run_and_its_call(is_said: bool) -> None:
    life = calling("build", "brew")
    if is_said:
        life.answered(says("on it"))
    assert kinds(life.feed(SignalArrived("5-0", "cancel", {})))[-2:] == ["tool.call_outcome_unknown", "Finish"]
    assert life.result["status"] == "cancelled"
    assert set(life.ledger().values()) == {"outcome_unknown"}
    assert (life.result.get("message") or {}).get("content") == ("on it" if is_said else None)
    check(life)


@pytest.mark.requirement("TOOL-13")
def test_the_runs_deadline_holds_for_it_too() -> None:
    life = calling("brew", deadline_s=30)
    life.answered(says("on it"))
    life.at(T0 + 30)
    assert (life.result["status"], life.result["failure"]["code"]) == ("failed", "deadline_exceeded")
    assert life.ledger() == {"1.0": "outcome_unknown"}
    check(life)


@pytest.mark.requirement("TOOL-13", "RUN-04")
def test_a_worker_may_die_after_any_event_and_each_result_is_told_once() -> None:
    life = calling("build", "brew")
    life.feed(CallSent("1.0"))
    life.answered(says("on it"))
    letter = life.letter("1.0", "5-0", value="it stands")
    life.feed(letter)
    life.settled("1.1", "it is hot")
    life.answered(says("it stands"))
    life.answered(says("it is hot"))
    joined = life.types.index("tool.batch_joined")
    for kept in range(joined + 1, len(life.journal) + 1):
        after = Life(life.request, life.cards, list(life.journal[:kept]), T0 + 1).begin()
        if after.machine.cursor != letter.id:
            after.feed(letter)
        if not after.machine.state.calls["1.1"].settled:
            after.settled("1.1", "it is hot")
        while after.end is None:
            after.answered(says("the end"))
        assert after.result["status"] == "completed"
        said = [each["content"] for each in after.machine.state.messages if each["role"] == "user"]
        assert sorted(said) == [news("p0", "build", "it stands")["content"], news("p1", "brew", "it is hot")["content"]]
        check(after)


@pytest.mark.requirement("TOOL-13", "TOOL-11", "RUN-04")
@pytest.mark.parametrize("is_said", [False, True])
def test_a_successor_takes_up_what_runs_though_the_model_is_asked_meanwhile(is_said: bool) -> None:
    life = calling("build", "brew", "look", parallel_tools=1)
    life.settled("1.2")
    if is_said:
        life.answered(says("on it"))
    after = again(life)
    assert begun(after.trace) == {"1.0": 1, "1.1": 1}, "it may have been sent, and it is lost"
    assert after.last(SendCall) == life.last(SendCall)
    assert ("AskModel" in kinds(after.trace)) is not is_said
    check(after)


@pytest.mark.requirement("TOOL-13", "TOOL-11", "RUN-04")
def test_a_successor_takes_it_up_beside_a_call_that_is_waited_for() -> None:
    life = Life(request(parallel_tools=1), [BUILD, remote("look", "keyed")]).begin()
    life.answered(wants("build", "look"))
    life.feed(CallSent("1.1"))
    after = again(life)
    assert begun(after.trace) == {"1.0": 1}, "the other was sent, and has the only place"
    check(after)


@pytest.mark.requirement("TOOL-13", "CHAT-21")
def test_what_an_interrupt_broke_off_stays_so_when_nothing_more_is_said() -> None:
    life = calling("brew")
    life.feed(ModelSaid(2, "on", ""), SignalArrived("5-0", "interrupt", {}))
    assert life.end is None
    life.feed(CallSettled("1.0", ok=True, content="", run_llm=False))
    assert (life.result["interrupted"], life.result["message"]["content"]) == (True, "on")
    check(life)


@pytest.mark.requirement("TOOL-13", "CHAT-07")
def test_a_conversation_keeps_what_came_of_it() -> None:
    """Also of calls that no turn answered to: the next turn must not believe that they still run."""
    life = Life(request(conversation={"id": "a1"}), [replace(BREW, on_interrupt="cancel")]).begin()
    life.feed(TurnOpened(Opened(0)))
    life.answered(wants("brew"))
    life.answered(says("on it"))
    life.feed(SignalArrived("5-0", "interrupt", {}))
    assert life.end is not None
    assert life.end.turn is not None
    content = "It is not known whether the tool took effect; it was not repeated."
    assert list(life.end.turn.messages)[-2:] == [{"role": "assistant", "content": "on it"}, news("p0", "brew", content)]


@pytest.mark.requirement("TOOL-13")
def test_a_life_of_a_run_that_failed_goes_on_with_what_is_known() -> None:
    life = calling("build")
    life.answered(says("on it"))
    life.feed(SignalArrived("5-0", "cancel", {}))
    life.journal.append((RunCancelled(result=life.result), T0))
    after = again(life)
    assert asked(after)[-2:] == [
        {"role": "tool", "tool_call_id": "p0", "content": RUNS},
        news("p0", "build", "It is not known whether the tool took effect; it was not repeated."),
    ]
    after.answered(says())
    assert after.result["status"] == "completed"
