"""What becomes of a call that ran once when its worker died: its tool is asked (TOOL-11); news of calls (TOOL-17)."""

from dataclasses import replace

import pytest

from api_contracts import chat
from api_contracts.chat import Effect
from api_contracts.tools import TOOL_EVENTS
from tests.unit.core.turns import T0, Life, check, kinds, local, remote, request, says, wants
from workers.core.chat.acts import AskTool, CallProgressed, CallReconciled, CallSent, RunTool
from workers.core.runs.frame import SignalArrived

FIRE = replace(local("fire", "at_most_once"), reconciles=True)
UNKNOWN = "It is not known whether the tool took effect; it was not repeated."


def lost(effect: Effect = "at_most_once", after_s: float = 1.0, *, reconciles: bool = True) -> tuple[Life, Life]:
    """Return the life that began the call and died, and the next one."""
    life = Life(request(), [replace(FIRE, effect=effect, reconciles=reconciles)]).begin()
    life.answered(wants(("fire", '{"at": "sky"}')))
    return life, Life(life.request, life.cards, list(life.journal), T0 + after_s).begin()


@pytest.mark.requirement("TOOL-11")
@pytest.mark.parametrize("after_s", [1.0, 61.0, 1e6])
def test_a_lost_call_is_asked_after_once_it_may_have_happened_however_late(after_s: float) -> None:
    first, again = lost(after_s=after_s)
    assert kinds(again.trace) == ["run.resumed", "AskTool"]
    run, asked = first.last(RunTool), again.last(AskTool)
    assert (asked.call_id, asked.name, asked.arguments, asked.key) == (run.call_id, "fire", {"at": "sky"}, run.key)
    assert again.machine.deadline is None, "the tool has its time from the worker"
    assert again.ledger() == {"1.0": "running"}
    check(again)


@pytest.mark.requirement("TOOL-11", "TOOL-12")
@pytest.mark.parametrize(
    ("happened", "state", "told"),
    [
        (True, "succeeded", "it burns"),
        (False, "failed", "The call was lost before it took effect; it may be made again."),
        (None, "outcome_unknown", UNKNOWN),
    ],
)
def test_what_the_tool_says_is_what_became_of_it(happened: bool | None, state: str, told: str) -> None:
    _, again = lost()
    again.feed(CallReconciled("1.0", happened, "it burns"))
    assert again.ledger() == {"1.0": state}
    assert again.told() == [told]
    assert again.feed(CallReconciled("1.0", happened=True)) == [], "it was settled"
    again.answered(says())
    assert again.result["status"] == "completed"
    check(again)


@pytest.mark.requirement("TOOL-11")
def test_a_worker_that_dies_while_it_asks_has_the_next_one_ask() -> None:
    _, second = lost()
    third = Life(second.request, second.cards, list(second.journal), T0 + 9).begin()
    assert kinds(third.trace) == ["run.resumed", "AskTool"]


@pytest.mark.requirement("TOOL-11")
def test_a_tool_that_cannot_say_leaves_the_outcome_unknown() -> None:
    _, again = lost(reconciles=False)
    assert again.ledger() == {"1.0": "outcome_unknown"}
    assert again.told() == [UNKNOWN]


@pytest.mark.requirement("TOOL-11")
@pytest.mark.parametrize("effect", ["pure", "idempotent", "keyed"])
def test_what_may_be_run_again_is_run_again_and_nobody_asked(effect: Effect) -> None:
    first, again = lost(effect)
    assert kinds(again.trace) == ["run.resumed", "RunTool"]
    assert again.last(RunTool).key == first.last(RunTool).key


@pytest.mark.requirement("TOOL-11", "RUN-06")
def test_a_run_that_is_cancelled_while_a_tool_is_asked_does_not_know() -> None:
    _, again = lost()
    again.feed(SignalArrived("1-0", "cancel", {}))
    assert again.ledger() == {"1.0": "outcome_unknown"}
    check(again)


# -- news --------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-17")
def test_every_event_of_a_call_is_in_the_vocabulary() -> None:
    words = "batch_started call_reserved call_started call_progress call_result call_failed call_cancelled"
    words += " call_timed_out call_late_result call_outcome_unknown batch_joined"
    assert {f"tool.{word}" for word in words.split()} <= {event.TYPE for event in TOOL_EVENTS}


@pytest.mark.requirement("TOOL-17", "TOOL-07")
def test_news_of_a_call_of_the_worker_changes_neither_it_nor_its_deadline() -> None:
    life = Life(request(), [local("look", timeout_s=5.0)]).begin()
    life.answered(wants("look"))
    for _ in range(3):
        assert kinds(life.feed(CallProgressed("1.0", "half \ud800" + "x" * 5000))) == ["tool.call_progress"]
    assert len(life.last(chat.CallProgress).content) == 4096
    assert life.machine.deadline == T0 + 5
    life.at(T0 + 5)
    assert life.ledger() == {"1.0": "timed_out"}
    assert life.feed(CallProgressed("1.0", "more"), CallProgressed("9.9", "more")) == []
    check(life)


@pytest.mark.requirement("TOOL-17")
def test_another_service_tells_news_by_the_signal_that_brings_its_result() -> None:
    life = Life(request(), [remote("pay")]).begin()
    life.answered(wants("pay"))
    life.feed(CallSent("1.0"))
    assert kinds(life.feed(life.letter("1.0", "2-0", value={"done": 3}, final=False, by="svc"))) == [
        "tool.call_progress"
    ]
    told = life.last(chat.CallProgress)
    assert (told.content, told.inbox, told.by) == ('{"done": 3}', "2-0", "svc")
    assert life.ledger() == {"1.0": "running"}
    forged = SignalArrived("3-0", "tool_result", {"call_id": "1.0", "token": "x", "final": False})
    assert kinds(life.feed(forged)) == ["run.ignored"]
    life.feed(life.letter("1.0", "4-0", value="paid"))
    assert life.told() == ["paid"]
    assert kinds(life.feed(life.letter("1.0", "5-0", value="?", final=False))) == ["run.ignored"]
    check(life)
