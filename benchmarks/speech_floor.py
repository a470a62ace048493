"""P3's floor: the barest loop with a session's traffic, on what anybody would take: redis-py, `websockets`, uvloop.

One multiplexed XREAD for all streams, frames of 100 ms to `websockets`, each answer read as JSON, one EVALSHA for each
event that the service would publish, all that have come together in one pipeline. It keeps no state, so it loses
whatever is under way when anything fails: no lease, no inbox, no replay, no finality, no trimming, no limits.
"""

import asyncio
import json
import sys
from typing import Any

import uvloop
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

_FRAME_BYTES = 3200
_PUBLISH = "return redis.call('XADD', KEYS[1], '*', 'type', ARGV[1], 'data', ARGV[2])"


class Bare:
    """The loop. `orders`: `redis`, `url`, `keys`, `prompts`, `events` (for each message so many), `event` (JSON)."""

    def __init__(self, orders: Any) -> None:
        self.orders = orders
        self.redis = Redis.from_url(orders["redis"])
        self.reading = Redis.from_url(orders["redis"], socket_timeout=10)
        self.after: dict[bytes, bytes] = {key.encode(): b"0" for key in orders["keys"]}
        self.held = dict.fromkeys(self.after, b"")
        self.lines: dict[bytes, ClientConnection] = {}
        self.due: list[bytes] = []
        self.something = asyncio.Event()
        # As in `adapters.redis.reader`: a little comes together between two reads, 10 ms with 200 sessions.
        self.breath = min(0.01, 50e-6 * len(self.after))

    async def run(self) -> None:
        """Bridge every stream to its end."""
        publishing = asyncio.create_task(self.publish(await self.redis.script_load(_PUBLISH)))
        async with asyncio.TaskGroup() as hearing:
            for key, prompt in zip(self.after, self.orders["prompts"], strict=True):
                self.lines[key] = await self.dial(prompt)
                hearing.create_task(self.hear(key, self.lines[key]))
            print("ready", flush=True)
            await self.read()
        publishing.cancel()

    async def dial(self, prompt: str) -> ClientConnection:
        """Open a connection as the service does."""
        query = "response_format=verbose_json&text_timeout_seconds=1.0"
        query += f"&timestamp_granularities=word&timestamp_granularities=segment&prompt={prompt}"
        return await connect(
            f"{self.orders['url']}/audio/transcriptions/streaming?{query}",
            additional_headers={"Authorization": "fw_bench"}, compression=None, proxy=None, max_queue=256,
        )  # fmt: skip

    async def read(self) -> None:
        """Send whatever comes in, frame by frame."""
        live = len(self.after)
        while live:
            where: Any = self.after
            reply: Any = await self.reading.xread(where, count=100, block=1000)
            for key, entries in reply or ():
                line = self.lines[key]
                for entry, fields in entries:
                    self.after[key] = entry
                    if (pcm := fields.get(b"a")) is None:
                        live -= 1
                        await line.send('{"checkpoint_id":"final"}')
                        continue
                    held = self.held[key] + pcm
                    while len(held) >= _FRAME_BYTES:
                        await line.send(held[:_FRAME_BYTES])
                        held = held[_FRAME_BYTES:]
                    self.held[key] = held
            await asyncio.sleep(self.breath)

    async def hear(self, key: bytes, line: ClientConnection) -> None:
        """Read each answer; note the events that it is worth."""
        worth, owed = self.orders["events"], 0.0
        async for message in line:
            said = json.loads(message)
            if said.get("checkpoint_id") == "final":
                await line.close()
                return
            owed += worth
            while owed >= 1:
                owed -= 1
                self.due.append(key)
                self.something.set()

    async def publish(self, sha: str) -> None:
        """Publish all that is due in one pipeline, again and again."""
        event = self.orders["event"]
        while True:
            await self.something.wait()
            self.something.clear()
            due, self.due = self.due, []
            pipe = self.redis.pipeline(transaction=False)
            for key in due:
                pipe.evalsha(sha, 1, key + b":events", "stt.interim", event)
            await pipe.execute()


async def main() -> None:
    """Do as ordered on standard input, for ten minutes at most."""
    async with asyncio.timeout(600):
        await Bare(json.load(sys.stdin)).run()


if __name__ == "__main__":
    uvloop.run(main())
