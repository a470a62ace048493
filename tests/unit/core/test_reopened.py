"""What the machines make of a journal that goes on behind its end: an operator reopened the run (RUN-18)."""

from typing import Any

import pytest

from api_contracts import chat, citations, runs
from api_contracts.failure import Failure
from api_contracts.runs import EventData, Result
from tests.unit.core.citations import lives as cited
from tests.unit.core.turns import BUSY, REFUSED, T0, Life, check, kinds, local, request, says, wants
from workers.core.chat.acts import AskModel, RunTool
from workers.core.retry import BUDGET
from workers.core.runs.frame import Begin, Retry, SignalArrived

pytestmark = pytest.mark.requirement("RUN-18")

WORD = Retry("9-0", "ann", "it is well again")
CANCEL = SignalArrived("5-0", "cancel", {"reason": "changed my mind", "by": "bob"})


def ended(failure: Failure | None) -> EventData:
    """Return the end that the driver writes."""
    result = Result(run_id="run-1", kind="chat", status="failed").model_dump(mode="json")
    if failure is None:
        return runs.RunCancelled(result=result)
    return runs.RunFailedEvent(result=result, failure=failure)


def reopened(life: Life, *, after: float = 100.0) -> Life:
    """Return the life that follows when an operator retries what has just ended."""
    assert life.end is not None, "it lives"
    journal = [*life.journal, (ended(life.end.failure), life.now)]
    again = Life(life.request, life.cards, journal, life.now + after)
    again.feed(Begin("x", WORD))
    return again


def exhausted(life: Life) -> Life:
    for _ in range(BUDGET):
        life.failed(BUSY)
        if life.end is None:
            life.at(life.machine.deadline or 0)
    return life


def test_who_reopened_it_and_why_is_the_first_event_of_the_new_life() -> None:
    life = reopened(exhausted(Life(request()).begin()))
    event = life.last(runs.RunResumed)
    assert event == runs.RunResumed(owner="x", inbox="9-0", by="ann", reason="it is well again")
    assert life.machine.cursor == "9-0"


def test_a_chat_that_failed_asks_again_with_all_its_tries() -> None:
    life = reopened(exhausted(Life(request()).begin()))
    assert kinds(life.trace) == ["run.resumed", "chat.requested", "AskModel"]
    assert life.attempt == BUDGET + 1
    life.failed(BUSY)
    assert life.end is None, "one more failure is the first again"
    life.at(life.machine.deadline or 0)
    life.answered(says("at last"))
    assert (life.result["status"], life.result["message"]["content"]) == ("completed", "at last")


def test_calls_that_were_settled_are_not_made_again_and_their_results_are_told() -> None:
    life = Life(request(tools=["look"]), [local("look", "keyed")]).begin()
    life.answered(wants("look"))
    life.settled("1.0", "it is red")
    life = reopened(exhausted(life))
    assert not [each for each in life.trace if isinstance(each, RunTool)]
    assert life.told() == ["it is red"]
    life.answered(says())
    assert [(call["call_id"], call["state"]) for call in life.result["tool_calls"]] == [("1.0", "succeeded")]


def cancelled_at_work(effect: Any) -> Life:
    """Return a chat that was cancelled while two calls were at work: `pay`, and `see`, which is pure."""
    life = Life(request(tools=["pay", "see"]), [local("pay", effect), local("see")]).begin()
    life.answered(wants("pay", "see"))
    life.feed(CANCEL)
    assert life.ledger() == {"1.0": "outcome_unknown", "1.1": "cancelled"}
    return life


def made(life: Life) -> dict[str, str]:
    """Return the calls that this life made, with their keys."""
    return {act.call_id: act.key for act in life.trace if isinstance(act, RunTool)}


@pytest.mark.parametrize("effect", ["keyed", "idempotent"])
def test_a_call_whose_outcome_the_end_left_unknown_is_made_again_under_its_key(effect: Any) -> None:
    """Else the model would hear that nobody knows, and might ask for it again: under another key."""
    life = cancelled_at_work(effect)
    before = made(life)
    life = reopened(life)
    assert made(life) == {"1.0.2": before["1.0"], "1.1.2": before["1.1"]}
    life.settled("1.0.2", "paid")
    life.settled("1.1.2", "seen")
    assert life.told() == ["paid", "seen"]
    assert life.ledger() == {
        "1.0": "outcome_unknown", "1.1": "cancelled", "1.0.2": "succeeded", "1.1.2": "succeeded"
    }, "nothing leaves a settled state"  # fmt: skip
    life.answered(says())
    check(life)


def test_a_call_that_must_not_be_repeated_stays_unknown_and_the_others_are_made() -> None:
    life = reopened(cancelled_at_work("at_most_once"))
    assert list(made(life)) == ["1.1.2"]
    life.settled("1.1.2", "seen")
    assert life.ledger() == {"1.0": "outcome_unknown", "1.1": "cancelled", "1.1.2": "succeeded"}
    assert "not known" in life.told()[0]
    life.answered(says())
    assert life.result["status"] == "completed"


def test_each_retry_is_another_try_of_the_same_call_and_costs_none_of_the_limit() -> None:
    asked = request(tools=["pay"], limits={"calls": 1})
    life = Life(asked, [local("pay", "keyed")]).begin()
    life.answered(wants("pay"))
    key = made(life)["1.0"]
    for call_id in ("1.0.2", "1.0.3"):
        life.feed(CANCEL)
        life = reopened(life)
        assert made(life) == {call_id: key}
    life.settled("1.0.3", "paid")
    assert life.told() == ["paid"]


def test_a_worker_that_is_lost_in_the_middle_of_another_try_leaves_it_to_the_next() -> None:
    life = reopened(cancelled_at_work("keyed"))
    again = Life(life.request, life.cards, life.journal, life.now + 20).begin()
    assert made(again) == made(life)


def test_a_chat_that_was_cancelled_in_the_middle_of_an_answer_voids_that_half() -> None:
    life = Life(request()).begin()
    life.feed(CANCEL)
    assert life.last(runs.RunCancelling).by == "bob"
    life = reopened(life)
    assert kinds(life.trace) == ["run.resumed", "chat.replaced", "chat.requested", "AskModel"]
    assert life.last(chat.ChatReplaced).reason == "the run was retried"
    life.answered(says())
    assert life.result["status"] == "completed"


def test_a_deadline_counts_anew_from_the_retry_on() -> None:
    life = Life(request(deadline_s=50)).begin()
    life.at(T0 + 50)
    assert life.result["failure"]["code"] == "deadline_exceeded"
    life = reopened(life, after=1000)
    assert life.end is None
    assert life.machine.deadline == life.now + 50
    life.at(life.now + 50)
    assert life.result["failure"]["code"] == "deadline_exceeded"


def test_a_retry_of_a_run_that_waits_gives_it_no_time_and_no_tries() -> None:
    life = Life(request(deadline_s=50)).begin()
    life.failed(BUSY)
    again = Life(life.request, (), life.journal, life.now + 5)
    again.feed(Begin("x", WORD))
    assert again.machine.deadline == T0 + 50
    assert again.machine.state.tries.failures == 1


def test_a_worker_that_is_lost_after_the_retry_leaves_a_run_that_goes_on() -> None:
    life = reopened(exhausted(Life(request()).begin()))
    again = Life(life.request, (), life.journal, life.now + 20)
    again.feed(Begin("y"))
    assert kinds(again.trace) == ["run.resumed", "chat.replaced", "chat.requested", "AskModel"]
    assert again.last(chat.ChatReplaced).reason == "its worker was lost"
    assert again.machine.state.tries.failures == 0


def test_a_refusal_fails_again_as_it_did() -> None:
    life = Life(request()).begin()
    life.failed(REFUSED)
    life = reopened(life)
    assert [each for each in life.trace if isinstance(each, AskModel)]
    life.failed(REFUSED)
    assert life.result["failure"]["code"] == "refused"
    check(life)


def test_a_cited_answer_that_did_not_hold_is_asked_for_once_more() -> None:
    life = cited.Life().begin()
    for _ in range(2):
        life.answered(says("Nothing here cites anything [99]."))
    assert life.result.status == "failed"
    journal = [*life.journal, (ended(Failure.model_validate(life.result.failure)), life.now)]
    again = cited.Life(life.request, journal=journal, now=life.now + 5)
    again.feed(Begin("x", WORD))
    assert kinds(again.trace)[0] == "run.resumed"
    assert [each for each in again.trace if isinstance(each, AskModel)], "the same answer is not judged again"
    assert len([e for e in again.events if isinstance(e, citations.CiteRepaired)]) == 1
    again.answered(cited.says())
    assert again.result.status == "completed"
