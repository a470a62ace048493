"""`SpeechService` without a network: the test is the provider, and no time passes.

speech = MemorySpeech(SpeechLost("busy", code=429))     # the first try is refused, the others open
line = await speech.opened.get()
assert await line.heard.get() == frame
line.say('{"segments": []}')
line.drop(1011)
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.adapters.memory.model import Hold
from workers.ports import SpeechLost


@dataclass(frozen=True, slots=True)
class Dialled:
    """One try to connect, as the provider got it."""

    query: list[tuple[str, str]]
    credential: str | None


class MemoryLine:
    """One connection, both ends of it. The port's methods are the client's; the others are the provider's.

    `sent` is all that it got, `heard` the same one by one, `gone` set once the client has closed.
    """

    def __init__(self, dialled: Dialled, answer: "Answer | None" = None) -> None:
        self.dialled = dialled
        self.sent: list[bytes | str] = []
        self.heard: asyncio.Queue[bytes | str] = asyncio.Queue()
        self.gone = asyncio.Event()
        self._answer = answer
        self._said: deque[bytes | str] = deque()
        self._stalled = False
        self._dropped: tuple[int | None, str] | None = None
        self._take: Callable[[bytes | str], None] | None = None
        self._news = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether neither side has ended it."""
        return self._dropped is None and not self.gone.is_set()

    # -- the client's end ------------------------------------------------------------------------------------------

    def offer(self, message: bytes | str) -> bool:
        """See the port."""
        if self._stalled or not self.is_open:
            return False
        self._get(message)
        return True

    def hand_to(self, take: Callable[[bytes | str], None]) -> None:
        """See the port."""
        self._take = take

    async def send(self, message: bytes | str) -> None:
        """See the port. Waits while the provider is stalled."""
        while self._stalled and self.is_open:
            await self._change()
        self._check()
        self._get(message)

    def _get(self, message: bytes | str) -> None:
        self.sent.append(message)
        self.heard.put_nowait(message)
        if self._answer is not None:
            self._answer(self, message)

    async def receive(self) -> bytes | str:
        """See the port. What was said before the end comes first."""
        while self.gone.is_set() or not self._said:
            self._check()
            await self._change()
        return self._said.popleft()

    async def close(self) -> None:
        """See the port."""
        self._take = None
        self.gone.set()
        self._news.set()

    # -- the provider's end ----------------------------------------------------------------------------------------

    def say(self, *messages: bytes | str) -> None:
        """Send messages to the client."""
        if self._take is None or self._said or not self.is_open:
            self._said.extend(messages)
            self._news.set()
            return
        for message in messages:
            self._take(message)

    def drop(self, code: int | None = None, reason: str = "dropped by the script") -> None:
        """End the connection: by a close frame with this code, or without one."""
        self._dropped = self._dropped or (code, reason)
        self._news.set()

    def stall(self) -> None:
        """Take nothing more: the client's next `send` waits."""
        self._stalled = True

    def resume(self) -> None:
        """Take what comes again."""
        self._stalled = False
        self._news.set()

    # --------------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.gone.is_set():
            raise SpeechLost("closed by this side")
        if self._dropped is not None:
            code, reason = self._dropped
            raise SpeechLost(reason, code=code)

    async def _change(self) -> None:
        self._news.clear()
        await self._news.wait()


Answer = Callable[[MemoryLine, bytes | str], None]
"""What the provider does at each message that it gets, such as `line.say(...)`."""


class MemorySpeech:
    """Does with each try what the script says: refuse it, or hold it until `go` and then open it. Past it all open.

    `dialled` is every try so far, `lines` every connection that opened, `opened` the same one by one.
    """

    def __init__(self, *tries: SpeechLost | Hold, answer: Answer | None = None) -> None:
        self._script = deque(tries)
        self._answer = answer
        self.dialled: list[Dialled] = []
        self.lines: list[MemoryLine] = []
        self.opened: asyncio.Queue[MemoryLine] = asyncio.Queue()

    @property
    def open(self) -> int:
        """How many connections neither side has ended."""
        return sum(line.is_open for line in self.lines)

    def add(self, *tries: SpeechLost | Hold) -> None:
        """Continue the script."""
        self._script.extend(tries)

    async def connect(self, query: Sequence[tuple[str, str]], *, credential: str | None) -> MemoryLine:
        """See the port."""
        dialled = Dialled(list(query), credential)
        self.dialled.append(dialled)
        step = self._script.popleft() if self._script else None
        if isinstance(step, SpeechLost):
            raise step
        if step is not None:
            step.reached.set()
            await step.go.wait()
        line = MemoryLine(dialled, self._answer)
        self.lines.append(line)
        self.opened.put_nowait(line)
        return line
