"""`python -m tests.sim [SCENARIO [PLAN...]]`: plays one plan, such as `seed=7 lossy=1 faults=12:kill-after`, or new
seeds for a minute. A world that came out wrong is printed as the command that plays it again; the exit code is 1 then.
"""

import itertools
import sys
import time

import structlog

from tests.sim.plan import Plan
from tests.sim.playing import SCENARIOS, Played, play, sampled

SECONDS = 60.0


def main(words: list[str]) -> int:
    """Play; return the exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if len(words) > 1:
        played = play(words[0], Plan.read(" ".join(words[1:])))
        print(*(f"{number:5} {what}" for number, what in enumerate(played.trace, 1)), played, sep="\n")
        return bool(played.wrong)
    return _search(words or list(SCENARIOS))


def _search(scenarios: list[str]) -> int:
    first, end, bad, count = int(time.time()), time.monotonic() + SECONDS, list[Played](), 0
    streams = [sampled(name, itertools.count(first)) for name in scenarios]
    while time.monotonic() < end:
        for name, plans in zip(scenarios, streams, strict=True):
            played, count = play(name, next(plans)), count + 1
            if played.wrong:
                bad.append(played)
                print(played, flush=True)
    print(f"{count} schedules in {SECONDS:.0f} s from seed {first}, {len(bad)} wrong")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
