"""When to look, when to try again, when to worry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.failure import Failure
from workers.core.batch import pace

BUSY = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
SECONDS = st.floats(0, 1e6)


@pytest.mark.requirement("BATCH-06")
@given(SECONDS, SECONDS, st.floats(0, 2), st.none() | st.floats(-1e4, 1e5))
def test_looks_are_thirty_seconds_to_five_minutes_apart(
    age: float, quiet: float, done: float, to_expiry: float | None
) -> None:
    assert 30 <= pace.poll_s(age, quiet, done, to_expiry) <= 300


@pytest.mark.requirement("BATCH-06")
def test_a_quiet_job_is_looked_at_less_and_less() -> None:
    assert [pace.poll_s(9e9, quiet, 0.0, None) for quiet in (0, 60, 100, 400, 600, 9999)] == [30, 30, 50, 200, 300, 300]


@pytest.mark.requirement("BATCH-06")
def test_a_job_that_will_be_done_soon_or_expires_soon_is_looked_at_more_often() -> None:
    assert pace.poll_s(1000, 9999, 0.9, None) == pytest.approx(1000 / 9 / 2)
    assert pace.poll_s(1000, 9999, 1.0, None) == 30
    assert pace.poll_s(1000, 9999, 0.1, None) == 300
    assert [pace.poll_s(1e5, 9999, 0.0, left) for left in (901, 900, 899, 0, -50)] == [300, 300, 60, 60, 60]


@given(st.floats(30, 300), SECONDS)
def test_a_run_looks_by_itself_only_when_the_poller_has_missed_its_turn(poll: float, quiet: float) -> None:
    assert 2 * poll < pace.fallback_s(poll, quiet) <= 3600
    assert pace.fallback_s(poll, 0) <= 660


def test_a_step_is_tried_again_for_hours_but_not_for_ever() -> None:
    pauses = [pace.pause_s(BUSY, failures, 1.0) for failures in range(1, pace.BUDGET)]
    assert pauses[:9] == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert sum(pause or 0 for pause in pauses) > 2 * 3600
    assert pace.pause_s(BUSY, pace.BUDGET, 1.0) is None
    assert pace.pause_s(BUSY.model_copy(update={"retryable": False}), 1, 1.0) is None
    assert pace.pause_s(BUSY, 1, 0.25) == 0.5


def test_the_providers_wish_is_a_lower_bound_up_to_an_hour() -> None:
    assert pace.pause_s(BUSY.model_copy(update={"retry_after_s": 100.0}), 1, 0.0) == 100
    assert pace.pause_s(BUSY.model_copy(update={"retry_after_s": 1e6}), 1, 0.0) == 3600
    assert pace.pause_s(BUSY.model_copy(update={"retry_after_s": 1.0}), 9, 1.0) == 301


def test_batches_that_got_the_same_wish_do_not_come_back_together() -> None:
    assert pace.pause_s(BUSY.model_copy(update={"retry_after_s": 100.0}), 1, 1.0) == 125


def test_a_job_is_overdue_an_hour_after_it_should_have_expired() -> None:
    assert pace.overdue_at(1000.0, 5000.0) == 8600
    assert pace.overdue_at(1000.0, None) == 1000 + 74 * 3600
    assert pace.lost_at(8600.0) == 12_200


def test_the_end_is_expected_from_what_is_done() -> None:
    assert pace.expected_end(100.0, 0.25, 200.0) == 500
    assert pace.expected_end(100.0, 1.0, 200.0) == 200
    assert pace.expected_end(100.0, 0.0, 200.0) is None
    assert pace.worry_at(100.0, 1000.0) == 900
