"""An interrupt stops what is said, keeps what was said, and does to each call what its tool says (CHAT-21, TOOL-10)."""

from dataclasses import replace
from typing import Any

import pytest

from api_contracts import chat
from api_contracts.chat import Effect, OnInterrupt
from tests.unit.core.turns import BUSY, LATER, T0, Life, check, kinds, local, remote, request, says, wants
from workers.core.chat.acts import CallSent, CallSettled, ModelAnswered, ModelSaid, StopTool
from workers.core.runs.frame import Begin, SignalArrived

YES_OR_NO = {"type": "grammar", "grammar": 'root ::= "yes" | "no"'}
STOPPED = "The call was stopped."


def interrupt(inbox: str = "7-0", by: str = "ann") -> SignalArrived:
    return SignalArrived(inbox, "interrupt", {"by": by})


def asked(*cards: Any, **fields: Any) -> Life:
    return Life(request(**fields), cards or (local("look"), remote("pay", "at_most_once"))).begin()


def calling(*names: str, cards: Any = (), **fields: Any) -> Life:
    life = asked(*cards, **fields)
    life.answered(wants(*names, text="Let me see."))
    return life


# -- what is said ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-21")
@pytest.mark.parametrize("fields", [{}, {"response_format": YES_OR_NO}])
def test_what_was_said_is_on_record_before_the_model_is_stopped(fields: dict[str, Any]) -> None:
    life = asked(**fields)
    life.feed(ModelSaid(1, "one two", "hm"), ModelSaid(1, " three", ""))
    assert kinds(life.feed(interrupt())) == ["chat.message", "chat.usage", "StopModel", "Finish"]
    told = life.last(chat.ChatMessage)
    assert told.message == {"role": "assistant", "content": "one two three"}
    assert (told.interrupted, told.inbox, told.by) == (True, "7-0", "ann")
    assert life.machine.cursor == "7-0"
    assert life.result["status"] == "completed"
    assert life.result["interrupted"] is True
    assert life.result["message"] == told.message
    usage = life.result["usage"]
    assert usage["estimated"]
    assert usage["completion_tokens"] == 4, "13 characters"
    assert usage["prompt_tokens"] > 0
    check(life)


@pytest.mark.requirement("CHAT-21")
def test_an_interrupt_before_the_first_word_leaves_nothing_said() -> None:
    life = Life(request()).begin(interrupt())
    assert life.result["message"] == {"role": "assistant", "content": ""}
    assert life.result["interrupted"]
    check(life)


@pytest.mark.requirement("CHAT-21")
def test_what_the_stopped_model_still_says_counts_for_nothing() -> None:
    life = asked()
    life.feed(interrupt())
    assert life.feed(ModelSaid(1, "more", ""), ModelAnswered(1, says())) == []


@pytest.mark.requirement("CHAT-21")
@pytest.mark.parametrize("failure", [BUSY, LATER])
def test_a_run_that_waits_to_ask_again_is_over_with_what_it_has(failure: Any) -> None:
    life = asked()
    life.failed(failure)
    life = Life(life.request, life.cards, list(life.journal), T0 + 0.1)
    life.feed(Begin("x"), interrupt())
    assert kinds(life.trace)[-2:] == ["chat.message", "Finish"]
    assert life.result["status"] == "completed"
    check(life)


@pytest.mark.requirement("CHAT-21", "RUN-04")
def test_a_successor_ends_what_was_interrupted_and_asks_nothing() -> None:
    life = asked()
    life.feed(ModelSaid(1, "one", ""), interrupt())
    upto = next(n for n, (event, _) in enumerate(life.journal, 1) if isinstance(event, chat.ChatMessage))
    for kept in (upto, len(life.journal)):
        again = Life(life.request, life.cards, list(life.journal[:kept])).begin()
        assert kinds(again.trace) == ["run.resumed", "Finish"]
        assert (again.result["interrupted"], again.result["message"]["content"]) == (True, "one")


def test_a_run_that_nobody_interrupted_says_so() -> None:
    life = asked()
    life.answered(says())
    assert life.result["interrupted"] is False


# -- calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-10")
@pytest.mark.parametrize("make", [local, remote])
@pytest.mark.parametrize(
    ("effect", "policy", "state"),
    [
        ("pure", None, "cancelled"),
        ("idempotent", None, "running"),
        ("keyed", None, "running"),
        ("at_most_once", None, "running"),
        ("pure", "finish", "running"),
        ("pure", "cancel", "cancelled"),
        ("idempotent", "cancel", "outcome_unknown"),
        ("keyed", "cancel", "outcome_unknown"),
        ("at_most_once", "cancel", "outcome_unknown"),
    ],
)
def test_each_running_call_is_treated_as_its_tool_says(
    make: Any, effect: Effect, policy: OnInterrupt | None, state: str
) -> None:
    life = calling("act", cards=[replace(make("act", effect), on_interrupt=policy)])
    if make is remote:
        life.feed(CallSent("1.0"))
    did = kinds(life.feed(interrupt()))
    assert life.ledger() == {"1.0": state}
    if state == "running":
        assert did == ["run.ignored"]
        life.feed(CallSettled("1.0", ok=True, content="done") if make is local else life.letter("1.0", value="done"))
        assert life.told() == ["done"], "the run goes on with what was left to run"
    else:
        assert [each for each in did if each.startswith("tool.")] == [f"tool.call_{state}", "tool.batch_joined"]
        assert ("StopTool" in did) == (make is local)
        assert life.result["status"] == "completed"
        assert life.result["interrupted"]
        assert life.result["message"] == {"role": "assistant", "content": "Let me see."}
    check(life)


@pytest.mark.requirement("TOOL-10", "CHAT-21")
def test_the_record_of_a_stopped_call_is_not_overtaken_by_the_stop() -> None:
    life = calling("look")
    assert kinds(life.feed(interrupt()))[:2] == ["tool.call_cancelled", "StopTool"]
    cancelled = life.last(chat.CallCancelled)
    assert (cancelled.inbox, cancelled.by, cancelled.content) == ("7-0", "ann", STOPPED)
    assert life.last(StopTool).call_id == "1.0"


@pytest.mark.requirement("TOOL-10", "TOOL-06")
def test_what_is_left_finishes_and_the_model_reads_of_both() -> None:
    life = calling("look", "pay")
    life.feed(CallSent("1.1"))
    assert kinds(life.feed(interrupt())) == ["tool.call_cancelled", "StopTool"]
    assert life.ledger() == {"1.0": "cancelled", "1.1": "running"}
    life.feed(life.letter("1.1", "8-0", value="paid"))
    assert life.told() == [STOPPED, "paid"]
    life.answered(says("it is paid"))
    assert life.result["interrupted"] is False
    check(life)


@pytest.mark.requirement("TOOL-10", "TOOL-05")
def test_a_call_that_waits_for_its_turn_is_not_begun_if_its_tool_says_so() -> None:
    life = calling("look", "look", "pay", parallel_tools=1)
    life.feed(interrupt())
    assert life.ledger() == {"1.0": "cancelled", "1.1": "cancelled", "1.2": "reserved"}
    check(life)


@pytest.mark.requirement("TOOL-10", "TOOL-15")
@pytest.mark.parametrize(("effect", "state"), [("pure", "cancelled"), ("at_most_once", "reserved")])
def test_a_call_that_waits_for_approval_has_the_same_policy(effect: Effect, state: str) -> None:
    life = calling("act", cards=[replace(remote("act", effect), approval_s=1e5)])
    life = Life(life.request, life.cards, list(life.journal))
    life.feed(Begin("x"), interrupt())
    assert life.ledger() == {"1.0": state}
    check(life)


@pytest.mark.requirement("TOOL-10", "RUN-04")
def test_a_worker_may_die_at_any_event_after_an_interrupt() -> None:
    for names, interrupted in ((["look", "look"], True), (["look", "pay"], False)):
        life = calling(*names)
        life.feed(interrupt())
        if not interrupted:
            life.feed(life.letter("1.1", "8-0", value="paid"))
            life.answered(says())
        first = next(n for n, (event, _) in enumerate(life.journal, 1) if isinstance(event, chat.CallCancelled))
        assert life.result["interrupted"] == interrupted
        for kept in range(first + interrupted, len(life.journal) + 1):
            again = Life(life.request, life.cards, list(life.journal[:kept]))
            again.begin()
            if interrupted:
                assert again.result["interrupted"], f"{kept} events"
                assert "AskModel" not in kinds(again.trace)
            check(again)


@pytest.mark.requirement("TOOL-10")
def test_a_result_that_comes_after_the_interrupt_is_recorded_and_not_applied() -> None:
    life = calling("ask", "pay", cards=[remote("ask"), remote("pay", "at_most_once")])
    life.feed(CallSent("1.0"), CallSent("1.1"), interrupt())
    assert kinds(life.feed(life.letter("1.0", "8-0", value="late"))) == ["tool.call_late_result"]
    assert life.ledger()["1.0"] == "cancelled"
    check(life)


@pytest.mark.requirement("TOOL-10")
@pytest.mark.parametrize(
    ("show", "told"), [("result", ["a secret", STOPPED]), ("state", ["The call succeeded.", STOPPED])]
)
def test_a_tool_says_how_its_calls_are_shown_to_the_model(show: Any, told: list[str]) -> None:
    cards = [replace(local("act"), show=show), local("look"), remote("pay", "keyed")]
    life = calling("act", "look", "pay", cards=cards)
    life.settled("1.0", "a secret")
    life.feed(interrupt(), life.letter("1.2", "8-0", value="paid"))
    assert life.told() == [*told, "paid"]
    life.answered(says())
    assert life.result["tool_calls"][0]["content"] == "a secret", "the ledger has it"
