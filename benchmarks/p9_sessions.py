"""P9 of sessions: does the next live session cost what the ones before it cost?

Marginal CPU of the worker per session and second of speech from 100 to 500 sessions, against 10 to 100. Goal: within
1.2, that is, the cost of one more does not grow with how many there are. Falling costs are no fault: what many share (a
read of Redis, a pipeline) is shared by more.

Redis, provider (`speech_sink`) and load have processes of their own and are not counted. Each point has a worker of its
own. 500 sessions need about four quiet cores: when the load cannot keep real time it is said, and the figures of such a
point mean little. `--quick` has 5, 20 and 60 sessions.
Run: .venv/bin/python -m benchmarks.p9_sessions [--quick]
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.cpu import spread
from benchmarks.p3_speech_cpu import Plan, Sink, served
from benchmarks.speech_voices import CHUNK_S, CYCLE_S
from workers.cli.stack import Stack, stack


def cost_s(parts: Stack, plan: Plan, sink: Sink) -> float:
    """Return the CPU seconds that all sessions together take in one second of speech."""
    seen, _, _ = served(parts, plan, sink)
    all_s = seen.per_chunk_s / CHUNK_S * plan.sessions
    told = f"{plan.sessions} sessions: {all_s * 1e3:.1f} ms a second (machine: {seen.busy:.1f} cores busy)"
    print(f"    {told}", flush=True)
    return all_s


def main() -> None:
    """Measure, and print the table."""
    quick = "--quick" in sys.argv
    points, rounds = ((5, 20, 60), 1) if quick else ((10, 100, 500), 3)
    plans = [Plan(count, 2.5 if quick else 6.0, CYCLE_S * (1 if quick else 2), 0, 1) for count in points]
    few, some, many = points
    ratios = []
    with tempfile.TemporaryDirectory() as name, stack(Path(name), emulate=True) as parts:
        for turn in range(rounds):
            with Sink(plans[0].seconds) as sink:
                low, middle, high = (cost_s(parts, plan, sink) for plan in plans)
            near, far = (middle - low) / (some - few), (high - middle) / (many - some)
            ratios.append(far / near)
            print(f"  round {turn + 1}: marginal {near * 1e3:.2f} ms, then {far * 1e3:.2f} ms", flush=True)
    print(f"P9 of sessions = {spread(ratios)} (goal: within 1.2)")


if __name__ == "__main__":
    main()
