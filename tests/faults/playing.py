"""How a fault is played: mixed runs while it happens again and again; then what became of them.

`make faults` has a thousand of them under each fault, and outages of half a minute; `make test` has a share.
"""

import random
import time
from collections.abc import Callable

from tests.faults.driver import Driver
from tests.faults.faults import Fault
from tests.faults.mix import mixed
from tests.faults.verdict import Row, Struck, as_json, judged
from tests.faults.world import World
from tests.waiting import eventually, rest

RATE, MOST_LIVE = 12.0, 80
"""Runs that are submitted in a second; runs under way."""
OUTAGE_S, SHORT_OUTAGE_S, MANY = 30.0, 3.0, 200
"""An outage lasts half a minute if there are many runs for it."""
FEW = 40
"""Fewer runs than these are struck sooner: else all would have ended."""
PATIENCE_S = 90.0
"""For the last runs to end, once nothing is wrong any more. A lost letter of a tool takes its time."""

TELL_EVERY_S = 15.0

Record = Callable[[str, object], None]
Tell = Callable[[str], None]


def struck(
    fault: Fault, world: World, driver: Driver, chance: random.Random, lasts_s: float, tell: Tell
) -> list[Struck]:
    """Strike until everything is submitted, at least once; once only if it is a long outage."""
    found: list[Struck] = []
    told_at, hurry = time.monotonic(), min(1.0, driver.size / FEW)
    while not found or not (driver.all_submitted or fault.once):
        rest(chance.uniform(*fault.pause_s) * hurry)
        found.append(fault.strike(world, chance, lasts_s))
        if time.monotonic() - told_at > TELL_EVERY_S:
            told_at = time.monotonic()
            tell(f"{fault.name}: {len(found)} strikes, {driver.state}")
    return found


def left_over(world: World, before: int) -> int:
    """Return how many messages are held by nobody: more than what was killed before had."""
    try:
        return eventually(lambda: world.queues.unacknowledged() <= before, within=5) and 0
    except AssertionError:
        return world.queues.unacknowledged() - before


def check(fault: Fault, world: World, runs: int, seed: int, record: Record, tell: Tell) -> None:
    """Play it, have its row in the table, and fail unless the row is good."""
    try:
        row = played(fault, world, runs, seed, tell)
    except Exception as exc:
        tell(f"{fault.name}: --seed {seed}: {exc!r:.2000}")
        raise
    record("faults", as_json(row))
    assert row.good, f"--seed {seed}: {row.faults()}"


def played(fault: Fault, world: World, runs: int, seed: int, tell: Tell) -> Row:
    """Return what became of the runs."""
    began, chance = time.monotonic(), random.Random(f"{seed} {fault.name}")  # worlds and their runs are shared
    before = world.whole().queues.unacknowledged()
    lasts_s, patience_s = (OUTAGE_S, 60.0) if runs >= MANY else (SHORT_OUTAGE_S, 20.0)
    driver = Driver(world, mixed(runs, chance, patience_s), RATE, MOST_LIVE)
    driver.start()
    try:
        happened = struck(fault, world, driver, chance, lasts_s, tell)
        world.whole()
        try:
            eventually(lambda: driver.done, within=PATIENCE_S + runs / RATE)
        except AssertionError:
            pass  # the row names who has not ended
    finally:
        driver.stop()
    row = judged(Row(fault.name, seed, runs), world, driver, happened, fault)
    row.seconds = round(time.monotonic() - began, 1)
    if fault.drains and (left := left_over(world, before)):
        row.notes.append(f"{left} messages wait for the visibility timeout")
    tell(f"{fault.name}: {row.finished} of {row.runs} in {row.seconds} s; {row.faults() or 'good'}")
    return row
