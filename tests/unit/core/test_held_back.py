"""A chat that the fleet's limits hold back: it parks until its turn comes, and that costs it no try (OPS-10)."""

import pytest

from api_contracts.chat import ChatReplaced, ChatRequested
from tests.unit.core.turns import BUSY, Life, check, request, says
from workers.core.chat.tries import MOST_REFUSALS
from workers.core.limits.costs import held_back
from workers.core.retry import BUDGET, RUN_BUDGET
from workers.core.runs.frame import HOLD_S, Begin, Park

pytestmark = pytest.mark.requirement("OPS-10")


def held(life: Life, wait_s: float, jitter: float = 0.5) -> None:
    """Hold the present attempt back, and let time come to its next turn, in another life of the run."""
    life.failed(held_back(wait_s), jitter)
    assert not life.end
    due = life.machine.deadline
    assert due is not None
    assert due >= life.now + wait_s
    life.at(due)


def test_a_wait_of_over_5_s_parks_the_run() -> None:
    life = Life(request()).begin()
    life.failed(held_back(20.0), 0.5)
    retry_at = life.last(ChatReplaced).retry_at
    assert retry_at is not None
    assert retry_at >= life.now + 20.0
    assert isinstance(life.trace[-1], Park)
    assert life.trace[-1].until == retry_at
    again = Life(life.request, (), list(life.journal), retry_at)
    again.feed(Begin("x"))
    assert again.last(ChatRequested).attempt == 2
    again.answered(says("at last"))
    assert again.result["status"] == "completed"
    check(again)


def test_to_wait_for_its_turn_costs_no_try_however_often() -> None:
    life = Life(request(limits={"retries": 1})).begin()
    for _ in range(2 * max(MOST_REFUSALS, BUDGET, RUN_BUDGET)):
        held(life, HOLD_S / 2)
    life.failed(BUSY, 0.0)
    assert not life.end, "its one retry is still there"
    assert life.machine.deadline is not None
    life.at(life.machine.deadline)
    life.answered(says("yes"))
    assert life.result["status"] == "completed"


def test_its_deadline_ends_the_wait() -> None:
    life = Life(request(deadline_s=30.0)).begin()
    life.failed(held_back(100.0), 0.5)
    assert life.machine.deadline == life.now + 30.0
    life.at(life.now + 30.0)
    assert life.result["failure"]["code"] == "deadline_exceeded"
