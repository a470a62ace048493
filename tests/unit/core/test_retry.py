"""How long to wait before another try, and when to give up (`retry`)."""

from itertools import pairwise

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


def asked_to_wait(wish_s: float, jitter: float) -> float:
    pause = pause_s(BUSY.model_copy(update={"retry_after_s": wish_s}), 1, jitter)
    assert pause is not None
    return pause


@given(st.floats(0, 30 * 86_400), st.floats(0, 1))
def test_the_providers_wish_is_a_lower_bound(wish_s: float, jitter: float) -> None:
    assert asked_to_wait(wish_s, jitter) >= wish_s


@pytest.mark.parametrize(("wish_s", "longest_s"), [(0.0, 0.5), (0.1, 0.6), (20.0, 25.0), (3600.0, 3660.0)])
def test_a_thousand_that_got_the_same_wish_come_back_one_by_one(wish_s: float, longest_s: float) -> None:
    """Over a quarter of the wait, up to a minute, and never over less than a backoff of their own."""
    thousand = [asked_to_wait(wish_s, jitter / 1000) for jitter in range(1001)]
    steps = [later - sooner for sooner, later in pairwise(thousand)]
    assert (thousand[0], thousand[-1]) == pytest.approx((wish_s, longest_s))
    assert steps == pytest.approx([(longest_s - wish_s) / 1000] * 1000)


def test_the_budget_is_five_attempts() -> None:
    assert BUDGET == 5
    assert pause_s(BUSY, BUDGET, 0.0) is None
    assert pause_s(BUSY, BUDGET + 1, 0.0) is None


def test_what_will_not_pass_is_not_tried_again() -> None:
    assert pause_s(BUSY.model_copy(update={"retryable": False, "retry_after_s": 1.0}), 1, 1.0) is None
