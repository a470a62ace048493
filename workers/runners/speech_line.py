"""One connection of a speech session: what is to be said goes out in order, what is said comes in as facts.

What need not wait goes out and comes in without a task. For what must wait there are two, so that a provider that does
not read cannot keep us from hearing it, and the other way round. Whichever notices first that the connection is lost
says so, once.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import orjson
import structlog

from workers.core.stt.acts import Connect, Connected, Disconnected, Garbled, Said
from workers.ports import SpeechLine, SpeechLost, SpeechService

Post = Callable[[object], None]

_log = structlog.get_logger(__name__)


class Line:
    """The life of one connection. `chance` returns a number from 0 to 1."""

    def __init__(self, wanted: Connect, speech: SpeechService, chance: Callable[[], float], post: Post) -> None:
        self._wanted = wanted
        self._speech = speech
        self._chance = chance
        self._post = post
        self._waiting: deque[bytes | str] = deque()
        self._something = asyncio.Event()
        self._is_closing = False
        self._line: SpeechLine | None = None
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._live(), name=f"speech:{wanted.conn}")
        self._task.add_done_callback(self._ended)

    @property
    def is_lost(self) -> bool:
        """Whether it has told that it is lost, or nobody listens any more."""
        return self._post is _nobody

    def send(self, message: bytes | str) -> None:
        """Send after all before it. Never waits: a provider that takes nothing is noticed by the deadline of a send,
        and what waits here is no more than what the session holds anyway, to send it again."""
        if self._line is not None and not self._waiting and self._line.offer(message):
            return
        self._waiting.append(message)
        self._something.set()

    def stop(self) -> "asyncio.Task[None] | None":
        """Close; what it says from now on counts no more. A close that is under way is not cut short.

        Return what ends by that, None if it is over.
        """
        self._post = _nobody
        if self._task is not None and not self._is_closing:
            self._task.cancel()
        return self._task

    async def _live(self) -> None:
        try:
            line = await self._speech.connect(self._wanted.query, credential=self._wanted.credential)
        except SpeechLost as lost:
            self._lost(lost)
            return
        try:
            self._post(Connected(self._wanted.conn))
            self._line = line
            line.hand_to(self._take)
            await self._converse(line)
        finally:
            self._is_closing, self._line = True, None
            await line.close()

    async def _converse(self, line: SpeechLine) -> None:
        # No TaskGroup: up to Python 3.12 an exception that leaves one holds itself, and with it line and audio.
        both = [asyncio.create_task(self._write(line)), asyncio.create_task(self._hear(line))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            ends = await asyncio.gather(*both, return_exceptions=True)
        for end in ends:
            if isinstance(end, SpeechLost):
                self._lost(end)
            elif isinstance(end, Exception):
                raise end

    async def _write(self, line: SpeechLine) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                await line.send(self._waiting[0])
                self._waiting.popleft()  # only now: what waits keeps what follows from being offered before it

    async def _hear(self, line: SpeechLine) -> None:
        while True:
            self._take(await line.receive())

    def _take(self, message: str | bytes) -> None:
        self._post(self._fact(message))  # whoever listens by now, if anybody does

    def _fact(self, message: str | bytes) -> Said | Garbled:
        try:
            said = orjson.loads(message)
        except orjson.JSONDecodeError:
            return Garbled(self._wanted.conn, "not JSON")
        if not isinstance(said, dict):
            return Garbled(self._wanted.conn, f"a {type(said).__name__}, not an object")
        return Said(self._wanted.conn, said)

    def _lost(self, lost: SpeechLost) -> None:
        conn, chance = self._wanted.conn, self._chance()
        self._post(Disconnected(conn, lost.code, lost.reason, lost.retryable, chance, lost.retry_after_s))
        self._post = _nobody

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A defect of ours ends the run, unless nobody listens any more."""
        self._task = None  # it keeps what ended it, by whose frames it would hold this line, and that the task
        if not task.cancelled() and isinstance(exc := task.exception(), Exception):
            _log.error("speech.defect", conn=self._wanted.conn, error=repr(exc))
            self._post(exc)


def _nobody(fact: object) -> None:
    """Hear what does not count any more."""
