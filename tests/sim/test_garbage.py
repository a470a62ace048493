"""A run that is over is gone: it leaves nothing that only Python's collector frees, minutes later (docs/soak.md)."""

import pytest

from tests.garbage import collector_off
from tests.sim.plan import Kind, Plan
from tests.sim.playing import SCENARIOS, lived

STEP = 40
"""Of a call that goes wrong: in the middle of each scenario."""


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_run_that_is_over_holds_nothing(scenario: str) -> None:
    assert await left_by(scenario, Plan()) == []


@pytest.mark.parametrize("kind", ["pause", "no-reply", "redis-away", "sql-away", "forget"])
@pytest.mark.parametrize("scenario", ["both", "speech", "speech-changing", "waits", "batch"])
async def test_nor_does_one_that_was_in_trouble(scenario: str, kind: Kind) -> None:
    assert await left_by(scenario, Plan(1, {STEP: kind})) == []


async def left_by(scenario: str, plan: Plan) -> list[str]:
    """Play it, and return what it left to the collector while its world is there."""
    with collector_off() as left:
        world = await lived(SCENARIOS[scenario], plan)
        found = left()
    assert world.found == []
    return found
