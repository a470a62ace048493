"""A control plane and its storage that answer over real sockets by the script of a test."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from api_contracts.failure import Failure
from tests.contract.scripted_provider import listening
from tests.waiting import eventually_async
from workers.adapters.fireworks.batch import FireworksBatch
from workers.adapters.fireworks.control_plane import BatchTimeouts
from workers.ports import ProviderFailed

KEY = "secret/key+of=no-known+form"
KEYS = {None: KEY, "team-b": "key-of-b"}
ACCOUNT = "/v1/accounts/acct"
FILES = {"filenameToSignedUrls": {"dataset/d/BIJOutputSet.jsonl": "@/storage/out?X-Goog-Signature=a%2Fb%2B&e=%20+"}}
NO_ACCESS = b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>GOOG4 top-secret</StringToSign></Error>"
BOTH_WAYS = pytest.mark.parametrize("signed", [False, True], ids=["direct", "signed"])
SOON = 0.15
LATER = 30.0


class Exchange:
    """A request whose head has come, and the way to answer it. The body is read when `body` is awaited."""

    def __init__(
        self, server: "Server", head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        line, *rest = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = line.split(" ")
        self.headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest if each)}
        self.sent = b""
        self.reader = reader
        self.writer = writer

    async def body(self) -> bytes:
        self.sent = await self.reader.readexactly(int(self.headers.get("content-length", 0)))
        return self.sent

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int, **headers: Any) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        await self.raw("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def answer(self, status: int = 200, body: bytes = b"", **headers: Any) -> None:
        """Answer with a body of known length."""
        await self.head(status, **{"Content_Length": len(body), **headers})
        await self.raw(body)

    async def json(self, value: Any, status: int = 200, **headers: Any) -> None:
        """Answer with JSON; an `@` in it is this server's URL."""
        text = json.dumps(value).replace("@", self.server.url)
        await self.answer(status, text.encode(), Content_Type="application/json", **headers)

    async def until_gone(self) -> None:
        """Wait until the client has closed the connection, whatever it still sends."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass
        self.server.gone.set()


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class Server:
    """The server of a test. It answers each request by `script`; `gone` once a client has hung up."""

    script: Script
    asked: list[Exchange] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    handlers: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def calls(self) -> list[str]:
        """What was asked, in short: `POST datasets`, `GET storage/out`."""
        paths = [(each.method, each.target.partition("?")[0]) for each in self.asked]
        return [f"{method} {path.removeprefix(ACCOUNT).removeprefix('/')}" for method, path in paths]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if task := asyncio.current_task():
            self.handlers.add(task)
        try:
            while not writer.is_closing():
                exchange = Exchange(self, await reader.readuntil(b"\r\n\r\n"), reader, writer)
                self.asked.append(exchange)
                await self.script(exchange)
                if len(exchange.sent) < int(exchange.headers.get("content-length", 0)) and not writer.is_closing():
                    await exchange.body()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()  # on a busy machine a deadline may pass before the request is here
        finally:
            writer.close()


@asynccontextmanager
async def plane(
    script: Script, account: str = "acct", **timeouts: float
) -> AsyncIterator[tuple[FireworksBatch, Server]]:
    """Serve by the script; give the service, whose deadlines are far away unless they are named, and the server."""
    server = Server(script)
    far = {"connect_s": LATER, "call_s": LATER, "gap_s": LATER, "answer_s": LATER, "refusal_s": LATER, "pause_s": 0.001}
    async with listening(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}"
        batch = FireworksBatch(server.url, account, KEYS.__getitem__, timeouts=BatchTimeouts(**{**far, **timeouts}))
        try:
            yield batch, server
        finally:
            await batch.close()
            await asyncio.wait_for(asyncio.gather(*server.handlers), LATER)


def always(value: Any, status: int = 200, **headers: Any) -> Script:
    """Answer everything with this JSON."""

    async def script(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.json(value, status, **headers)

    return script


def by_call(**scripts: Script) -> Script:
    """Answer by method and verb or kind: `post_upload`, `get_datasets`, `put_storage`; by method alone; else 404."""

    async def script(exchange: Exchange) -> None:
        path = exchange.target.partition("?")[0].removeprefix(ACCOUNT).removeprefix("/")
        method, verb = exchange.method.lower(), path.partition(":")[2] or path.partition("/")[0]
        answer = scripts.get(f"{method}_{verb}") or scripts.get(method)
        await (answer or always({"code": 5, "message": "resource not found"}, 404))(exchange)

    return script


def stored(*answers: Script) -> Script:
    """A dataset `d` with one file. Each GET of it is answered by the next script, the last one serves all others."""
    left = list(answers)

    async def file(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return by_call(get_getDownloadEndpoint=always(FILES), get_storage=file)


class Rows:
    """An upload's rows, in chunks; `closed` once they were let go. `wait` holds them back before the last chunk."""

    def __init__(self, *chunks: bytes, wait: asyncio.Event | None = None) -> None:
        self.chunks = chunks or (b'{"custom_id": "1"}\n', b'{"custom_id": "2"}')
        self.size = sum(map(len, self.chunks))
        self.wait = wait
        self.closed = False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for number, chunk in enumerate(self.chunks):
                if self.wait is not None and number == len(self.chunks) - 1:
                    await self.wait.wait()
                yield chunk
        finally:
            self.closed = True


async def upload(batch: FireworksBatch, rows: Rows | None = None, *, signed: bool = False) -> None:
    rows = rows or Rows()
    await batch.upload("in-1", rows, rows.size, signed=signed, credential=None)


async def download(batch: FireworksBatch) -> bytes:
    """Return the one file of dataset `d`."""
    async with asyncio.timeout(LATER):
        [data] = [b"".join([chunk async for chunk in file.chunks]) async for file in batch.files("d", credential=None)]
    return data


async def failed(step: Awaitable[Any]) -> Failure:
    """Return how a call fails."""
    with pytest.raises(ProviderFailed) as caught:
        await asyncio.wait_for(asyncio.ensure_future(step), LATER)
    return caught.value.failure


async def rest(seconds: float) -> None:
    """Let time pass."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def rested() -> bool:
        return loop.time() > until

    await eventually_async(rested)


def warnings_in(log: Any) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]
