"""A provider that answers over real sockets by the script of a test, and short ways to ask it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from api_contracts.failure import Failure
from tests.unit.adapters.fireworks.wire import chunk, sse, usage_only
from workers.adapters.fireworks.chat import FireworksChat
from workers.adapters.fireworks.deadlines import Timeouts
from workers.ports import ChatModel, ProviderFailed

KEY = "secret/key+of=no-known+form"
A, B, END = chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "stop")
ROLE = chunk({"role": "assistant", "content": ""})
BODY = {"model": "accounts/fireworks/models/m", "messages": [{"role": "user", "content": "hi"}]}
SOON = 0.15
LATER = 30.0


@dataclass
class Asked:
    """A request as it came in."""

    line: str
    headers: dict[str, str]
    body: bytes


class Line:
    """The server's end of a connection that has a request to answer."""

    def __init__(self, provider: "Provider", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.provider = provider
        self._reader = reader
        self.writer = writer

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Transfer-Encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def until_gone(self) -> None:
        """Wait until the client has closed the connection."""
        try:
            assert await self._reader.read(1) == b""
        except ConnectionError:
            pass
        self.provider.gone.set()

    async def repeat_until_gone(self, data: bytes) -> None:
        gone = asyncio.ensure_future(self.until_gone())
        while not (await asyncio.wait({gone}, timeout=SOON / 10))[0]:
            await self.send(data)

    def cut(self) -> None:
        """Reset the connection."""
        no_wait = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_wait)
        self.writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]


@dataclass
class Provider:
    """The server of a test. It answers each request by `script`; `gone` once a client left before its answer ended."""

    script: Script
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    handlers: set[asyncio.Task[Any]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if task := asyncio.current_task():
            self.handlers.add(task)
        try:
            while not writer.is_closing():
                self.asked.append(await _request(reader))
                await self.script(Line(self, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Asked:
    line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest if each)}
    return Asked(line, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@asynccontextmanager
async def provider(script: Script, **options: Any) -> AsyncIterator[tuple[FireworksChat, Provider]]:
    server = Provider(script)
    async with listening(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}/inference/v1"
        chat = FireworksChat(server.url, lambda name: {None: KEY, "team-b": "key-of-b"}[name], **options)
        try:
            yield chat, server
        finally:
            await chat.close()
            await asyncio.gather(*server.handlers)


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve each connection by `serve`; give the port."""
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


def timeouts(**given: float) -> Timeouts:
    return Timeouts(**{"connect_s": LATER, "first_token_s": LATER, "gap_s": LATER, "total_s": LATER, **given})


async def said(chat: ChatModel, body: Any = None, credential: str | None = None) -> list[dict[str, Any]]:
    stream = chat.stream(BODY if body is None else body, credential=credential, request_id="run-1/1")
    return [found async for found_together in stream for found in found_together]


async def failed(chat: ChatModel, **more: Any) -> tuple[list[dict[str, Any]], Failure]:
    """Return the chunks before the failure, and the failure."""
    chunks: list[dict[str, Any]] = []
    try:
        given = {"body": BODY, "credential": None, "request_id": "run-1/1", **more}
        async for together in chat.stream(**given):
            chunks += together
    except ProviderFailed as error:
        return chunks, error.failure
    raise AssertionError(f"no failure after {chunks}")


async def whole(line: Line) -> None:
    await line.head()
    await line.send(sse(ROLE, A, B, END, usage_only(prompt_tokens=1)))
    await line.end()


async def only_headers(line: Line) -> None:
    await line.head()
    await line.until_gone()
