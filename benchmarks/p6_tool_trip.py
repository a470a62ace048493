"""P6: one tool round trip through another service, from the call's event to its result's.

Floor, in the same run: a bare Celery task of the same service through the same broker, with a link to a task on a
second worker; timed from before `send_task` to inside the linked task. Both services wait for work, nothing else runs.
Goal: p50 1.5 times the floor's.
Reported beside it: a workflow with one step that DBOS queues on PostgreSQL (`benchmarks.dbos_peer`), as it polls by
default and a hundred times as often.
Run: .venv/bin/python -m benchmarks.p6_tool_trip [--quick]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from celery import Celery, signature
from redis import Redis

from api_contracts.client import Client
from benchmarks.cpu import spread
from benchmarks.dbos_peer import DBOS, NotCompared, median_s
from benchmarks.names import BACK, BACK_KEY, TOOL
from benchmarks.stand import Stand, stand
from workers.cli.stack import stack

MODEL = "accounts/fireworks/models/emulated-classic"
SCENE = {
    "rules": [
        {"when": {"tool_results": 0}, "reply": {"tool_calls": [{"name": "look", "arguments": "{}"}]}},
        {"when": {}, "reply": {"text": "It is there."}},
    ]
}
SPEC = {"name": "look", "task": TOOL, "queue": "fireworks.look", "effect": "pure"}
_WITHIN_S = 60
_POLLED_S = (1.0, 0.01)


def trip_s(client: Client) -> float:
    """Run a chat with one call; return the seconds from the call's event to its result's, by Redis' clock."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Look."}], "tools": [SPEC]}
    at = {event.type: event.at for event in client.follow(client.chat.submit(asked), timeout_s=_WITHIN_S)}
    return (at["tool.call_result"] - at["tool.call_reserved"]) / 1000


def bare_s(app: Celery, redis: Redis) -> float:
    """Send the same task with a link; return the seconds until the linked task runs."""
    began = time.time()
    app.send_task(TOOL, queue="fireworks.look", link=signature(BACK, options={"queue": "fireworks.back"}, app=app))
    popped = redis.blpop([BACK_KEY], timeout=_WITHIN_S)
    if popped is None:
        raise RuntimeError("the linked task did not run")
    return float(popped[1]) - began


def measure(on: Stand, rounds: int, count: int) -> list[tuple[float, float]]:
    """Return the medians of trips and of bare tasks, for each round, taken in turns."""
    url, found = on.env["FW_REDIS_URL"], list[tuple[float, float]]()
    app = Celery(broker=url, backend="disabled", set_as_current=False)
    with Client(redis_url=url) as client, Redis.from_url(url, socket_timeout=_WITHIN_S + 5) as redis:
        for turn in range(rounds + 1):
            pairs = [(trip_s(client), bare_s(app, redis)) for _ in range(count)]
            medians = statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)
            if turn:  # the first warms up
                found.append(medians)
                print(
                    f"  round {turn}: call to result {medians[0] * 1e3:.1f} ms, bare {medians[1] * 1e3:.1f} ms",
                    flush=True,
                )
    return found


def show_peer(trip: float, count: int) -> None:
    """Print what the peer takes, and how often our trip goes into it."""
    for interval_s in _POLLED_S:
        try:
            peer = median_s(interval_s, count)
        except NotCompared as exc:
            print(f"NOT COMPARED with {DBOS}: {exc}")
            return
        shown = f"{DBOS}, queued workflow, polled every {interval_s:g} s: {peer * 1e3:.0f} ms"
        print(f"{shown}, {peer / trip:.1f} times ours", flush=True)


def main() -> None:
    """Print the ratio."""
    rounds, count = (1, 20) if "--quick" in sys.argv else (5, 60)
    with tempfile.TemporaryDirectory() as name, stack(Path(name), emulate=True) as parts, stand(parts) as on:
        on.start_emulator(Path(name), SCENE)
        on.start_worker("chat", concurrency=8)
        on.start_worker("control", concurrency=8)
        for queue in ("look", "back"):
            on.start_worker(queue, app="benchmarks.service", concurrency=8)
        found = measure(on, rounds, count)
    print(f"call to result {spread([trip for trip, _ in found], ' ms', 1e3)}")
    print(f"bare task with link {spread([bare for _, bare in found], ' ms', 1e3)}")
    print(f"P6 = {spread([trip / bare for trip, bare in found])} (goal <= 1.5)")
    show_peer(statistics.median(trip for trip, _ in found), 10 if "--quick" in sys.argv else 30)


if __name__ == "__main__":
    main()
