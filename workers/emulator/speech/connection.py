"""A conversation on its socket: reads frames, performs acts, keeps slow engines off the event loop. Knows no wire."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from aiohttp import WSMsgType, web

from workers.emulator.speech.conversation import Act, Close, Conversation, Hang, Send

_CLOSE_TIMEOUT_S = 1.0  # for the client's half of the closing handshake


def open_socket(heartbeat_s: float | None) -> web.WebSocketResponse:
    """The server's end of a connection, not prepared yet."""
    return web.WebSocketResponse(timeout=_CLOSE_TIMEOUT_S, heartbeat=heartbeat_s)


class Connection:
    """Plays one conversation until either side ends it."""

    def __init__(self, socket: web.WebSocketResponse, conversation: Conversation, threads: Executor) -> None:
        self._socket = socket
        self._conversation = conversation
        self._threads = threads
        self._later: set[asyncio.Task[None]] = set()

    async def play(self, transport: asyncio.Transport | None) -> None:
        """Read and answer. `transport` is what a fault cuts."""
        try:
            acts: list[Act] | None = self._conversation.open()
            while acts is not None and await self._perform(acts, transport):
                acts = await self._answer()
        except ConnectionError:
            pass  # the client has gone; there is nobody to tell
        finally:
            for task in self._later:
                task.cancel()
            await asyncio.gather(*self._later, return_exceptions=True)
            if self._conversation.slow:
                self._threads.submit(self._conversation.close)
            else:
                self._conversation.close()

    async def _answer(self) -> list[Act] | None:
        """What follows from the client's next message, or from its silence; None once it has gone."""
        try:
            message = await self._socket.receive(timeout=self._conversation.patience_s)
        except TimeoutError:
            return self._conversation.idle()
        match message.type:
            case WSMsgType.BINARY:
                return await self._heard(lambda: self._conversation.audio(message.data))
            case WSMsgType.TEXT:
                return await self._heard(lambda: self._conversation.text(message.data))
            case _:
                return None

    async def _heard(self, take: Callable[[], list[Act]]) -> list[Act]:
        if self._conversation.slow:
            return await asyncio.get_running_loop().run_in_executor(self._threads, take)
        return take()

    async def _perform(self, acts: list[Act], transport: asyncio.Transport | None) -> bool:
        """False if the connection is over."""
        for act in acts:
            match act:
                case Hang(how="up"):
                    if transport is not None:
                        transport.close()
                    return False
                case Hang():
                    await asyncio.Event().wait()
                case Send() | Close() if act.after_s:
                    task = asyncio.create_task(self._perform_later(act))
                    self._later.add(task)
                    task.add_done_callback(self._later.discard)
                case Send():
                    await self._socket.send_str(act.text)
                case Close():
                    await self._socket.close(code=act.code)
                    return False
        return True

    async def _perform_later(self, act: Send | Close) -> None:
        await asyncio.sleep(act.after_s)
        try:
            if isinstance(act, Send):
                await self._socket.send_str(act.text)
            else:
                await self._socket.close(code=act.code)
        except ConnectionError:
            pass  # the client did not wait
