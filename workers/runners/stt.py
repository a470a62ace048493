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

_TRY_AGAIN_S = 0.5


class Reading:
    """Posts the entries of a stream from the one after `after` on, and what is missing between them."""

    def __init__(self, after: str, post: Post) -> None:
        self._last = after
        self._post = post
        self._entries = 0
        self._bytes = 0

    def take(self, entry: AudioEntry) -> None:
        """Post an entry; before it, that others are gone."""
        pcm = entry.pcm
        if pcm:
            self._entries, self._bytes = self._entries + 1, self._bytes + len(pcm)
        if entry.missed != 0:
            passed = 0 if self._last == "0" else _samples_between(self._last, entry.id)
            self._post(AudioMissing(passed, len(pcm or b""), self._size_of(entry.missed)))
        self._last = entry.id
        self._post(ControlArrived(entry.id, entry.control) if pcm is None else AudioArrived(entry.id, pcm))

    def _size_of(self, entries: int | None) -> int | None:
        """Return how many bytes so many entries had: as many each as those that were read. None: nobody knows."""
        return entries * self._bytes // self._entries if entries and self._entries else None


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

    def perform(self, effect: Effect, post: Post) -> None:
        """See `Performer`."""
        match effect:
            case SendAudio(conn, frame):
                self._send(conn, frame)
            case SendText(conn, message):
                self._send(conn, json.dumps(dict(message), ensure_ascii=False, separators=(",", ":")))
            case Connect():
                for conn in [conn for conn, line in self._lines.items() if line.is_lost]:
                    self._hang_up(conn)
                self._lines[effect.conn] = Line(effect, self._speech, self._chance, post)
            case Disconnect(conn):
                self._hang_up(conn)
            case ReadAudio(after):
                self._unwatch = self._audio.watch(self._run_id, after, Reading(after, post).take)
            case TrimAudio(before):
                self._begin(self._trim(before), post)
            case HoldAudio(full):
                self._begin(self._hold(full), post)
            case _:
                raise TypeError(f"a session has no effect {type(effect).__name__}")

    async def close(self) -> None:
        """See `Performer`."""
        if self._unwatch:
            self._unwatch()
            self._unwatch = None  # it leads to whoever is posted to, who has this performer
        for conn in list(self._lines):
            self._hang_up(conn)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._closing, return_exceptions=True)

    def _send(self, conn: int, message: bytes | str) -> None:
        """Send, but not to a connection that was lost and hung up: it has said so, and is not heard yet."""
        if (line := self._lines.get(conn)) is not None:
            line.send(message)

    def _hang_up(self, conn: int) -> None:
        if (line := self._lines.pop(conn, None)) is None:
            return
        if (ending := line.stop()) is not None:
            self._closing.add(ending)
            ending.add_done_callback(self._closing.discard)

    def _begin(self, work: Coroutine[Any, Any, None], post: Post) -> None:
        task = asyncio.create_task(work, name=f"{self._run_id}:audio")
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and isinstance(exc := task.exception(), Exception):
                post(exc)

        task.add_done_callback(ended)

    async def _hold(self, full: bool) -> None:
        """Tried until it is done, one after the other: the last word counts."""
        async with self._holding:
            while True:
                try:
                    await self._audio.hold(self._run_id, full)
                except KeysDamaged:
                    return  # without its lease the run has no clients to tell
                except StoreUnavailable:
                    await self._clock.sleep_until(self._clock.now() + _TRY_AGAIN_S)
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
