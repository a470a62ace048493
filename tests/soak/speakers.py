"""The load: on each line one live session after another, words of chance, in real time. It knows what it said."""

import itertools
import queue
import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import cache

from redis import Redis

from api_contracts import keys
from api_contracts.client import Client
from tests.waiting import rest
from workers.emulator.speech import VOCABULARY, encode, silence

PIECE_S, PIECE = 0.1, 3200
_SLOTS = 10
"""The lines speak at ten moments of each piece: no two hundred at once."""
_PAUSE_S, _BREATH_S, _BREATH_EVERY, _TAIL_S = 0.165, 1.5, 10, 0.3
"""As people speak: about 110 words a minute, with ends of speech (benchmarks/speech_voices.py)."""
_END = {"c": '{"type":"end"}'}


@cache
def _sound(word: str) -> bytes:
    return encode([word], pause_s=_PAUSE_S)


@dataclass
class Talk:
    """One session as its producer knows it. It ends with a whole word, soon after `enough_s` of audio."""

    run_id: str
    enough_s: float
    chance: random.Random
    words: list[str] = field(default_factory=list)
    samples: int = 0
    _unsaid: bytearray = field(default_factory=bytearray)
    _closing: bool = False

    def piece(self) -> bytes:
        """Return what is said next; nothing once all is said."""
        while len(self._unsaid) < PIECE and not self._closing:
            self._go_on()
        said = bytes(self._unsaid[:PIECE])
        del self._unsaid[:PIECE]
        self.samples += len(said) // 2
        return said

    def _go_on(self) -> None:
        if self.samples / 16_000 >= self.enough_s:
            self._unsaid += silence(_TAIL_S)
            self._closing = True
            return
        word = self.chance.choice(VOCABULARY)
        self.words.append(word)
        self._unsaid += _sound(word)
        if len(self.words) % _BREATH_EVERY == 0:
            self._unsaid += silence(_BREATH_S)


class Speakers(threading.Thread):
    """So many lines, each of which has a session open until `hush`; `ended` fills with those that hung up."""

    def __init__(self, client: Client, redis_url: str, lines: int, turn_s: float, seed: int) -> None:
        super().__init__(name="speakers", daemon=True)
        self._client = client
        self._redis = Redis.from_url(redis_url, socket_timeout=30)
        self._chance = random.Random(seed)
        self._turn_s = turn_s
        self._lines: list[Talk | None] = [None] * lines
        # The first turns are of different length, so that sessions do not begin and end together for ever.
        self._first_s = [turn_s * (line + 1) / lines for line in range(lines)]
        self._to_open: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._opener = threading.Thread(target=self._open, name="opener", daemon=True)
        self._hushed = threading.Event()
        self._error: Exception | None = None
        self.ended: deque[Talk] = deque()
        self.late_s: list[float] = []

    def hush(self) -> None:
        """Have every line end with the word that it is at."""
        self._hushed.set()
        self._to_open.put(None)

    @property
    def silent(self) -> bool:
        """Whether everybody has hung up. Raises what went wrong."""
        if self._error is not None:
            raise self._error
        return not self.is_alive()

    def run(self) -> None:
        for line in range(len(self._lines)):
            self._to_open.put(line)
        self._opener.start()
        try:
            self._speak()
        except Exception as exc:  # noqa: BLE001 - the main thread raises it
            self._error = exc
        finally:
            self._to_open.put(None)
            self._opener.join()
            self._redis.close()

    def _open(self) -> None:
        """Open sessions for lines that have none, beside those who speak: it takes milliseconds."""
        try:
            while (line := self._to_open.get()) is not None and not self._hushed.is_set():
                enough_s, self._first_s[line] = self._first_s[line], self._turn_s
                run_id = self._client.stt.open().run_id
                self._lines[line] = Talk(run_id, enough_s, random.Random(self._chance.getrandbits(64)))
        except Exception as exc:  # noqa: BLE001 - the main thread raises it
            self._error = exc

    @property
    def live(self) -> int:
        """How many speak."""
        return sum(talk is not None for talk in self._lines)

    def _speak(self) -> None:
        began = time.monotonic()
        for tick in itertools.count():
            due = began + tick * PIECE_S / _SLOTS
            rest(max(0.0, due - time.monotonic()))
            self._tick(tick % _SLOTS)
            self.late_s.append(time.monotonic() - due)
            if self._hushed.is_set() and not self._opener.is_alive() and not self.live:
                return

    def _tick(self, slot: int) -> None:
        pipe, over = self._redis.pipeline(transaction=False), []
        for line in range(slot, len(self._lines), _SLOTS):
            if (talk := self._lines[line]) is None:
                continue
            if self._hushed.is_set():
                talk.enough_s = 0.0
            if said := talk.piece():
                pipe.xadd(keys.audio(talk.run_id), {"a": said})
            else:
                pipe.xadd(keys.audio(talk.run_id), _END)  # type: ignore[arg-type]
                over.append(line)
        pipe.execute()
        for line in over:
            self._hang_up(line)

    def _hang_up(self, line: int) -> None:
        talk, self._lines[line] = self._lines[line], None
        if talk is not None:
            self.ended.append(talk)
        self._to_open.put(line)
