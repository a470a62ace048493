"""How a cited answer waits for its provider: as a chat does."""

from typing import Any

import pytest

from api_contracts import chat, runs
from tests.unit.core.citations.lives import BUSY, GOOD, RUN, T0, UNCITED, Life, check, is_tight, kinds, request
from workers.core.chat.acts import AskModel
from workers.core.runs.frame import HOLD_S, Begin, Draining, Park, Retry, SignalArrived

pytestmark = pytest.mark.requirement("RUN-07", "CHAT-10")

LATER = BUSY.model_copy(update={"retry_after_s": 20.0})
CANCEL = SignalArrived("5-0", "cancel", {"reason": "changed my mind"})


def told_to_wait(**fields: Any) -> Life:
    life = Life(request(**fields)).begin()
    assert kinds(life.failed(LATER, 0.0)) == ["chat.replaced", "Park"]
    return life


def next_life(life: Life, now: float, *facts: object, begin: Begin | None = None) -> Life:
    again = Life(life.request, list(life.journal), now)
    again.feed(begin or Begin("x"), *facts)
    return again


def test_it_parks_until_the_provider_may_be_asked_and_the_next_life_asks_then() -> None:
    life = told_to_wait()
    assert life.last(Park).until == life.last(chat.ChatReplaced).retry_at == T0 + 20
    again = next_life(life, T0 + 20)
    assert kinds(again.trace) == ["run.resumed", "chat.requested", "AskModel"]
    assert again.machine.deadline is None, "it has waited, and asks once"
    again.answered(GOOD)
    assert again.result.status == "completed"
    check(life)
    check(again)


def test_it_waits_as_long_in_its_second_form() -> None:
    life = Life(request()).begin()
    life.answered(UNCITED)
    assert kinds(life.failed(LATER, 0.0)) == ["chat.replaced", "Park"]
    again = next_life(life, T0 + 20)
    assert kinds(again.trace) == ["run.resumed", "chat.requested", "AskModel"]
    assert is_tight(again.last(AskModel))


def test_a_life_that_begins_too_early_parks_again_and_one_that_is_nearly_there_waits() -> None:
    life = told_to_wait()
    assert kinds(next_life(life, T0 + 3).trace) == ["run.resumed", "Park"]
    near = next_life(life, T0 + 20 - HOLD_S)
    assert kinds(near.trace) == ["run.resumed"]
    assert kinds(near.at(T0 + 20)) == ["chat.requested", "AskModel"]


def test_a_cancel_an_operators_word_and_the_deadline_do_not_wait() -> None:
    life = told_to_wait()
    assert next_life(life, T0 + 1, CANCEL).result.status == "cancelled"
    asked = next_life(life, T0 + 1, begin=Begin("x", Retry("9-0", "ann", "")))
    assert kinds(asked.trace) == ["run.resumed", "chat.requested", "AskModel"]
    late = told_to_wait(deadline_s=10)
    assert late.last(Park).until == T0 + 10
    assert next_life(late, T0 + 10).result.failure is not None


def test_one_that_is_reopened_does_not_wait_for_what_was_before_its_end() -> None:
    life = next_life(told_to_wait(), T0 + 1, CANCEL)
    result = {"run_id": RUN, "kind": "cite", "status": "cancelled"}
    life.journal.append((runs.RunCancelled(result=result), T0 + 1))
    again = next_life(life, T0 + 2)
    assert kinds(again.trace) == ["run.resumed", "chat.requested", "AskModel"]


def test_a_draining_worker_parks_what_waits_for_long() -> None:
    life = Life(request()).begin()
    life.feed(Draining(T0 + 15))
    assert kinds(life.failed(LATER)) == ["chat.replaced", "Park"]
