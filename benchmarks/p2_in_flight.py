"""P2: memory of one worker process that has 2 000 chats in flight, each waiting on a slow provider.

Every chat has been asked and none has begun to answer when the memory is read; then all answer. Goal: 400 MB, none
failing. Beside it, the same process before the first chat.
Run: .venv/bin/python -m benchmarks.p2_in_flight [--quick]
"""

import asyncio
import json
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

from api_contracts.client import AsyncClient
from benchmarks.cpu import rss_mb
from benchmarks.stand import Stand, stand
from workers.cli.stack import stack

MODEL = "accounts/fireworks/models/emulated-classic"
MESSAGES = [{"role": "user", "content": "Think about it."}]
SILENT_S = 300
"""From a request to its first token: longer than it takes to have all of them ask, also on a busy machine."""
LONG = {"FW_PROVIDER_FIRST_TOKEN_S": "600", "FW_PROVIDER_TOTAL_S": "900"}
_WITHIN_S, _LOOK_S, _AT_ONCE = 600.0, 0.5, 100


def waiting(on: Stand) -> int:
    """Return how many requests the stand-in has in hand."""
    url = on.env["FIREWORKS_BASE_URL"].removesuffix("/inference/v1")
    with urllib.request.urlopen(f"{url}/_emulator/stats", timeout=30) as answer:
        return int(json.load(answer)["active"])


async def submitted(client: AsyncClient, count: int) -> list[str]:
    """Enqueue; return the ids."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one() -> str:
        async with gate:
            return await client.chat.submit(model=MODEL, messages=MESSAGES, max_tokens=20)

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def statuses(client: AsyncClient, runs: list[str]) -> Counter[str]:
    """Wait for every run; return how they ended."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(run_id: str) -> str:
        async with gate:
            return str((await client.chat.result(run_id, timeout_s=_WITHIN_S)).status)

    return Counter(await asyncio.gather(*(one(run_id) for run_id in runs)))


async def measure(on: Stand, pid: int, count: int) -> tuple[float, Counter[str]]:
    """Return the memory with all in flight, in MB, and how they ended."""
    async with AsyncClient(redis_url=on.env["FW_REDIS_URL"], lost_message_s=_WITHIN_S) as client:
        began = time.monotonic()
        runs = await submitted(client, count)
        while (active := await asyncio.to_thread(waiting, on)) < count:
            if time.monotonic() - began > SILENT_S:
                raise RuntimeError(f"only {active} of {count} chats were asked within {SILENT_S} s")
            await asyncio.sleep(_LOOK_S)
        print(f"  {active} chats in flight after {time.monotonic() - began:.1f} s", flush=True)
        full = rss_mb(pid)
        return full, await statuses(client, runs)


def main() -> None:
    """Print the memory."""
    count = 200 if "--quick" in sys.argv else 2000
    scene = {"rules": [{"when": {}, "reply": {"text": "well " * 10}, "faults": [f"slow_first_token={SILENT_S}"]}]}
    with tempfile.TemporaryDirectory() as name, stack(Path(name), emulate=True) as parts, stand(parts, **LONG) as on:
        on.start_emulator(Path(name), scene)
        pid = on.start_worker("chat", concurrency=count)
        empty = rss_mb(pid)
        full, ended = asyncio.run(measure(on, pid, count))
    print(f"P2 = {full:.0f} MB with {count} chats in flight ({empty:.0f} MB before), goal <= 400 MB for 2000")
    print(f"ended: {dict(ended)}; {count - ended['completed']} failed (goal: none)")


if __name__ == "__main__":
    main()
