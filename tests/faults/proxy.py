"""The network between a client and its server, which can be made bad. It knows bytes and no protocol.

It runs on a loop and a thread of its own; whoever holds it calls from any thread.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from tests.waiting import rest_async

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: close() sends RST and forgets what was not sent."""
_PIECE = 65_536


@dataclass(eq=False)
class _Line:
    """One client and its connection to the server."""

    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    deaf: bool = False
    cut_after: int | None = None
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def reset(self) -> None:
        for end in self.ends:
            sock: socket.socket = end.get_extra_info("socket")
            with suppress(OSError):  # it is closed already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()


class FaultProxy:
    """Passes bytes both ways; each fault but `delay`, `hold` and `refuse` is done once, to the lines there are now.

    `url` is the server's with the proxy's port. `refuse`, `hold` and `delay` last until `heal`.
    """

    def __init__(self, url: str, seed: int = 0) -> None:
        self._target = urlsplit(url)
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._lines: set[_Line] = set()
        self._delay_s = (0.0, 0.0)
        self._refuses = False
        self._open = asyncio.Event()
        self._open.set()

    @property
    def url(self) -> str:
        assert self._server
        port = self._server.sockets[0].getsockname()[1]
        credentials, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))

    @property
    def lines(self) -> int:
        """How many connections pass through now."""
        return len(self._lines)

    def reset(self) -> None:
        """Hang up on everybody at once, with RST."""
        self._on_loop(lambda: [line.reset() for line in list(self._lines)])

    def half_open(self) -> None:
        """The server's side is gone, and no client is told: what they say is lost, nothing comes back."""
        self._on_loop(lambda: [self._deafen(line) for line in list(self._lines)])

    def cut(self) -> None:
        """Pass a part of what each line says next, in the middle of a word, and hang up on it then."""
        self._on_loop(lambda: [setattr(line, "cut_after", self._chance.randint(0, 200)) for line in self._lines])

    def hold(self) -> None:
        """Keep every byte, and connect nobody through, until `heal`: then all of it arrives, however late."""
        self._on_loop(self._open.clear)

    def delay(self, least_s: float, most_s: float) -> None:
        """Let each piece take its time."""
        self._on_loop(lambda: setattr(self, "_delay_s", (least_s, most_s)))

    def refuse(self) -> None:
        """Hang up on everybody, and on whoever comes."""
        self._on_loop(lambda: setattr(self, "_refuses", True))
        self.reset()

    def heal(self) -> None:
        """Be a good network from now on."""
        self._on_loop(self._heal)

    def _heal(self) -> None:
        self._delay_s = (0.0, 0.0)
        self._refuses = False
        self._open.set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._done(asyncio.start_server(self._serve, "127.0.0.1", 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        assert self._server
        self._server.close()
        self._heal()
        self._refuses = True
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for line in list(self._lines):
                line.reset()
                for task in line.tasks:
                    task.cancel()
            await asyncio.wait(others, timeout=0.1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._open.wait()
            if self._refuses:
                raise ConnectionRefusedError
            there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        line = _Line((writer, back))
        self._lines.add(line)
        line.tasks = [
            asyncio.create_task(self._pass_on(line, reader, back)),
            asyncio.create_task(self._pass_on(line, there, writer)),
        ]
        try:
            await asyncio.wait(line.tasks, return_when=asyncio.FIRST_COMPLETED)
            if line.deaf:
                await asyncio.wait(line.tasks)
        finally:
            self._lines.discard(line)
            for task in line.tasks:
                task.cancel()
            for end in line.ends:
                end.close()

    def _deafen(self, line: _Line) -> None:
        line.deaf = True
        line.ends[1].transport.abort()

    async def _pass_on(self, line: _Line, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # one of the two hung up
            while data := await source.read(_PIECE):
                await self._open.wait()
                if self._delay_s[1]:
                    await rest_async(self._chance.uniform(*self._delay_s))
                if line.deaf:
                    continue
                if line.cut_after is not None:
                    target.write(data[: min(line.cut_after, len(data) - 1)])
                    await target.drain()
                    line.reset()
                    return
                target.write(data)
                await target.drain()

    def _on_loop(self, act: Callable[[], Any]) -> None:
        async def acting() -> None:
            act()

        self._done(acting())

    def _done(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(10)
