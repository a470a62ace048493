"""The service under every death, and under sampled schedules of deaths, pauses, lost replies and lost messages."""

import itertools
from collections.abc import Sequence

import pytest
import structlog

from api_contracts.runs import EventData, Status
from tests.sim.plan import KINDS, Plan
from tests.sim.playing import SCENARIOS, Played, every_death, play, sampled
from workers.adapters.memory.runs import MemoryRuns
from workers.core.runs.frame import Action, Effect
from workers.ports import Claimed
from workers.runners.drive import Driver

SAMPLES = 150
"""Of each scenario here; `python -m tests.sim` plays new ones for a minute."""
FOUND_WITHIN = 400
"""Schedules after which a planted bug must be found."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def wrong_in(played: Sequence[Played]) -> str:
    return "\n".join(str(each) for each in played if each.wrong)


@pytest.mark.requirement("RUN-04", "RUN-08", "RUN-10")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_death_before_or_after_any_call_of_a_port_loses_nothing(scenario: str) -> None:
    plans = list(every_death(scenario))
    assert len(plans) > 40
    assert wrong_in([play(scenario, plan) for plan in plans]) == ""


@pytest.mark.long
@pytest.mark.requirement("RUN-03", "RUN-04", "RUN-10")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_schedule_of_up_to_three_faults_does_harm(scenario: str) -> None:
    assert wrong_in([play(scenario, plan) for plan in sampled(scenario, range(SAMPLES))]) == ""


def test_each_kind_of_fault_is_met_and_a_plan_is_played_again_from_its_line() -> None:
    quiet = play("both", Plan())
    step = next(n for n, what in enumerate(quiet.trace, 1) if n > 20 and what.endswith("store.append"))
    for kind in KINDS:
        plan = Plan(1, {step: kind})
        assert Plan.read(str(plan)) == plan
        first = play("both", plan)
        assert first == play("both", Plan.read(str(plan)))
        assert first.trace != quiet.trace
        assert first.trace[:step] == quiet.trace[:step]


# -- bugs that are planted, so that it is known what the simulator can see ---------------------------------------------


class NoFence(MemoryRuns):
    """Anyone may append, under whatever epoch."""

    async def append(
        self, run_id: str, epoch: int, base_seq: int, events: Sequence[EventData], *, terminal: Status | None = None
    ) -> int:
        run = self._runs[run_id]
        return await super().append(run_id, run.epoch, min(base_seq, len(run.events)), events, terminal=terminal)


class NoLeaseCheck(MemoryRuns):
    """Every run is due, whoever holds it."""

    async def claim_due(self, limit: int) -> list[Claimed]:
        self._due.update({run_id: 0.0 for run_id, run in self._runs.items() if not run.status})
        return await super().claim_due(limit)

    async def claim(self, run_id: str) -> Claimed | None:
        self._runs[run_id].until = 0.0
        return await super().claim(run_id)


def found(store: type[MemoryRuns] = MemoryRuns) -> bool:
    """Whether some schedule brings a bug to light."""
    plans = itertools.chain(every_death("both"), sampled("both", range(FOUND_WITHIN)))
    return any(play("both", plan, store).wrong for plan in itertools.islice(plans, FOUND_WITHIN))


def test_a_store_without_the_fence_is_found() -> None:
    assert found(NoFence)


def test_a_sweep_that_does_not_look_at_leases_is_found() -> None:
    assert found(NoLeaseCheck)


def test_an_effect_before_its_announcement_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = Driver._perform

    async def hasty(self: Driver, actions: list[Action]) -> None:
        early = [action for action in actions if isinstance(action, Effect)]
        for action in early:
            self._performer.perform(action, self.post)
        await rightly(self, [action for action in actions if action not in early])

    monkeypatch.setattr(Driver, "_perform", hasty)
    assert found()
