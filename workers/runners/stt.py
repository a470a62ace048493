"""A speech session's effects: read the audio stream, trim it, and bridge it to one connection after another."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from api_contracts.stt import SAMPLE_RATE
from workers.core.runs.frame import Effect
from workers.core.stt.acts import (
    AudioArrived,
    AudioMissing,
    Connect,
    ControlArrived,
    Disconnect,
    HoldAudio,
    ReadAudio,
    SendAudio,
    SendText,
    TrimAudio,
)
from workers.ports import AudioEntry, AudioStreams, Clock, KeysDamaged, SpeechService, StoreUnavailable
from workers.runners.speech_line import Line, Post

_log = structlog.get_logger(__name__)

_READ_AGAIN_S = 0.5


class SttPerformer:
    """`Performer` of a session. `chance` returns a number from 0 to 1."""

    def __init__(
        self, run_id: str, speech: SpeechService, audio: AudioStreams, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self._run_id = run_id
        self._speech = speech
        self._audio = audio
        self._clock = clock
        self._chance = chance
        self._lines: dict[int, Line] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unwatch: Callable[[], None] | None = None
        self._holding = asyncio.Lock()
        self._is_closed = False

    def perform(self, effect: Effect, post: Post) -> None:
        """See `Performer`."""
        match effect:
            case SendAudio(conn, frame):
                self._lines[conn].send(frame)
            case SendText(conn, message):
                self._lines[conn].send(json.dumps(dict(message), ensure_ascii=False, separators=(",", ":")))
            case Connect():
                for conn in [conn for conn, line in self._lines.items() if line.is_lost]:
                    self._hang_up(conn)
                self._lines[effect.conn] = Line(effect, self._speech, self._chance, post)
            case Disconnect(conn):
                self._hang_up(conn)
            case ReadAudio(after):
                self._begin(self._read(after, post), post)
            case TrimAudio(before):
                self._begin(self._trim(before), post)
            case HoldAudio(full):
                self._begin(self._hold(full), post)
            case _:
                raise TypeError(f"a session has no effect {type(effect).__name__}")

    async def close(self) -> None:
        """See `Performer`."""
        self._is_closed = True
        if self._unwatch:
            self._unwatch()
        for conn in list(self._lines):
            self._hang_up(conn)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._closing, return_exceptions=True)

    def _hang_up(self, conn: int) -> None:
        if (line := self._lines.pop(conn, None)) is None:
            return
        line.stop()
        self._closing.add(line.task)
        line.task.add_done_callback(self._closing.discard)

    def _begin(self, work: Coroutine[Any, Any, None], post: Post) -> None:
        task = asyncio.create_task(work, name=f"{self._run_id}:audio")
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and isinstance(exc := task.exception(), Exception):
                post(exc)

        task.add_done_callback(ended)

    async def _read(self, after: str, post: Post) -> None:
        """Read on after an entry. When it is gone, so may be what followed it: the first entry then tells how much."""
        is_whole = after == "0" or await self._holds(after)
        if self._is_closed:  # up to Python 3.11 a cancellation can get lost in `asyncio.wait_for`, which redis-py uses
            return

        def deliver(entry: AudioEntry) -> None:
            nonlocal is_whole
            if not is_whole:
                is_whole = True
                post(AudioMissing(_samples_between(after, entry.id), len(entry.pcm or b"")))
            pcm = entry.pcm
            post(ControlArrived(entry.id, entry.control) if pcm is None else AudioArrived(entry.id, pcm))

        self._unwatch = self._audio.watch(self._run_id, after, deliver)

    async def _holds(self, entry_id: str) -> bool:
        while True:
            try:
                return await self._audio.holds(self._run_id, entry_id)
            except KeysDamaged:
                return False  # nothing of it can be read any more
            except StoreUnavailable:
                await self._clock.sleep_until(self._clock.now() + _READ_AGAIN_S)

    async def _hold(self, full: bool) -> None:
        """Tried until it is done, one after the other: the last word counts."""
        async with self._holding:
            while True:
                try:
                    await self._audio.hold(self._run_id, full)
                except KeysDamaged:
                    return  # without its lease the run has no clients to tell
                except StoreUnavailable:
                    await self._clock.sleep_until(self._clock.now() + _READ_AGAIN_S)
                else:
                    return

    async def _trim(self, before: str) -> None:
        try:
            await self._audio.trim(self._run_id, before)
        except (StoreUnavailable, KeysDamaged) as exc:  # the next one trims this too
            _log.debug("stt.not_trimmed", run_id=self._run_id, error=str(exc))


def _samples_between(entry_id: str, later: str) -> int:
    """Return about how many samples were spoken from one entry to another, by the milliseconds in their ids.

    A live producer writes a piece when it is spoken.
    """
    passed_ms = max(0, int(later.split("-")[0]) - int(entry_id.split("-")[0]))
    return passed_ms * SAMPLE_RATE // 1000
