"""Plays the service against new seeds, or one plan again.

python -m tests.sim                                        new seeds of every scenario, for a minute
python -m tests.sim --seconds 600 --only both,speech       longer, of some
python -m tests.sim --pairs both                           two deaths, at every pair of calls
python -m tests.sim --planted                              how soon planted bugs are found
python -m tests.sim both seed=7 lossy=1 faults=12:drain    one plan again, call by call

A world that came out wrong is printed as the command that plays it again; the exit code is 1 then.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable

import structlog

from tests.sim.plan import Plan
from tests.sim.planted import BUGS, planted
from tests.sim.playing import SCENARIOS, Played, every_pair, play, searched


def main(words: list[str]) -> int:
    """Play; return the exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    given = _parser().parse_args(words)
    if given.plan:
        return _again(given.plan[0], Plan.read(" ".join(given.plan[1:])), given.bug)
    if given.planted:
        return _plant(given.seconds, given.seed)
    if given.pairs:
        plans = every_pair(given.pairs, "kill-before", "kill-after")
        return _tell((play(given.pairs, plan) for plan in plans), float("inf"), "every pair of deaths")
    scenarios = given.only.split(",") if given.only else list(SCENARIOS)
    return _tell(searched(scenarios, given.seed), given.seconds, f"from seed {given.seed} on")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.partition("\n")[0])
    parser.add_argument("plan", nargs="*", help="a scenario, then seed=N lossy=0|1 faults=STEP:KIND,...")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help=f"of {','.join(SCENARIOS)}")
    parser.add_argument("--pairs", choices=list(SCENARIOS))
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--bug", choices=BUGS, default="", help="play the plan with this bug planted")
    return parser


def _again(scenario: str, plan: Plan, bug: str) -> int:
    with planted(bug) as store:
        played = play(scenario, plan, store)
    print(*(f"{number:5} {what}" for number, what in enumerate(played.trace, 1)), played, sep="\n")
    return bool(played.wrong)


def _tell(plays: Iterable[Played], seconds: float, which: str) -> int:
    began, wrong, counts = time.monotonic(), 0, Counter[str]()
    for played in plays:
        counts[played.scenario] += 1
        if played.wrong:
            wrong += 1
            print(played, flush=True)
        if time.monotonic() - began > seconds:
            break
    took, total = time.monotonic() - began, counts.total()
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    print(f"{total} schedules in {took:.1f} s ({total / took:.0f} a second), {which}: {wrong} wrong")
    return bool(wrong)


def _plant(seconds: float, seed: int) -> int:
    return max(_found(bug, seconds, seed) for bug in BUGS)


def _found(bug: str, seconds: float, seed: int) -> int:
    began = time.monotonic()
    with planted(bug) as store:
        for count, played in enumerate(searched(list(SCENARIOS), seed, store), 1):
            took = time.monotonic() - began
            if played.wrong:
                print(f"{bug}: found after {count} schedules, {took:.1f} s: --bug {bug} {_line(played)}", flush=True)
                return 0
            if took > seconds:
                break
    print(f"{bug}: NOT found in {count} schedules, {took:.1f} s", flush=True)
    return 1


def _line(played: Played) -> str:
    return f"{played.scenario} {played.plan}  {played.wrong[0]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
