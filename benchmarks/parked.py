"""Parked runs: what 100 000 of them cost while they wait, and how a thousand that are due together come back.

1. A thousand chats are sent away by the provider until the same moment (Retry-After as a date). When do they ask again?
2. Some chats park for a day through a worker, and many more through the store, with the same calls as a worker makes.
   What do worker and Redis pay for them, in memory and in CPU?
3. A thousand of these are due at the same instant. How fast do they start, and how many are at work together?

Run: .venv/bin/python -m benchmarks.parked [--parked 100000] [--through 4000] [--wake 1000] [--slots 100]
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from pathlib import Path

from redis import Redis

from api_contracts import keys
from api_contracts.client import Client
from api_contracts.client.scripts import digest_of
from api_contracts.keys import new_run_id
from api_contracts.runs import Event, RunParked, RunQueued, RunStarted
from benchmarks.cpu import cpu_s, rss_mb
from benchmarks.stand import Stand, stand
from workers.adapters.clock import SystemClock
from workers.adapters.redis.connection import connect
from workers.adapters.redis.store import RedisRuns
from workers.cli.stack import stack
from workers.ports import Granted
from workers.settings import Timing

MODEL = "accounts/fireworks/models/emulated-classic"
AT_ONCE, WITHIN_S, LOOK_S, DAY_S = 200, 900.0, 30.0, 86_400
ROUNDS = 4
"""In which chats park through the worker: what the first pays for is the worker's own, not theirs."""
FIRST_S = 90.0
"""From the start of the emulator to the moment at which the provider may be asked again."""


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def scene(wake: int, again_at: float) -> dict[str, object]:
    """`together` is sent away until a moment, `tomorrow` for a day; whoever else asks is answered in a second."""
    answer = {"reply": {"text": "word " * 20}, "pace": 20}
    date = formatdate(again_at, usegmt=True)
    return {
        "rules": [
            {"when": {"user_regex": "^together"}, "faults": [f"429={date}"], "times": wake} | answer,
            {"when": {"user_regex": "^tomorrow"}, "faults": [f"429={DAY_S}"]} | answer,
            {"when": {}} | answer,
        ]
    }


def submit(client: Client, text: str, count: int) -> list[str]:
    return [client.chat.submit(model=MODEL, messages=asked(text), max_tokens=40) for _ in range(count)]


def until_parked(redis: Redis, runs: Sequence[str]) -> None:
    """Wait until all of them are."""
    began = time.monotonic()
    while time.monotonic() - began < WITHIN_S:
        pipe = redis.pipeline(transaction=False)
        for run_id in runs:
            pipe.hget(keys.lease(run_id), "parked")
        if all(pipe.execute()):
            return
        time.sleep(0.5)
    raise RuntimeError("the runs do not park")


def ended(client: Client, runs: Iterable[str]) -> list[list[Event]]:
    """Return the journals of these runs when all are over."""
    return [list(client.follow(run_id, timeout_s=WITHIN_S)) for run_id in runs]


def at(journal: list[Event], kind: str) -> list[float]:
    return [event.at / 1000 for event in journal if event.type == kind]


def say_spread(what: str, times: list[float], since: float) -> None:
    """Print how these moments spread after `since`."""
    late = sorted(moment - since for moment in times)
    peak = max(sum(first <= other < first + 1 for other in late) for first in late)
    print(f"  {what}: first {late[0]:.1f} s, p50 {late[len(late) // 2]:.1f} s, last {late[-1]:.1f} s after it;"
          f" at most {peak} in any second, {sum(moment < 0 for moment in late)} before it", flush=True)  # fmt: skip


def most_at_once(spans: list[tuple[float, float]]) -> int:
    steps = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def sent_away(on: Stand, redis: Redis, client: Client, count: int, again_at: float) -> None:
    """Part 1."""
    began = time.time()
    runs = submit(client, "together", count)
    until_parked(redis, runs)
    print(f"1. {count} chats asked, were sent away and parked in {time.time() - began:.1f} s,"
          f" {again_at - time.time():.0f} s before they may ask again", flush=True)  # fmt: skip
    journals = ended(client, runs)
    say_spread("asked for the first time", [at(journal, "chat.requested")[0] for journal in journals], began)
    say_spread("asked again", [at(journal, "chat.requested")[1] for journal in journals], again_at)
    requests = {len(at(journal, "chat.requested")) for journal in journals}
    print(f"  each asked {sorted(requests)} times, lived {sorted({_lives(journal) for journal in journals})} lives")


def _lives(journal: list[Event]) -> int:
    return sum(event.type in ("run.started", "run.resumed") for event in journal)


class Costs:
    """What worker and Redis pay, looked at for a while."""

    def __init__(self, redis: Redis, pid: int) -> None:
        self._redis = redis
        self._pid = pid

    def memory(self) -> int:
        return int(self._redis.info("memory")["used_memory"])

    def say(self, what: str) -> None:
        began, worker, server = time.monotonic(), cpu_s(self._pid), self._server_s()
        time.sleep(LOOK_S)
        share = 100 / (time.monotonic() - began)
        print(f"  {what}: worker {rss_mb(self._pid):.1f} MB RSS, {(cpu_s(self._pid) - worker) * share:.2f} % of a core;"
              f" Redis {(self._server_s() - server) * share:.2f} % of a core", flush=True)  # fmt: skip

    def _server_s(self) -> float:
        info = self._redis.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])


async def seeded(url: str, signature: str, named: str, count: int) -> list[str]:
    """Park so many chats for a day, each with the calls that a worker makes; return their ids."""
    runs = [new_run_id() for _ in range(count)]
    clock, rest = SystemClock(), iter(runs)
    async with connect(url, max_connections=AT_ONCE + 20) as redis:
        store = RedisRuns(redis, clock, Timing())
        store.start()

        async def park() -> None:
            for run_id in rest:
                request = {"model": MODEL, "messages": asked("Tell me.")}
                queued = RunQueued(kind="chat", digest=digest_of(request), request=request)
                await store.submit(run_id, queued, None)
                granted = await store.acquire(run_id, "benchmark", signature.replace(named, run_id))
                assert isinstance(granted, Granted)
                until = clock.now() + DAY_S
                parked = [RunStarted(owner="benchmark"), RunParked(why="benchmark", until=until)]
                await store.append(granted.lease, granted.seq, parked)
                await store.park(granted.lease, "0", until)

        await asyncio.gather(*(park() for _ in range(AT_ONCE)))
        await store.close()
    return runs


def waiting(on: Stand, redis: Redis, client: Client, costs: Costs, given: argparse.Namespace) -> list[str]:
    """Part 2; return the runs that were parked through the store."""
    print(f"2. {given.parked} parked runs")
    costs.say("none is parked")
    before = costs.memory()
    through: list[str] = []
    for _ in range(ROUNDS):
        through += submit(client, "tomorrow", given.through // ROUNDS)
        until_parked(redis, through)
        costs.say(f"{len(through)} parked, each through this worker")
    print(f"  Redis: {(costs.memory() - before) / len(through):.0f} bytes for each of them", flush=True)
    signature = json.loads(redis.hget(keys.lease(through[0]), "signature") or b"{}")
    assert signature["task"], "a run that was rung for without a signature costs a read"
    before, began = costs.memory(), time.monotonic()
    runs = asyncio.run(seeded(on.env["FW_REDIS_URL"], json.dumps(signature), through[0], given.parked - len(through)))
    print(f"  {len(runs)} more parked through the store in {time.monotonic() - began:.0f} s;"
          f" Redis: {(costs.memory() - before) / len(runs):.0f} bytes for each of them", flush=True)  # fmt: skip
    costs.say(f"{given.parked} are parked")
    return runs


def together(redis: Redis, client: Client, runs: list[str], slots: int) -> None:
    """Part 3."""
    now = time.time()
    pipe = redis.pipeline(transaction=False)
    for run_id in runs:
        pipe.zadd(keys.due(run_id[-1]), {run_id: int(now * 1000)})
    pipe.execute()
    journals = ended(client, runs)
    print(f"3. {len(runs)} parked runs due at one instant, {slots} slots, each at work for a second")
    say_spread("started", [at(journal, "run.resumed")[0] for journal in journals], now)
    spans = [(at(journal, "run.resumed")[0], at(journal, "run.completed")[0]) for journal in journals]
    print(f"  at most {most_at_once(spans)} at work together (slots: {slots});"
          f" lives of each after its park: {sorted({len(at(j, 'run.resumed')) for j in journals})}")  # fmt: skip


def main() -> None:
    """Print all three."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parked", type=int, default=100_000)
    parser.add_argument("--through", type=int, default=4_000)
    parser.add_argument("--wake", type=int, default=1_000)
    parser.add_argument("--slots", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, stack(Path(name), emulate=True) as parts, stand(parts) as on:
        again_at = float(int(time.time() + FIRST_S))
        on.start_emulator(Path(name), scene(given.wake, again_at))
        pid = on.start_worker("chat", concurrency=given.slots)
        url = on.env["FW_REDIS_URL"]
        with Redis.from_url(url) as redis, Client(redis_url=url) as client:
            sent_away(on, redis, client, given.wake, again_at)
            runs = waiting(on, redis, client, Costs(redis, pid), given)
            together(redis, client, runs[: given.wake], given.slots)


if __name__ == "__main__":
    main()
