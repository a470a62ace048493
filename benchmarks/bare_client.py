"""The barest client that reads the same stream: aiohttp, own split, orjson. Prints its CPU seconds per chat."""

import asyncio
import sys
import time

import aiohttp
import orjson
import uvloop


async def read_one(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    """Read one stream; return the number of its chunks with text."""
    pieces = 0
    rest = b""
    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
        async for data in response.content.iter_any():
            *whole, rest = (rest + data).split(b"\n\n")
            for event in whole:
                payload = event[6:]
                if payload == b"[DONE]":
                    continue
                choices = orjson.loads(payload)["choices"]
                pieces += bool(choices and choices[0]["delta"].get("content"))
    return pieces


async def main(url: str, body: bytes, chats: int, at_once: int) -> None:
    """Read `chats` streams, `at_once` at a time."""
    gate = asyncio.Semaphore(at_once)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer fw_bench"}, connector=connector) as session:

        async def one() -> int:
            async with gate:
                return await read_one(session, url, body)

        began = time.process_time()
        pieces = await asyncio.gather(*(one() for _ in range(chats)))
        took = time.process_time() - began
    print(orjson.dumps({"cpu_s": took / chats, "pieces": sum(pieces) / chats}).decode())


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2].encode(), int(sys.argv[3]), int(sys.argv[4])))
