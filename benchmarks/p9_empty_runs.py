"""P9, and the cost of a whole empty run: CPU of the worker process per run of the smallest kind (`benchmarks.tasks`).

P9     marginal CPU per run from 1 000 to 10 000 against 100 to 1 000, that is: the cost of the next run does not grow
       with how many there are, waiting or done. Goal: within 1.2.
empty  CPU per empty run against a no-op task of Celery on the same pool of the same worker, in turns. Goal: 2.0.

Both go through everything that Celery has: the broker's message, the events, the tracer, the result. The no-op is a
task of the same worker, so what our pool and transport cost is in the floor as well; what the run adds is submit's
other half: acquire, read, started, the SQL record, completed, announce.
Run: .venv/bin/python -m benchmarks.p9_empty_runs [--quick]
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.cpu import spread
from benchmarks.empty_load import Load
from benchmarks.stand import stand
from workers.cli.stack import stack

AT_ONCE = 50


def against_noop(load: Load, rounds: int, count: int) -> None:
    """Print what an empty run costs, and the ratio to a no-op."""
    runs, noops = [], []
    for turn in range(rounds + 1):
        run, noop = load.empty_runs(count) / count, load.noops(count) / count
        if turn:  # the first warms up
            runs.append(run)
            noops.append(noop)
            print(f"  round {turn}: empty run {run * 1e3:.2f} ms, no-op {noop * 1e3:.2f} ms", flush=True)
    print(f"empty run {spread(runs, ' ms', 1e3)}, no-op {spread(noops, ' ms', 1e3)}")
    ratios = [run / noop for run, noop in zip(runs, noops, strict=True)]
    print(f"empty run / no-op = {spread(ratios)} (goal <= 2.0)", flush=True)


def marginal(load: Load, rounds: int, few: int) -> None:
    """Print P9 for `few`, ten times and a hundred times as many runs."""
    ratios = []
    for turn in range(rounds):
        least, middle, most = (load.empty_runs(count) for count in (few, 10 * few, 100 * few))
        near, far = (middle - least) / (9 * few), (most - middle) / (90 * few)
        ratios.append(far / near)
        print(f"  round {turn + 1}: marginal {near * 1e3:.2f} ms, then {far * 1e3:.2f} ms", flush=True)
    print(f"P9 = {spread(ratios)} (goal: within 1.2)")


def main() -> None:
    """Print both."""
    quick = "--quick" in sys.argv
    with tempfile.TemporaryDirectory() as name, stack(Path(name), emulate=True) as parts, stand(parts) as on:
        pid = on.start_worker("chat", app="benchmarks.tasks", concurrency=AT_ONCE)
        load = Load(on.env, pid)
        try:
            against_noop(load, *((1, 100) if quick else (7, 1000)))
            marginal(load, *((1, 10) if quick else (3, 100)))
        finally:
            load.close()


if __name__ == "__main__":
    main()
