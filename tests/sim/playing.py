"""Plays one plan, or many, and says what they brought to light."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.sim.plan import Plan
from tests.sim.truth import faults_in
from tests.sim.world import Scenario, World
from workers.adapters.memory.runs import MemoryRuns

RUN_ID: Final = "sim-1"
SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("answer"),
        Scenario("here", (("look", "charge"), ("fire", "note"))),
        Scenario("elsewhere", (("ship", "bill"),)),
        Scenario("both", (("look", "bill"), ("fire", "ship"), ("charge",))),
        Scenario("cancelled", (("look", "bill"), ("fire", "ship")), cancel_after_s=1.5),
        Scenario("speech", words=5),
        Scenario("batch", batch_rows=5),
        Scenario("batch-cancelled", batch_rows=5, cancel_after_s=50.0),
    )
}


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a plan: how many calls of ports there were, what is wrong, and what was called."""

    scenario: str
    plan: Plan
    steps: int
    wrong: tuple[str, ...]
    trace: tuple[str, ...]

    def __str__(self) -> str:
        found = "".join(f"\n  {each}" for each in self.wrong) or " nothing wrong"
        return f"python -m tests.sim {self.scenario} {self.plan}{found}"


def play(scenario: str, plan: Plan, store: type[MemoryRuns] = MemoryRuns) -> Played:
    """Let one world live from its beginning to its end."""
    return asyncio.run(_play(SCENARIOS[scenario], plan, store))


async def _play(scenario: Scenario, plan: Plan, store: type[MemoryRuns]) -> Played:
    world = World(scenario, plan, store)
    await world.live(RUN_ID)
    wrong = await faults_in(world, RUN_ID)
    return Played(scenario.name, plan, len(world.trace), tuple(wrong), tuple(world.trace))


def every_death(scenario: str, seed: int = 1) -> Iterator[Plan]:
    """Yield a plan for a death before, and one after, every call of a port in the scenario."""
    steps = play(scenario, Plan(seed)).steps
    for step in range(1, steps + 1):
        yield Plan(seed, {step: "kill-before"})
        yield Plan(seed, {step: "kill-after"})


def sampled(scenario: str, seeds: Iterable[int]) -> Iterator[Plan]:
    """Yield random plans of up to three faults."""
    steps = play(scenario, Plan()).steps
    for seed in seeds:
        yield Plan.sampled(seed, steps)
