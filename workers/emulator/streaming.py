"""Playing a stream at its pace, event by event, without buffering. Knows no HTTP: it is given somewhere to write."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from workers.emulator.sse import Chunk, Frame, Hangup, Pause, Raw, encode

_BREATH = 16  # at full speed, events between two turns given to other connections
SPLIT_GAP_S = 0.002  # between the parts of a split event, so that they do not arrive as one


class Clock(Protocol):
    """Time as the player sees it, in seconds."""

    def now(self) -> float:
        """A time that only grows."""

    async def sleep(self, seconds: float | None) -> None:
        """Let time pass; None is until cancelled."""


class LoopClock:
    """The event loop's time."""

    def now(self) -> float:
        """The loop's own."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float | None) -> None:
        """A sleep, or a wait without end."""
        if seconds is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(seconds)


class Player:
    """Plays frames into `write`.

    `sent` is told of tokens as they leave; `cut` splits an encoded event into writes, `gap_s` seconds apart.
    """

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        cut: Callable[[bytes], list[bytes]],
        sent: Callable[[int], None],
        clock: Clock,
        gap_s: float = SPLIT_GAP_S,
    ) -> None:
        self._write = write
        self._cut = cut
        self._sent = sent
        self._clock = clock
        self._gap_s = gap_s

    async def play(self, frames: Iterable[Frame], pace: float) -> bool:
        """Token n is due n / pace seconds after the start; pace 0 is as fast as possible.

        False if a fault closes the connection. Raises ConnectionError or CancelledError when the client has gone.
        """
        due = self._clock.now()
        for position, frame in enumerate(frames):
            match frame:
                case Pause():
                    await self._clock.sleep(frame.seconds)
                    due += frame.seconds or 0.0
                case Hangup():
                    return False
                case Chunk() if frame.tokens and pace:
                    due += frame.tokens / pace
                    # Late tokens do not push back the next ones: the pace is that of the stream, not of the gaps.
                    await self._clock.sleep(max(0.0, due - self._clock.now()))
                    await self._emit(frame)
                case Chunk() | Raw():
                    if position % _BREATH == 0:
                        await self._clock.sleep(0)
                    await self._emit(frame)
        return True

    async def _emit(self, frame: Chunk | Raw) -> None:
        for number, part in enumerate(self._cut(encode(frame))):
            if number:
                await self._clock.sleep(self._gap_s)
            await self._write(part)
        self._sent(frame.tokens if isinstance(frame, Chunk) else 0)
