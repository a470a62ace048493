"""P8: time to the first delta at a follower, beyond the provider's own.

In turns: a chat through the service, from before `submit` to the first `chat.delta` that a follower reads; and the
barest client on the same stream, from before its request to the first piece of text. Goal: p50 10 ms more.
Run: .venv/bin/python -m benchmarks.p8_first_delta [--quick]
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from api_contracts.client import AsyncClient
from benchmarks.cpu import spread
from benchmarks.stand import stand
from workers.cli.stack import stack

MODEL = "accounts/fireworks/models/emulated-classic"
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me."}], "max_tokens": 20}
SCENE = {"rules": [{"when": {}, "reply": {"text": "word " * 40}, "pace": 20}]}
_WITHIN_S = 60.0


async def through_s(client: AsyncClient) -> float:
    """Return the seconds until a follower of a run reads its first text; the run then goes on to its end."""
    began, first = time.perf_counter(), 0.0
    run_id = await client.chat.submit(BODY)
    async for event in client.follow(run_id, timeout_s=_WITHIN_S):
        if event.type == "chat.delta" and not first:
            first = time.perf_counter() - began
    return first


async def bare_s(session: aiohttp.ClientSession, url: str) -> float:
    """Return the seconds until the first text of the stream."""
    began, first, rest = time.perf_counter(), 0.0, b""
    async with session.post(url, json=BODY | {"stream": True}) as response:
        async for data in response.content.iter_any():
            *whole, rest = (rest + data).split(b"\n\n")
            for event in whole:
                text = event[6:] != b"[DONE]" and orjson.loads(event[6:])["choices"][0]["delta"].get("content")
                if text and not first:
                    first = time.perf_counter() - began
    return first


async def measure(env: dict[str, str], rounds: int, count: int) -> list[float]:
    """Return the difference of the medians of each round, in seconds."""
    url, headers, found = f"{env['FIREWORKS_BASE_URL']}/chat/completions", {"Authorization": "Bearer fw_bench"}, []
    async with (
        AsyncClient(redis_url=env["FW_REDIS_URL"]) as client,
        aiohttp.ClientSession(headers=headers) as session,
    ):
        for turn in range(rounds + 1):
            pairs = [(await through_s(client), await bare_s(session, url)) for _ in range(count)]
            through, bare = (statistics.median(each) for each in zip(*pairs, strict=True))
            if turn:  # the first warms up
                found.append(through - bare)
                print(f"  round {turn}: follower {through * 1e3:.1f} ms, provider {bare * 1e3:.1f} ms", flush=True)
    return found


def main() -> None:
    """Print the difference."""
    rounds, count = (1, 10) if "--quick" in sys.argv else (5, 30)
    with tempfile.TemporaryDirectory() as name, stack(Path(name), emulate=True) as parts, stand(parts) as on:
        on.start_emulator(Path(name), SCENE)
        on.start_worker("chat", concurrency=8)
        found = asyncio.run(measure(on.env, rounds, count))
    print(f"P8 = {spread(found, ' ms', 1e3)} beyond the provider's, p50 (goal <= 10 ms)")


if __name__ == "__main__":
    main()
