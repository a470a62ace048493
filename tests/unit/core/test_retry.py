"""How long to wait before another try, and when to give up (`retry`)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.failure import Failure
from workers.core.retry import BUDGET, pause_s

pytestmark = pytest.mark.requirement("CHAT-10")

BUSY = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")


def test_the_pause_doubles_from_half_a_second() -> None:
    assert [pause_s(BUSY, n, jitter=1.0) for n in range(1, BUDGET)] == [0.5, 1.0, 2.0, 4.0]


@given(st.floats(0, 1), st.integers(1, BUDGET - 1))
def test_jitter_is_full_from_nothing_to_the_whole_pause(jitter: float, failures: int) -> None:
    whole = pause_s(BUSY, failures, 1.0)
    assert whole is not None
    assert pause_s(BUSY, failures, 0.0) == 0.0
    assert pause_s(BUSY, failures, jitter) == pytest.approx(whole * jitter)


@pytest.mark.parametrize(("wish", "pause"), [(0.1, 0.5), (0.5, 0.5), (20.0, 20.0), (0.0, 0.5)])
def test_the_providers_wish_is_a_lower_bound(wish: float, pause: float) -> None:
    assert pause_s(BUSY.model_copy(update={"retry_after_s": wish}), 1, 1.0) == pause


def test_the_budget_is_five_attempts() -> None:
    assert BUDGET == 5
    assert pause_s(BUSY, BUDGET, 0.0) is None
    assert pause_s(BUSY, BUDGET + 1, 0.0) is None


def test_what_will_not_pass_is_not_tried_again() -> None:
    assert pause_s(BUSY.model_copy(update={"retryable": False, "retry_after_s": 1.0}), 1, 1.0) is None
