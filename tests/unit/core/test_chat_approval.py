"""A call that needs approval: it waits for days, parked, in every state that a worker may die in (TOOL-15)."""

from dataclasses import replace
from typing import Any

import pytest

from api_contracts import chat
from api_contracts.runs import RunCancelled
from tests.unit.core.turns import T0, Life, check, kinds, local, remote, request, says, wants
from workers.core.chat.acts import CallSent, RunTool, SendCall
from workers.core.runs.frame import Begin, Draining, Park, SignalArrived

DAYS = 3 * 86400.0
CARDS = [
    replace(local("wipe", "at_most_once"), approval_s=DAYS),
    replace(remote("pay", "at_most_once"), approval_s=DAYS),
    local("look"),
]


def verdict(kind: str, call_id: object = "1.0", inbox: str = "1-0", **data: Any) -> SignalArrived:
    return SignalArrived(inbox, kind, {"call_id": call_id} | data)


def waiting(*names: str, **fields: Any) -> Life:
    life = Life(request(**fields), CARDS).begin()
    life.answered(wants(*names))
    return life


def later(life: Life, now: float, *facts: object) -> Life:
    """Return the next life, at `now`."""
    again = Life(life.request, life.cards, list(life.journal), now)
    again.feed(Begin("x"), *facts)
    return again


@pytest.mark.requirement("TOOL-15", "RUN-07")
@pytest.mark.parametrize("name", ["wipe", "pay"])
def test_a_call_that_needs_approval_is_reserved_and_parks_the_run(name: str) -> None:
    life = waiting(name)
    assert kinds(life.trace)[-3:] == ["tool.batch_started", "tool.call_reserved", "Park"]
    assert life.last(Park) == Park(T0 + DAYS, "waits for approval")
    reserved = life.last(chat.CallReserved)
    assert (reserved.approval, reserved.deadline_at) == (True, T0 + DAYS)
    assert life.ledger() == {"1.0": "reserved"}
    check(life)


@pytest.mark.requirement("TOOL-15", "RUN-07")
@pytest.mark.parametrize(("name", "effect"), [("wipe", RunTool), ("pay", SendCall)])
def test_days_and_workers_later_an_approve_has_it_made(name: str, effect: type) -> None:
    life = waiting(name)
    for day in range(1, 3):
        life = later(life, T0 + day * 86400)
        assert kinds(life.trace) == ["run.resumed", "Park"]
        assert life.last(Park).until == T0 + DAYS
    now = T0 + DAYS - 1
    life = later(life, now, verdict("approve", by="ann", reason="it is due"))
    approved = life.last(chat.CallApproved)
    assert (approved.by, approved.reason, approved.deadline_at) == ("ann", "it is due", now + 60)
    assert life.last(effect).call_id == "1.0"
    if effect is RunTool:
        life.settled("1.0", "wiped")
    else:
        life.feed(CallSent("1.0"), life.letter("1.0", "2-0", value="paid"))
    assert life.told() == ["wiped" if effect is RunTool else "paid"]
    life.answered(says("all done"))
    assert life.result["tool_calls"][0]["state"] == "succeeded"
    check(life)


@pytest.mark.requirement("TOOL-15")
@pytest.mark.parametrize("name", ["wipe", "pay"])
@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("too dear", "The call was not approved, and not made. The reason given: too dear"),
        (None, "The call was not approved, and not made."),
    ],
)
def test_a_rejected_call_is_not_made_and_the_model_reads_why(name: str, reason: str | None, told: str) -> None:
    life = later(waiting(name), T0 + 100, verdict("reject", by="bob", **({"reason": reason} if reason else {})))
    failed = life.last(chat.CallFailed)
    assert (failed.code, failed.by, failed.inbox) == ("rejected", "bob", "1-0")
    assert life.told() == [told]
    assert not {"RunTool", "SendCall"} & set(kinds(life.trace))
    check(life)


@pytest.mark.requirement("TOOL-15", "TOOL-07")
@pytest.mark.parametrize("name", ["wipe", "pay"])
def test_a_call_that_nobody_approves_is_given_up_at_its_time_and_was_not_made(name: str) -> None:
    life = later(waiting(name), T0 + DAYS)
    assert life.ledger() == {"1.0": "timed_out"}
    assert life.told() == ["Nobody approved the call in time; it was not made."]
    assert kinds(life.feed(verdict("approve"))) == ["run.ignored"]
    check(life)


@pytest.mark.requirement("TOOL-15", "TOOL-07")
def test_the_time_of_a_call_begins_when_it_is_approved() -> None:
    life = later(waiting("pay"), T0 + 500, verdict("approve"))
    life.feed(CallSent("1.0"))
    assert life.machine.deadline == T0 + 505, "it holds its worker for a moment"
    life.at(T0 + 505)
    assert life.last(Park) == Park(T0 + 560, "waits for other services")
    again = later(life, T0 + 560)
    assert again.ledger() == {"1.0": "running"}, "its result may be on its way to this life"
    again.at(T0 + 560)
    assert again.ledger() == {"1.0": "outcome_unknown"}


@pytest.mark.requirement("TOOL-15")
@pytest.mark.parametrize("letter", [verdict("approve", "9.9"), verdict("reject", None), verdict("approve", ["1.0"])])
def test_a_verdict_on_what_does_not_wait_changes_nothing(letter: SignalArrived) -> None:
    life = later(waiting("wipe"), T0 + 1)
    assert kinds(life.feed(letter)) == ["run.ignored"]
    assert life.ledger() == {"1.0": "reserved"}


@pytest.mark.requirement("TOOL-15")
def test_the_first_verdict_counts() -> None:
    life = later(waiting("pay"), T0 + 1, verdict("approve"))
    assert kinds(life.feed(verdict("reject", inbox="2-0"), verdict("approve", inbox="3-0"))) == ["run.ignored"] * 2
    assert life.ledger() == {"1.0": "reserved"}
    check(life)


@pytest.mark.requirement("TOOL-15", "TOOL-05")
def test_others_of_the_same_answer_go_their_way_and_the_model_waits_for_all() -> None:
    life = waiting("pay", "look")
    assert life.ledger() == {"1.0": "reserved", "1.1": "running"}
    assert kinds(life.settled("1.1", "seen")) == ["tool.call_result", "Park"]
    life = later(life, T0 + 900, verdict("approve"))
    life.feed(CallSent("1.0"), life.letter("1.0", "2-0", value="paid"))
    assert life.told() == ["paid", "seen"]
    check(life)


@pytest.mark.requirement("TOOL-15", "TOOL-05")
def test_one_at_a_time_keeps_the_order_while_one_waits() -> None:
    life = waiting("pay", "look", parallel_tools=1)
    assert life.ledger() == {"1.0": "reserved"}
    life = later(life, T0 + 1, verdict("reject"))
    assert life.ledger() == {"1.0": "failed", "1.1": "running"}


@pytest.mark.requirement("TOOL-15", "TOOL-11", "RUN-04")
@pytest.mark.parametrize("name", ["wipe", "pay"])
def test_a_worker_that_dies_with_the_approval_told_has_it_made_at_most_once(name: str) -> None:
    life = later(waiting(name), T0 + 5, verdict("approve"))
    upto = next(n for n, (event, _) in enumerate(life.journal, 1) if isinstance(event, chat.CallApproved))
    again = Life(life.request, life.cards, list(life.journal[:upto]), T0 + 6).begin()
    assert kinds(again.trace) == (
        ["run.resumed", "tool.call_started", "RunTool"] if name == "wipe" else ["run.resumed"]
    ), "what was not begun is begun; what may have been sent is waited for"
    assert again.machine.deadline == (T0 + 65 if name == "wipe" else T0 + 11)
    check(again)


@pytest.mark.requirement("TOOL-15", "RUN-05")
@pytest.mark.parametrize(("name", "done"), [("wipe", ["Release"]), ("pay", ["SendCall"])])
def test_a_worker_that_drains_loses_no_approval(name: str, done: list[str]) -> None:
    life = waiting(name, "look")
    life.feed(Draining(T0 + 15), verdict("approve"))
    life.settled("1.1")
    assert set(done) <= set(kinds(life.trace))
    assert "RunTool" not in kinds(life.trace)[kinds(life.trace).index("tool.call_approved") :]
    if name == "wipe":
        assert kinds(later(life, T0 + 3).trace) == ["run.resumed", "tool.call_started", "RunTool"]


@pytest.mark.requirement("TOOL-15", "RUN-06")
def test_a_cancelled_run_did_not_make_what_waited() -> None:
    life = later(waiting("pay", "wipe"), T0 + 9, SignalArrived("1-0", "cancel", {}))
    assert life.ledger() == {"1.0": "cancelled", "1.1": "cancelled"}
    check(life)


@pytest.mark.requirement("TOOL-15", "RUN-18")
def test_a_retried_run_asks_for_approval_anew() -> None:
    life = later(waiting("pay"), T0 + 9, SignalArrived("1-0", "cancel", {}))
    life.journal.append((RunCancelled(), T0 + 10))
    again = later(life, T0 + 20)
    assert again.ledger() == {"1.0": "cancelled", "1.0.2": "reserved"}
    assert again.last(Park).why == "waits for approval"
    again = later(again, T0 + 30, verdict("approve", "1.0.2", "3-0"))
    assert again.last(SendCall).call_id == "1.0.2"
