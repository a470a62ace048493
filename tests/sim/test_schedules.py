"""The service under every death, and under sampled schedules of deaths, pauses, lost replies, outages and drains."""

import itertools
from collections.abc import Iterable, Iterator

import pytest
import structlog

from tests.sim.plan import KINDS, Kind, Plan
from tests.sim.planted import BUGS, planted
from tests.sim.playing import SCENARIOS, every, every_pair, play, sampled, searched

SAMPLES = 40
"""Of each scenario here; `python -m tests.sim` plays new ones for a minute."""
FOUND_WITHIN = 1_000
"""Schedules after which a planted bug must be found."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


def wrong_in(scenario: str, plans: Iterable[Plan]) -> str:
    return "\n".join(str(played) for played in (play(scenario, plan) for plan in plans) if played.wrong)


@pytest.mark.requirement("RUN-04", "RUN-08", "RUN-10")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_death_before_or_after_any_call_of_a_port_loses_nothing(scenario: str) -> None:
    plans = list(every(scenario, "kill-before", "kill-after"))
    assert len(plans) > 40
    assert wrong_in(scenario, plans) == ""


@pytest.mark.long
@pytest.mark.requirement("RUN-03", "RUN-04", "RUN-05", "RUN-10")
@pytest.mark.parametrize("kind", ["pause", "no-reply", "drain", "forget"])
@pytest.mark.parametrize("scenario", ["both", "cancelled", "cited"])
def test_no_other_fault_at_any_call_of_a_port_does_harm(scenario: str, kind: Kind) -> None:
    assert wrong_in(scenario, every(scenario, kind)) == ""


@pytest.mark.long
@pytest.mark.requirement("RUN-04", "RUN-10")
def test_no_two_deaths_at_any_two_calls_of_a_port_lose_anything() -> None:
    """Of the shortest scenario; `python -m tests.sim --pairs both` takes some minutes."""
    assert wrong_in("answer", every_pair("answer", "kill-before", "kill-after")) == ""


@pytest.mark.long
@pytest.mark.requirement("RUN-03", "RUN-04", "RUN-05", "RUN-10")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_schedule_of_up_to_three_faults_does_harm(scenario: str) -> None:
    assert wrong_in(scenario, sampled(scenario, range(SAMPLES))) == ""


def test_each_kind_of_fault_is_met_and_a_plan_is_played_again_from_its_line() -> None:
    quiet = play("both", Plan())
    step = next(n for n, what in enumerate(quiet.trace, 1) if n > 20 and what.endswith("store.append"))
    for kind in KINDS:
        plan = Plan(1, {step: kind})
        assert Plan.read(str(plan)) == plan
        first = play("both", plan)
        assert first == play("both", Plan.read(str(plan)))
        assert first.trace != quiet.trace, kind
        assert first.trace[:step] == quiet.trace[:step]


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    with planted(bug) as store:
        plays = itertools.islice(searched(list(SCENARIOS), 0, store), FOUND_WITHIN)
        assert any(played.wrong for played in plays)


@pytest.mark.requirement("RUN-07", "CHAT-10")
def test_where_it_has_to_wait_the_run_parks() -> None:
    trace = play("waits", Plan()).trace
    assert sum(what.endswith("store.park") for what in trace) == 4, (
        "for each of three answers, and for the other service"
    )
