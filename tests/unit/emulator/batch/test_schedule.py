"""A job's life: which state at which age, how many rows by then, and what cuts it short."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.emulator.batch.schedule import Amount, Plan, Step, read_plan

pytestmark = pytest.mark.requirement("EMU-06")

USUAL = read_plan("VALIDATING:60/PENDING:30/RUNNING:100/COMPLETED")


def _states(plan: Plan, *ages: float) -> list[str]:
    return [plan.at(age).state for age in ages]


def test_each_state_lasts_its_time() -> None:
    assert _states(USUAL, 0, 59, 60, 89, 90, 189, 190, 1e9) == [
        *("VALIDATING", "VALIDATING", "PENDING", "PENDING", "RUNNING", "RUNNING", "COMPLETED", "COMPLETED")
    ]
    assert USUAL.at(70).since == 60
    assert (USUAL.validated, USUAL.end, USUAL.first("RUNNING"), USUAL.first("IDLE")) == (60, 190, 90, None)


def test_rows_are_answered_while_the_job_runs() -> None:
    assert [USUAL.rows(USUAL.at(age), 10) for age in (0, 90, 99, 100, 140, 189.9, 190, 500)] == [
        *(0, 0, 0, 1, 5, 9, 10, 10)
    ]


def test_a_pause_between_two_runs_answers_nothing() -> None:
    plan = read_plan("RUNNING:10/PAUSED:50/RUNNING:10/COMPLETED")
    assert [plan.rows(plan.at(age), 100) for age in (5, 10, 40, 60, 65, 70)] == [25, 50, 50, 50, 75, 100]


@pytest.mark.parametrize(("answers", "most"), [(Amount(50, percent=True), 100), (Amount(30), 30), (Amount(0), 0)])
def test_a_job_can_end_with_rows_left(answers: Amount, most: int) -> None:
    plan = read_plan("VALIDATING:60/RUNNING:100/EXPIRED", answers)
    assert plan.rows(plan.at(1000), 200) == plan.most_rows(200) == most
    assert plan.rows(plan.at(110), 200) == most // 2


def test_a_script_may_hold_states_that_nobody_knows() -> None:
    plan = read_plan("JOB_STATE_DREAMING:5/COMPLETED")
    assert _states(plan, 0, 5) == ["DREAMING", "COMPLETED"]


def test_a_stuck_job_stays_where_it_is() -> None:
    plan = read_plan("VALIDATING:60/PENDING:30/RUNNING:100/COMPLETED", stuck="PENDING")
    assert _states(plan, 10, 1e6) == ["VALIDATING", "PENDING"]
    assert (plan.end, plan.most_rows(10)) == (inf, 0)


def test_a_job_stuck_while_it_runs_answers_what_it_would() -> None:
    plan = read_plan("VALIDATING:60/RUNNING:100/COMPLETED", Amount(50, percent=True), stuck="RUNNING")
    assert [plan.rows(plan.at(age), 100) for age in (60, 110, 160, 1e6)] == [0, 25, 50, 50]
    assert plan.most_rows(100) == 50


@pytest.mark.parametrize(
    "script",
    [
        "",
        "RUNNING/COMPLETED",
        "RUNNING:1/COMPLETED:5",
        "running:5/COMPLETED",
        "RUNNING:-1/COMPLETED",
        "RUNNING:x/COMPLETED",
        "A:nan/B",
    ],
)
def test_a_script_without_sense_is_refused(script: str) -> None:
    with pytest.raises(ValueError, match=r"state|seconds"):
        read_plan(script)


def test_a_job_cannot_be_stuck_where_it_never_comes() -> None:
    with pytest.raises(ValueError, match="IDLE"):
        read_plan("RUNNING:1/COMPLETED", stuck="IDLE")


def test_what_expires_keeps_the_rows_that_it_has() -> None:
    plan = USUAL.cut(140, Step("EXPIRED"))
    assert _states(plan, 139, 140, 1e9) == ["RUNNING", "EXPIRED", "EXPIRED"]
    assert plan.rows(plan.at(1e9), 10) == plan.most_rows(10) == 5
    assert plan.end == 140


def test_what_is_cut_before_it_runs_never_ran() -> None:
    plan = USUAL.cut(70, Step("EXPIRED"))
    assert (plan.first("RUNNING"), plan.most_rows(10)) == (None, 0)


def test_a_cancelled_job_goes_on_for_a_while() -> None:
    plan = USUAL.cut(100, Step("CANCELLING", 20, works=True), Step("CANCELLED"))
    assert [plan.rows(plan.at(age), 10) for age in (100, 110, 120, 200)] == [1, 2, 3, 3]


def test_after_its_end_a_job_stays_until_it_is_cut() -> None:
    plan = USUAL.cut(1000, Step("DELETING_CLEANING_UP", 5), Step("GONE"))
    assert _states(plan, 999, 1000, 1005) == ["COMPLETED", "DELETING_CLEANING_UP", "GONE"]
    assert plan.most_rows(10) == 10


def test_a_row_is_answered_when_the_count_comes_to_it() -> None:
    plan = read_plan("VALIDATING:60/RUNNING:10/PAUSED:50/RUNNING:10/COMPLETED")
    assert [plan.age_of_row(place, 4) for place in range(4)] == [65, 70, 125, 130]


SCRIPTS = st.lists(
    st.tuples(st.sampled_from(["VALIDATING", "PENDING", "RUNNING", "IDLE", "CREATING"]), st.integers(0, 100)),
    min_size=1,
    max_size=6,
).map(lambda steps: "/".join([*(f"{name}:{seconds}" for name, seconds in steps), "COMPLETED"]))


@given(SCRIPTS, st.integers(0, 500), st.lists(st.floats(0, 700), min_size=2, max_size=8))
def test_rows_never_become_fewer(script: str, total: int, ages: list[float]) -> None:
    plan = read_plan(script)
    counts = [plan.rows(plan.at(age), total) for age in sorted(ages)]
    assert counts == sorted(counts)
    assert max(counts) <= plan.most_rows(total) <= total


@given(SCRIPTS, st.floats(0, 500), st.floats(0, 700), st.integers(0, 500))
def test_a_cut_leaves_the_past_as_it_was(script: str, at: float, age: float, total: int) -> None:
    plan = read_plan(script)
    cut = plan.cut(at, Step("EXPIRED"))
    if age < at:
        assert cut.at(age) == plan.at(age)
    else:
        assert cut.at(age).state == "EXPIRED"
        assert cut.rows(cut.at(age), total) <= plan.rows(plan.at(at), total)


@given(SCRIPTS, st.integers(1, 50))
def test_rows_are_told_at_the_time_that_they_carry(script: str, total: int) -> None:
    plan = read_plan(script)
    for place in range(plan.most_rows(total)):
        assert plan.rows(plan.at(plan.age_of_row(place, total) + 1e-3), total) >= place + 1
