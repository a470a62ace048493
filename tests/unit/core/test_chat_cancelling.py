"""The model cancels what runs in the background for it (TOOL-19): on record first, and never more than it may."""

from dataclasses import replace
from typing import Any

import pytest

from api_contracts import chat
from tests.unit.core.turns import T0, Life, begun, check, kinds, local, remote, request, says, wants
from workers.core.chat.acts import AskModel, CallSent, StopTool
from workers.core.chat.cancelling import CANCEL

pytestmark = pytest.mark.requirement("TOOL-19")

BREW = replace(local("brew", "pure", 600.0), wait=False)
PRESS = replace(local("press", "keyed", 600.0), wait=False, cancel=True)
BUILD = replace(remote("build", "at_most_once", 600.0), wait=False, cancel=True)
CHARGE = replace(local("charge", "keyed", 600.0), wait=False)
LOOK = local("look")


def running(*names: str, **fields: Any) -> Life:
    life = Life(request(**fields), [BREW, PRESS, BUILD, CHARGE, LOOK]).begin()
    life.answered(wants(*names))
    return life


def offered(life: Life) -> list[str]:
    return [tool["function"]["name"] for tool in life.last(AskModel).body["tools"]]


def test_the_tool_is_offered_only_while_there_is_something_to_cancel() -> None:
    life = running("brew")
    assert CANCEL in offered(life)
    life.settled("1.0", "brewed")
    life.answered(says())
    assert CANCEL not in offered(life)
    life.answered(says())
    assert life.result["status"] == "completed"
    assert CANCEL not in offered(running("charge")), "a call that is not to be left half done"


def test_where_no_tool_of_the_request_can_be_cancelled_it_is_no_tool_at_all() -> None:
    life = Life(request(), [CHARGE, LOOK]).begin()
    life.answered(wants(CANCEL))
    assert life.told() == [f"The tool {CANCEL} is not available."]


@pytest.mark.requirement("TOOL-12")
def test_what_is_cancelled_is_on_record_before_its_tool_is_stopped_and_the_model_hears_of_it() -> None:
    life = running("brew")
    done = life.answered(wants(CANCEL))
    settled = kinds(done).index("tool.call_cancelled")
    assert kinds(done)[settled : settled + 2] == ["tool.call_cancelled", "tool.call_result"]
    stops = [place for place, each in enumerate(done) if isinstance(each, StopTool)]
    assert [done[place] for place in stops] == [StopTool("1.0")]
    assert all(place > settled + 1 for place in stops)
    assert life.last(chat.CallCancelled).by == "call 2.0"
    asked = life.last(AskModel).body["messages"]
    assert [m["content"] for m in asked[-2:]] == [
        "The call p0 (brew) was cancelled.", "News of call p0 (brew):\nThe call was stopped.",
    ]  # fmt: skip
    assert life.settled("1.0", "brewed all the same") == []
    life.answered(says())
    assert [call["state"] for call in life.result["tool_calls"]] == ["cancelled", "succeeded"]
    check(life)


def test_a_call_that_may_have_taken_effect_is_in_doubt_and_the_model_is_told_so() -> None:
    life = running("press", "build")
    life.feed(CallSent("1.1"))
    life.answered(wants((CANCEL, '{"id": "p1"}', "c1"), (CANCEL, '{"id": "p0"}', "c2")))
    assert life.ledger() == {
        "1.0": "outcome_unknown", "1.1": "outcome_unknown", "2.0": "succeeded", "2.1": "succeeded",
    }  # fmt: skip
    assert all("not known whether it took effect" in told for told in life.told()[-2:])
    assert [each for each in life.trace if isinstance(each, StopTool)] == [StopTool("1.0")], "the other is elsewhere"
    assert kinds(life.feed(life.letter("1.1", "7-0", value="built"))) == ["tool.call_late_result"]
    check(life)


def test_with_several_it_must_be_said_which_and_the_refusal_names_them() -> None:
    life = running("brew", ("press", "{}"), "charge")
    life.answered(wants(CANCEL))
    assert life.ledger()["2.0"] == "failed"
    told = life.told()[-1]
    assert '"p0" (brew {})' in told
    assert '"p1" (press {})' in told
    assert "charge" not in told
    assert not [each for each in life.trace if isinstance(each, StopTool)]
    life.answered(wants((CANCEL, '{"id": "p2"}')))
    assert life.ledger()["3.0"] == "failed", "it may not cancel that one"
    assert life.ledger()["1.2"] == "running"
    check(life)


def test_a_call_that_ended_meanwhile_cannot_be_cancelled() -> None:
    life = running("brew")
    life.settled("1.0", "brewed")
    life.answered(wants(CANCEL))
    assert life.ledger() == {"1.0": "succeeded", "2.0": "failed"}
    assert "No call" in life.told()[-1]
    assert not [each for each in life.trace if isinstance(each, StopTool)]
    check(life)


def test_a_call_of_the_same_answer_is_not_cancelled_for_the_model_knows_nothing_of_it_yet() -> None:
    life = running("brew", CANCEL)
    assert life.ledger() == {"1.0": "running", "1.1": "failed"}


def test_a_successor_that_finds_the_cancel_reserved_carries_it_out() -> None:
    life = running("brew")
    life.answered(wants(CANCEL))
    reserved = next(n for n, (event, _) in enumerate(life.journal) if getattr(event, "call_id", "") == "2.0")
    after = Life(life.request, life.cards, life.journal[: reserved + 1], T0 + 5).begin()
    assert after.ledger() == {"1.0": "cancelled", "2.0": "succeeded"}
    check(after)
    whole = Life(life.request, life.cards, life.journal, T0 + 5).begin()
    assert begun(whole.trace) == {}
    check(whole)


def test_a_tool_of_the_request_with_this_name_is_what_is_called() -> None:
    theirs = local(CANCEL)
    life = Life(request(), [BREW, theirs]).begin()
    life.answered(wants("brew", CANCEL))
    assert begun(life.trace) == {"1.0": 1, "1.1": 1}
    assert CANCEL in offered(life)


def test_cancelling_again_and_again_is_no_repeat() -> None:
    life = running("brew", limits={"repeats": 1})
    life.answered(wants(CANCEL))
    life.answered(wants(("brew", '{"x": 1}')))
    life.answered(wants(CANCEL))
    assert life.ledger()["4.0"] == "succeeded"
    assert life.types.count("tool.call_cancelled") == 2
