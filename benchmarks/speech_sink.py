"""P4's provider: takes frames, stamps their arrival, and answers each voice with what the emulator would say.

What it answers is worked out before it listens: hearing 200 sessions would take it half a core, and its delay would be
measured with ours. `python -m benchmarks.speech_sink SECONDS` says its port; each line on its standard input is
answered with the delays of the frames since the line before, and how many connections are open, as JSON.
"""

import asyncio
import json
import struct
import sys
import time
from array import array
from urllib.parse import parse_qs, urlsplit

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.speech_voices import CHUNK_BYTES, VOICES, answers

_STAMP = struct.Struct("<d")


class Sink:
    """All connections. A frame's delay is its arrival less the stamp of the chunk that completes it."""

    def __init__(self, seconds: float) -> None:
        self._answers = {f"voice-{voice}": answers(voice, seconds) for voice in range(VOICES)}
        self._delays = array("d")
        self._open = 0

    async def converse(self, socket: ServerConnection) -> None:
        """Serve one connection."""
        assert socket.request is not None
        (prompt,) = parse_qs(urlsplit(socket.request.path).query)["prompt"]
        self._open += 1
        try:
            await self._listen(socket, self._answers[prompt])
        except ConnectionClosed:
            pass  # a session that is cut is found out by its result
        finally:
            self._open -= 1

    async def _listen(self, socket: ServerConnection, script: list[list[str]]) -> None:
        frames = 0
        async for message in socket:
            came = time.time()
            if isinstance(message, str):
                await self._control(socket, json.loads(message))
                continue
            if len(message) == 2 * CHUNK_BYTES:
                self._delays.append(came - _STAMP.unpack_from(message, CHUNK_BYTES)[0])
            for text in script[frames] if frames < len(script) else ():
                await socket.send(text)
            frames += 1

    async def _control(self, socket: ServerConnection, said: dict[str, str]) -> None:
        if "trace_id" in said:
            said = {"object": "stt.output.trace", "trace_id": said["trace_id"]}
        await socket.send(json.dumps(said))

    def report(self) -> None:
        """Tell, and begin anew."""
        print(json.dumps({"delays": list(self._delays), "open": self._open}), flush=True)
        self._delays = array("d")


async def main(seconds: float) -> None:
    """Serve until standard input ends."""
    sink = Sink(seconds)
    async with serve(sink.converse, "127.0.0.1", 0, compression=None, max_queue=256) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            sink.report()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1])))
