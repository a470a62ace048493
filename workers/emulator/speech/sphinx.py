"""The engine `pocketsphinx`: real English speech, offline, as it arrives; the model ships in the package.

Between two silences a decoder sees the audio frame by frame and is asked every 300 ms what it believes. Words that two
beliefs in a row agree on, and that lie far enough back, settle while the speaker goes on; the rest settle at the pause.
The decoder holds the interpreter's lock for 10 to 200 ms at a time, so a thread keeps other work going, not smooth.
"""

import importlib
import threading
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from workers.emulator.speech.engine import RATE, EngineMissing, Heard, Hypothesis

_FRAME = RATE // 100  # samples per frame of the decoder
_ASK_EVERY = 10  # pieces of 30 ms
_SETTLES_AFTER = round(1.2 * RATE)
_IDLE_KEPT = 2  # decoders, about 90 MB each
_MISSING = "real speech needs the engine pocketsphinx, not installed here: pip install 'fireworks-workers[emulator]'"


class SphinxShelf:
    """Makes engines and keeps idle decoders, since loading one takes 0.3 s. Raises EngineMissing where it is made."""

    def __init__(self, package: str = "pocketsphinx") -> None:
        try:
            self._package: Any = importlib.import_module(package)
        except ImportError:
            raise EngineMissing(_MISSING) from None
        self._idle: list[Any] = []

    def engine(self) -> "SphinxEngine":
        """An engine; its decoder is loaded at its first sound."""
        return SphinxEngine(self)

    def endpointer(self) -> Any:
        """Something that tells speech from silence."""
        return self._package.Endpointer(sample_rate=RATE)

    def borrow(self) -> Any:
        """A decoder as good as new."""
        decoder = self._idle.pop() if self._idle else self._package.Decoder(samprate=RATE, loglevel="FATAL")
        # What it learned of the last voice would make the same audio sound different the second time.
        decoder.reinit_feat()
        return decoder

    def give_back(self, decoder: Any) -> None:
        """Keep it for the next engine."""
        if len(self._idle) < _IDLE_KEPT:
            self._idle.append(decoder)


class SphinxEngine:
    """Recognises one stream. Run it in a thread."""

    slow = True

    def __init__(self, shelf: SphinxShelf) -> None:
        self._shelf = shelf
        self._ears = shelf.endpointer()
        self._rest = b""
        self._utterance: _Utterance | None = None
        self._decoder: Any = None
        self._closed = False
        self._lock = threading.Lock()

    def feed(self, pcm: bytes) -> Hypothesis:
        """Hear more samples."""
        with self._lock:
            return Hypothesis() if self._closed else self._hear(pcm)

    def finish(self) -> Hypothesis:
        """Settle what was said so far."""
        with self._lock:
            if self._closed:
                return Hypothesis()
            settled = self._speech(self._ears.end_stream(self._rest or bytes(2)))  # it refuses to end on nothing
            return Hypothesis((*settled, *self._end()))

    def close(self) -> None:
        """Give the decoder back."""
        with self._lock:
            self._closed = True
            self._end()
            if self._decoder is not None:
                self._shelf.give_back(self._decoder)
                self._decoder = None

    def _hear(self, pcm: bytes) -> Hypothesis:
        size = self._ears.frame_bytes
        heard = self._rest + pcm
        whole = len(heard) - len(heard) % size
        self._rest = heard[whole:]
        settled: list[Heard] = []
        for at in range(0, whole, size):
            settled += self._speech(self._ears.process(heard[at : at + size]))
        return Hypothesis(tuple(settled), self._utterance.pending if self._utterance else ())

    def _speech(self, pcm: bytes | None) -> list[Heard]:
        """The endpointer's judgement: a piece of speech, or None in silence."""
        if pcm is None:
            return []
        if self._utterance is None:
            if self._decoder is None:
                self._decoder = self._shelf.borrow()
            self._utterance = _Utterance(self._decoder, round(self._ears.speech_start * RATE))
        settled = self._utterance.hear(pcm)
        return settled if self._ears.in_speech else [*settled, *self._end()]

    def _end(self) -> list[Heard]:
        utterance, self._utterance = self._utterance, None
        return utterance.end() if utterance else []


class _Utterance:
    """Speech between two silences, from sample `start`."""

    def __init__(self, decoder: Any, start: int) -> None:
        self._decoder = decoder
        self._start = self._settled_to = start
        self._length = 0
        self._pieces = 0
        self.pending: tuple[Heard, ...] = ()
        decoder.start_utt()

    def hear(self, pcm: bytes) -> list[Heard]:
        """Words that settle."""
        self._decoder.process_raw(pcm)
        self._length += len(pcm) // 2
        self._pieces += 1
        return [] if self._pieces % _ASK_EVERY else self._ask()

    def end(self) -> list[Heard]:
        """The words not yet settled. They come from a second, better look, which may not touch the settled ones."""
        self._decoder.end_utt()
        return list(self._words())

    def _ask(self) -> list[Heard]:
        before, now = self.pending, tuple(self._words())
        agreed = takewhile(lambda pair: pair[0].text == pair[1].text, zip(now, before, strict=False))
        oldest = self._start + self._length - _SETTLES_AFTER
        settled = list(takewhile(lambda word: word.end < oldest, (word for word, _ in agreed)))
        if settled:
            self._settled_to = settled[-1].end
        self.pending = now[len(settled) :]
        return settled

    def _words(self) -> Iterable[Heard]:
        """What the decoder believes now about the time that is not settled."""
        for part in self._decoder.seg() or ():
            start, end = self._start + part.start_frame * _FRAME, self._start + (part.end_frame + 1) * _FRAME
            # A word counts to the side on which most of it lies.
            if part.word[0] not in "<[+" and start + end >= 2 * self._settled_to:
                probability = min(1.0, max(0.0, part.prob))
                yield Heard(part.word.partition("(")[0], max(start, self._settled_to), end, round(probability, 3))
