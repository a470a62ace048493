"""P1: CPU of the worker process per chat of 200 tokens at 100 tokens/s, 50 at once.

Floor, in the same run: a Celery no-op task on the same pool plus the barest client that reads the same stream.
Goal: 1.5.
Run: .venv/bin/python -m benchmarks.p1_chat_cpu [--quick]
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from celery import Celery

from api_contracts.client import AsyncClient
from benchmarks.cpu import cpu_s, spread
from benchmarks.stand import stand
from workers.cli.stack import stack

TOKENS, PACE, AT_ONCE = 200, 100, 50
MODEL = "accounts/fireworks/models/emulated-classic"
MESSAGES = [{"role": "user", "content": "Tell me everything, please."}]
SCENE = {"rules": [{"when": {}, "reply": {"text": "word " * (2 * TOKENS)}, "pace": PACE}]}


async def chats(env: dict[str, str], count: int) -> None:
    """Run `count` chats through the service, `AT_ONCE` at a time."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncClient(redis_url=env["FW_REDIS_URL"]) as client:

        async def one() -> None:
            async with gate:
                run_id = await client.chat.submit(model=MODEL, messages=MESSAGES, max_tokens=TOKENS)
                result = await client.chat.result(run_id, timeout_s=60)
                if result.status != "completed" or result.usage.completion_tokens != TOKENS:
                    raise RuntimeError(f"a chat went wrong: {result}")

        await asyncio.gather(*(one() for _ in range(count)))


def noops(env: dict[str, str], count: int) -> None:
    """Run `count` no-op tasks and wait for them."""
    app = Celery(broker=env["FW_REDIS_URL"], backend=env["FW_REDIS_URL"], set_as_current=False)
    sent = [app.send_task("bench.noop", queue="fireworks.chat") for _ in range(count)]
    for result in sent:
        result.get(timeout=60)


def bare(env: dict[str, str], count: int) -> float:
    """Return CPU seconds per chat of the bare client."""
    body = {
        "model": MODEL, "messages": MESSAGES, "max_tokens": TOKENS, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    url = f"{env['FIREWORKS_BASE_URL']}/chat/completions"
    command = [sys.executable, "-m", "benchmarks.bare_client", url, json.dumps(body), str(count), str(AT_ONCE)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if said["pieces"] != TOKENS:
        raise RuntimeError(f"the bare client read {said['pieces']} tokens")
    return float(said["cpu_s"])


def measure(pid: int, env: dict[str, str], rounds: int, count: int) -> list[tuple[float, float, float]]:
    """Return CPU seconds per chat, no-op and bare stream, for each round, taken in turns."""
    figures = []
    for turn in range(rounds + 1):
        before = cpu_s(pid)
        asyncio.run(chats(env, count))
        between = cpu_s(pid)
        noops(env, 4 * count)
        after = cpu_s(pid)
        figure = (between - before) / count, (after - between) / (4 * count), bare(env, count)
        if turn:  # the first warms up
            figures.append(figure)
            chat, noop, stream = (f"{seconds * 1e3:.2f} ms" for seconds in figure)
            print(f"  round {turn}: chat {chat}, no-op {noop}, bare {stream}")
    return figures


def main() -> None:
    """Print the ratio."""
    rounds, count = (1, 50) if "--quick" in sys.argv else (5, 150)
    with tempfile.TemporaryDirectory() as name, stack(Path(name), emulate=True) as parts, stand(parts) as on:
        on.start_emulator(Path(name), SCENE)
        pid = on.start_worker("chat", app="benchmarks.tasks", concurrency=AT_ONCE)
        figures = measure(pid, on.env, rounds, count)
    ratios = [chat / (noop + stream) for chat, noop, stream in figures]
    print(f"chat {spread([f[0] for f in figures], ' ms', 1e3)}")
    print(f"no-op {spread([f[1] for f in figures], ' ms', 1e3)}, bare {spread([f[2] for f in figures], ' ms', 1e3)}")
    print(f"P1 = {spread(ratios)} (goal <= 1.5)")


if __name__ == "__main__":
    main()
