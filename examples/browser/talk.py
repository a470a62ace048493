"""A session and the tab that speaks in it. It outlives a line that breaks; a tab that was closed ends it.

Up:   PCM16 in binary frames; the words `flush` and `end`.
Down: {"type": "ready", "at": the byte from which on to send}, {"type": "taken", "at": how many are in Redis},
      {"type": "held"} while the session takes no more, and the run's events: {"seq": ..., "type": ..., "data": ...}.
A page may be WINDOW bytes ahead of what is taken, so a full stream holds the browser. One that lost its line asks for
/live?run=ID&rate=HZ&at=BYTES&after=SEQ: what it was told last.
"""

import asyncio
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMsgType, web
from redis.exceptions import RedisError

from api_contracts.client import AsyncSession
from api_contracts.failure import AudioRefused, RunNotFound

WINDOW = 1024 * 1024
WORDS = {"flush", "end"}
MISSED_S, AGAIN_S, LAST_S = 90, 0.5, 5  # a session that hears nothing for 60 s ends by itself (`idle_timeout_s`)


class Talk:
    """`at` bytes came from the page, `taken` of them are in Redis."""

    def __init__(self, session: AsyncSession, at: int, over: Callable[[], object]) -> None:
        self.session, self.at, self.taken = session, at, at
        self._line: web.WebSocketResponse | None = None
        self._waiting: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._writing = asyncio.create_task(self._write())
        self._writing.add_done_callback(lambda _: over())

    async def serve(self, line: web.WebSocketResponse, after: int) -> None:
        """Until the line is closed, and for as long as a page that lost it may come back."""
        self._line = line  # from here on nothing is taken from the line before
        await self._say(type="ready", at=self.at)
        telling = asyncio.create_task(self._tell(line, after))
        try:
            has_left = await self._hear(line)
        finally:
            telling.cancel()
        if not has_left:
            await asyncio.wait({self._writing}, timeout=MISSED_S)
        if self._line is line:
            self._waiting.put_nowait("end")

    async def close(self) -> None:
        """End the session: the gateway stops. What Redis does not take any more ends by the session's idle limit."""
        self._waiting.put_nowait("end")
        await asyncio.wait({self._writing}, timeout=LAST_S)
        self._writing.cancel()
        if self._line:
            await self._line.close(code=WSCloseCode.GOING_AWAY)

    async def _hear(self, line: web.WebSocketResponse) -> bool:
        """Return whether the page hung up, as a browser does when a tab is closed; else the line broke, or we did."""
        while not line.closed:
            message = await line.receive()
            if message.type is WSMsgType.CLOSE:
                return True
            if self._line is not line or self.at - self.taken > WINDOW:
                await line.close(code=WSCloseCode.POLICY_VIOLATION)
            elif message.type is WSMsgType.BINARY:
                self.at += len(message.data)
                self._waiting.put_nowait(message.data)
            elif message.data in WORDS:
                self._waiting.put_nowait(message.data)
        return False

    async def _tell(self, line: web.WebSocketResponse, after: int) -> None:
        code = WSCloseCode.TRY_AGAIN_LATER
        try:
            async for event in self.session.follow(after):
                await line.send_json({"seq": event.seq, "type": event.type, "data": event.data})
            self._waiting.put_nowait("end")  # of the run, so of this
            code = WSCloseCode.OK
        except ConnectionError:  # the line broke: `_hear` knows
            pass
        finally:
            await line.close(code=code)

    async def _write(self) -> None:
        said: bytes | str = b""
        while said != "end" and await self._is_written(said := await self._waiting.get()):
            if isinstance(said, bytes):
                self.taken += len(said)
                await self._say(type="taken", at=self.taken)

    async def _is_written(self, said: bytes | str) -> bool:
        """Append it, however long that takes; false when the session is over."""
        while True:
            try:
                if isinstance(said, bytes):
                    return await self.session.send_audio(said)
                return await (self.session.end() if said == "end" else self.session.flush())
            except AudioRefused as refused:
                said = said[refused.sent :]
            except RunNotFound:
                return False
            except RedisError:  # Redis is away. What it may have taken is said twice: better than not at all
                pass
            await self._say(type="held")
            await asyncio.sleep(AGAIN_S)

    async def _say(self, **what: str | int) -> None:
        try:
            if self._line:
                await self._line.send_json(what)
        except ConnectionError:  # the line just broke: `serve` hears of it
            pass
