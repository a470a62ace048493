"""Plays one plan, or many, and says what they brought to light."""

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.sim.files import AtOnce
from tests.sim.plan import Kind, Plan
from tests.sim.truth import faults_in
from tests.sim.world import Scenario, World
from workers.adapters.memory.runs import MemoryRuns
from workers.core.chat.cancelling import CANCEL

RUN_ID: Final = "sim-1"
SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("answer"),
        Scenario("here", (("look", "charge"), ("fire", "note"))),
        Scenario("elsewhere", (("ship", "bill"),)),
        Scenario("both", (("look", "bill"), ("fire", "ship"), ("charge",))),
        Scenario("cancelled", (("look", "bill"), ("fire", "ship")), signals=((1.5, "cancel"),)),
        Scenario("signals", (("look", "charge"), ("ship",)), signals=((0.0, "approve"), (1.0, "hm"), (1.5, "cancel"))),
        Scenario(
            "retried",
            (("look", "charge"), ("ship", "bill"), ("fire", "note")),
            signals=((5.7, "cancel"),),
            retry_after_s=8.0,
        ),
        Scenario("late", (("look", "ship"), ("fire", "note")), deadline_s=2.5),
        Scenario("interrupted", (("look", "bill"), ("fire", "look")), signals=((1.1, "interrupt"), (3.0, "interrupt"))),
        Scenario("approved", (("look", "bill"), ("fire", "ship")), approved=True),
        Scenario("background", (("look", "bill"), ("fire", "ship")), background=True),
        Scenario("background-parked", (("charge", "ship"), ("bill",)), background=True, waits=True),
        Scenario(
            "background-interrupted",
            (("look", "bill"), ("fire", "ship")),
            background=True,
            signals=((1.1, "interrupt"), (2.5, "interrupt")),
        ),
        Scenario("background-given-up", (("charge", "fire", "ship"), (CANCEL,)), background=True, gives_up=True),
        Scenario("tools-changed", (("look", "bill"), ("note",)), signals=((1.1, "update_settings"),)),
        Scenario("cited", cites=True),
        Scenario("waits", (("look", "ship"), ("charge",)), waits=True),
        Scenario("waits-cancelled", (("look", "bill"), ("ship",)), signals=((30.0, "cancel"),), waits=True),
        Scenario("talk", (("look", "charge"),), talks=True),
        Scenario("talk-summarised", talks=True, summarised=True),
        Scenario("speech", words=5),
        Scenario("speech-changing", words=6, changes=True, signals=((1.5, "update_settings"),)),
        Scenario("file", sends_file=True),
        Scenario("short-of-money", (("look", "ship"),), is_short=True),
        Scenario("batch", batch_rows=5),
        Scenario("batch-alone", batch_rows=5, polled=False),
        Scenario("batch-cancelled", batch_rows=5, signals=((50.0, "cancel"),)),
        Scenario("batch-cancelled-alone", batch_rows=5, signals=((50.0, "cancel"),), polled=False),
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


async def lived(scenario: Scenario, plan: Plan, store: type[MemoryRuns] = MemoryRuns) -> World:
    """Return a world at its end."""
    if scenario.sends_file:
        asyncio.get_running_loop().set_default_executor(AtOnce())
    world = World(scenario, plan, store)
    await world.live(RUN_ID)
    return world


async def _play(scenario: Scenario, plan: Plan, store: type[MemoryRuns]) -> Played:
    world = await lived(scenario, plan, store)
    wrong = await faults_in(world, RUN_ID)
    return Played(scenario.name, plan, len(world.trace), tuple(wrong), tuple(world.trace))


def every(scenario: str, *kinds: Kind, seed: int = 1, lossy: bool = False) -> Iterator[Plan]:
    """Yield a plan for a fault of each kind at every call of a port in the scenario."""
    steps = play(scenario, Plan(seed, lossy=lossy)).steps
    for step in range(1, steps + 1):
        for kind in kinds:
            yield Plan(seed, {step: kind}, lossy)


def every_pair(scenario: str, *kinds: Kind, seed: int = 1) -> Iterator[Plan]:
    """Yield a plan for every two faults, the second at every call that follows the first in the world it makes."""
    for first in every(scenario, *kinds, seed=seed):
        (step,) = first.faults
        for second in range(step + 1, play(scenario, first).steps + 1):
            for kind in kinds:
                yield Plan(seed, first.faults | {second: kind})


def sampled(scenario: str, seeds: Iterable[int]) -> Iterator[Plan]:
    """Yield random plans of up to three faults. The later ones may come at calls that only the first brought about."""
    steps = play(scenario, Plan()).steps
    for seed in seeds:
        yield Plan.sampled(seed, steps + steps // 4)


def searched(scenarios: Sequence[str], first: int, store: type[MemoryRuns] = MemoryRuns) -> Iterator[Played]:
    """Play new seeds for ever, a scenario after the other."""
    streams = [(name, sampled(name, itertools.count(first))) for name in scenarios]
    while True:
        for name, plans in streams:
            yield play(name, next(plans), store)
