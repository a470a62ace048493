"""The tools of MCP servers, through the official SDK: one connection for each server, kept up; calls share it.

What a call's death means is decided here by the tool's effect, as a worker's crash is by the core: a call whose
connection was lost is made again on the next one if it is pure, idempotent or keyed (under the same key, in `_meta`),
until its deadline, which is the caller's to keep. One that is at most once is settled as `outcome_unknown`; before such
a call the line is tried. A call that could not be sent yet waits for the server, whatever its effect.
"""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import structlog
from mcp import Client, MCPError, StdioServerParameters, Tool, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import CONNECTION_CLOSED, CallToolResult, TextContent

from workers.adapters.tools.mcp_config import KEY, McpServer
from workers.core.chat.cards import ToolCard
from workers.ports import ToolOutcome, ToolsAway

_log = structlog.get_logger(__name__)

_FAILED: Final = "The tool failed."
_MOST_BYTES: Final = 64 * 1024
_MOST_PAGES: Final = 100
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0


@dataclass(frozen=True, slots=True)
class _Offered:
    card: ToolCard
    name: str
    """As the server calls it."""


@dataclass
class _Line:
    """A connection. `lost` is set as soon as anybody knows."""

    client: Client
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class McpTools:
    """The tools of one server. `start` it on the loop that calls them; `close` ends its process or session."""

    def __init__(self, name: str, config: McpServer) -> None:
        self.name = name
        self._config = config
        self._offered: dict[str, _Offered] = {}
        self._line: _Line | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._keeper = asyncio.create_task(self._keep(), name=f"mcp:{self.name}")

    async def connected(self, within_s: float) -> bool:
        """Wait for the first listing, no longer than this; return whether the tools are known."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._up.wait(), within_s)
        return bool(self._offered) or self._up.is_set()

    async def close(self) -> None:
        """Let the server go."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    @property
    def names(self) -> list[str]:
        """Its tools, as a request names them; none while they are not known."""
        return sorted(self._offered)

    def card(self, name: str) -> ToolCard | None:
        """Return the tool's card, None if this is not one of its tools. Raises ToolsAway while that is not known."""
        if not self.has(name):
            return None
        if not self._offered and not self._up.is_set():
            raise ToolsAway(f"the MCP server {self.name}")
        found = self._offered.get(name)
        return found.card if found else None

    def has(self, name: str) -> bool:
        """Return whether this is, or was, the name of one of its tools."""
        return name.startswith(f"{self.name}_")

    async def run(self, name: str, arguments: Mapping[str, Any], *, key: str) -> ToolOutcome:
        """See `ToolBox`."""
        offered = self._offered.get(name)
        if offered is None:
            return ToolOutcome(ok=False, content=_FAILED, detail=f"the MCP server {self.name} no longer has {name}")
        while True:
            line = await self._connection()
            if offered.card.effect == "at_most_once" and not await self._answers(line):
                continue
            try:
                said = await line.client.call_tool(offered.name, dict(arguments), meta=cast("Any", {KEY: key}))
            except MCPError as exc:
                if not _is_loss(exc, line):
                    return _failed(exc)
                lost: Exception = exc
            except (OSError, EOFError) as exc:
                lost = exc
            except Exception as exc:  # noqa: BLE001 - an answer that is none of the protocol's; the run goes on
                return _failed(exc)
            else:
                return _outcome(said)
            line.lost.set()
            if offered.card.effect == "at_most_once":
                detail = f"the MCP server {self.name} was lost during the call: {type(lost).__name__}"
                return ToolOutcome(ok=False, content=_FAILED, detail=detail, code="outcome_unknown")
            _log.warning("mcp.call_again", server=self.name, tool=name, error=type(lost).__name__)

    async def _answers(self, line: _Line) -> bool:
        """Ask the server for anything: one that died while nobody called it is found out before it matters."""
        try:
            await line.client.list_tools(cache_mode="bypass")
        except Exception as exc:  # noqa: BLE001 - whatever the line raises, nothing was called yet
            if not isinstance(exc, MCPError) or _is_loss(exc, line):
                line.lost.set()
                return False
        return True

    async def _connection(self) -> _Line:
        """Wait until there is one that nobody has found dead."""
        while True:
            await self._up.wait()
            if self._line and not self._line.lost.is_set():
                return self._line
            self._up.clear()

    async def _keep(self) -> None:
        """Connect, list, and wait for the loss; again and again."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                async with self._connect() as line:
                    self._offered = await self._listed(line.client)
                    _log.info("mcp.connected", server=self.name, tools=len(self._offered))
                    self._line, pause = line, _FIRST_PAUSE_S
                    self._up.set()
                    await line.lost.wait()
            except Exception as exc:  # noqa: BLE001 - a program of somebody else's, started or called
                _log.warning("mcp.not_connected", server=self.name, error=type(_first(exc)).__name__)
            finally:
                self._up.clear()
                self._line = None
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[_Line]:
        lost = asyncio.Event()
        async with self._streams() as (read, write), Client(_Told(read, write, lost)) as client:
            yield _Line(client, lost)

    @asynccontextmanager
    async def _streams(self) -> AsyncIterator[Any]:
        config = self._config
        if config.command:
            program, *arguments = config.command
            env = {name: os.environ[name] for name in config.inherit}
            async with stdio_client(StdioServerParameters(command=program, args=arguments, env=env)) as streams:
                yield streams
            return
        headers = {header: os.environ[name] for header, name in config.headers.items()}
        async with (
            create_mcp_http_client(headers=headers) as http,
            streamable_http_client(config.url or "", http_client=http) as streams,
        ):
            yield streams

    async def _listed(self, client: Client) -> dict[str, _Offered]:
        found: dict[str, _Offered] = {}
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            for each in page.tools:
                if self._config.tools is None or each.name in self._config.tools:
                    card = self._card(each)
                    found[card.name] = _Offered(card, each.name)
            if (cursor := page.next_cursor) is None:
                break
        return found

    def _card(self, each: Tool) -> ToolCard:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{self.name}_{each.name}")[:64]  # WIRE 1.4
        effect = self._config.effects.get(each.name, self._config.effect)
        return ToolCard(name, (each.description or "")[:8192], each.input_schema, effect, self._config.timeout_s)


class _Told:
    """A transport of the SDK that says at once when its peer has gone, also when nobody is asking it anything."""

    def __init__(self, read: Any, write: Any, lost: asyncio.Event) -> None:
        self._read = read
        self._write = write
        self._lost = lost

    async def __aenter__(self) -> Any:
        """Return the streams."""
        return self, self._write

    async def __aexit__(self, *_: object) -> None:
        """The transport inside is closed by who opened it."""

    async def receive(self) -> Any:
        """Return the next message; tell of the end."""
        try:
            return await self._read.receive()
        except BaseException:
            self._lost.set()
            raise

    def __aiter__(self) -> "_Told":
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._read.__anext__()
        except BaseException:
            self._lost.set()
            raise

    async def aclose(self) -> None:
        """Close."""
        await self._read.aclose()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._read, name)


def _is_loss(exc: MCPError, line: _Line) -> bool:
    return exc.code == CONNECTION_CLOSED or line.lost.is_set()


def _first(exc: BaseException) -> BaseException:
    """Return what is inside groups of one."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def _failed(exc: Exception) -> ToolOutcome:
    return ToolOutcome(ok=False, content=_FAILED, detail=f"{type(exc).__name__}: {exc}"[:2000])


def _outcome(said: CallToolResult) -> ToolOutcome:
    """What the server's answer is for the model. The text of an error is written for it, too (MCP, "isError")."""
    content = _text(said)
    size = len(content.encode("utf-8", "surrogatepass"))
    if size > _MOST_BYTES:
        return ToolOutcome(ok=False, content="The tool's result is too large.", detail=f"{size} bytes")
    if said.is_error:
        return ToolOutcome(ok=False, content=content or _FAILED, detail=content[:2000])
    return ToolOutcome(ok=True, content=content)


def _text(said: CallToolResult) -> str:
    texts = [block.text if isinstance(block, TextContent) else f"[{block.type}]" for block in said.content]
    if not texts and said.structured_content is not None:
        return json.dumps(said.structured_content, ensure_ascii=False)
    return "\n".join(texts)
