"""Lanes: how soon an interactive chat starts while background runs wait, and what it costs that they wait.

The backlog is real: every background run is submitted through the client, a message each. With `--hold` nobody serves
the background queue for so long, and what the sweepers do meanwhile is counted. Goal: started within 1 s, always.
Run: .venv/bin/python -m benchmarks.lanes [--backlog 50000] [--hold 600] [--broker amqp://...] (an empty virtual host)
"""

import argparse
import asyncio
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from celery import Celery
from redis import Redis

from api_contracts.client import Client
from api_contracts.names import queue_of
from benchmarks.cpu import cpu_s, rss_mb
from benchmarks.stand import Stand, stand
from workers.adapters.redis.connection import connect
from workers.adapters.redis.queues import RedisQueues
from workers.cli.stack import stack

MODEL = "accounts/fireworks/models/emulated-classic"
MESSAGES = [{"role": "user", "content": "Tell me everything, please."}]
BACKGROUND = queue_of("chat", "background")
FILLERS, EVERY_S, LOOK_S = 2, 0.1, 60.0


def fill(redis_url: str, broker_url: str, count: int) -> None:
    """Submit so many background chats, as a producer does."""
    with Client(redis_url=redis_url, broker_url=broker_url) as client:
        for _ in range(count):
            client.chat.submit(model=MODEL, messages=MESSAGES, lane="background", max_tokens=20)


def lying(broker_url: str) -> int:
    """Return how many messages lie in the background queue."""
    with Celery(broker=broker_url, set_as_current=False) as app, app.connection_for_read() as connection:
        return int(connection.default_channel.queue_declare(BACKGROUND, passive=True).message_count)


def waiting(redis_url: str) -> tuple[int, float]:
    """Return how many runs wait for a background worker, and the milliseconds that it takes to ask."""

    async def ask() -> tuple[int, float]:
        async with connect(redis_url) as redis:
            await RedisQueues(redis).waiting()
            began = time.perf_counter()
            found = await RedisQueues(redis).waiting()
            return found[BACKGROUND].runs, (time.perf_counter() - began) * 1e3

    return asyncio.run(ask())


def build_up(on: Stand, redis: Redis, backlog: int) -> None:
    """Submit the backlog, and say what it cost."""
    urls = on.env["FW_REDIS_URL"], on.env["FW_BROKER_URL"]
    before, began = redis.info("memory")["used_memory"], time.perf_counter()
    with ProcessPoolExecutor(FILLERS) as pool:
        list(pool.map(fill, [urls[0]] * FILLERS, [urls[1]] * FILLERS, [backlog // FILLERS] * FILLERS))
    took = time.perf_counter() - began
    runs, ask_ms = waiting(urls[0])
    per_run = (redis.info("memory")["used_memory"] - before) / backlog
    print(f"  {backlog} submitted in {took:.0f} s by {FILLERS} producers: {backlog / took:.0f}/s")
    print(f"  {runs} runs wait, {lying(urls[1])} messages lie in the queue, asked in {ask_ms:.1f} ms")
    print(f"  Redis: {per_run:.0f} bytes per waiting run{', its message included' if urls[0] == urls[1] else ''}")


def hold(on: Stand, redis: Redis, pids: list[int], hold_s: float) -> None:
    """Let the backlog wait; say once a minute what was sent again."""
    began, first = time.monotonic(), lying(on.env["FW_BROKER_URL"])
    cpu, server = sum(map(cpu_s, pids)), redis.info("cpu")["used_cpu_user"] + redis.info("cpu")["used_cpu_sys"]
    print("  waited  messages  sent again  CPU of workers  CPU of Redis")
    while (gone := time.monotonic() - began) < hold_s:
        time.sleep(min(LOOK_S, hold_s - gone))
        now, info = lying(on.env["FW_BROKER_URL"]), redis.info("cpu")
        spent = info["used_cpu_user"] + info["used_cpu_sys"] - server
        print(f"  {time.monotonic() - began:4.0f} s {now:10} {now - first:11} {sum(map(cpu_s, pids)) - cpu:13.1f} s"
              f" {spent:11.1f} s", flush=True)  # fmt: skip


def interactive(on: Stand, count: int) -> list[float]:
    """Return the seconds from each submit to `run.started`, on Redis' clock, sorted."""
    waits = []
    with Client(redis_url=on.env["FW_REDIS_URL"], broker_url=on.env["FW_BROKER_URL"]) as client:
        for _ in range(count):
            run_id = client.chat.submit(model=MODEL, messages=MESSAGES, max_tokens=20)
            events = list(client.follow(run_id, timeout_s=120))
            started = next(event.at for event in events if event.type == "run.started")
            waits.append((started - events[0].at) / 1000)
            time.sleep(EVERY_S)
    return sorted(waits)


def measure(on: Stand, given: argparse.Namespace, folder: Path) -> None:
    """Print the figures."""
    on.env.setdefault("FW_BROKER_URL", on.env["FW_REDIS_URL"])
    redis = Redis.from_url(on.env["FW_REDIS_URL"])
    on.start_emulator(folder, {"rules": [{"when": {}, "reply": {"text": "word " * 40}, "pace": 20}]})
    pids = [on.start_worker(name, concurrency=20) for name in ("chat", "control")]
    build_up(on, redis, given.backlog)
    if given.hold:
        hold(on, redis, pids, given.hold)
    on.start_worker("chat.bg", concurrency=20)
    waits = interactive(on, given.chats)
    left, _ = waiting(on.env["FW_REDIS_URL"])
    at = {share: waits[min(len(waits) - 1, int(share * len(waits)))] * 1e3 for share in (0.5, 0.95, 0.99)}
    print(f"  {len(waits)} interactive chats, {left} background runs still wait after the last")
    print("  submit to run.started: " + ", ".join(f"p{share * 100:g} {ms:.0f} ms" for share, ms in at.items()) +
          f", worst {waits[-1] * 1e3:.0f} ms (goal <= 1000)")  # fmt: skip
    print("  RSS of the workers: " + ", ".join(f"{rss_mb(pid):.0f} MB" for pid in pids))
    redis.close()


def main() -> None:
    """Measure on one broker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backlog", type=int, default=50_000)
    parser.add_argument("--chats", type=int, default=100)
    parser.add_argument("--hold", type=float, default=0.0, help="seconds that nobody serves the background queue")
    parser.add_argument("--broker", default="", help="another broker than the embedded Redis")
    given = parser.parse_args()
    env = dict(os.environ) | ({"FW_BROKER_URL": given.broker} if given.broker else {})
    print(f"lanes on {'RabbitMQ' if given.broker.startswith('amqp') else 'Redis'}")
    with tempfile.TemporaryDirectory() as name, stack(Path(name), emulate=True, given=env) as parts, stand(parts) as on:
        measure(on, given, Path(name))


if __name__ == "__main__":
    main()
