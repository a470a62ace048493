"""The engine `auto`: waits for the first sounds, then hands the stream to `tones` or to an engine for real speech."""

from workers.emulator.speech.engine import RATE, Engine, EngineMaker, Hypothesis
from workers.emulator.speech.tone_decoder import ToneEngine, first_loud
from workers.emulator.speech.tone_detector import sounds_like_tones
from workers.emulator.speech.tones import WORD, from_pcm

_FIRST_SOUNDS = 2 * WORD  # bytes; a stretch of `tones` this long holds a whole symbol, wherever it begins
_CONTEXT = RATE  # bytes, half a second: what an engine for speech wants before the first sound


class AutoEngine:
    """Decides 235 ms after the first loud sample; the engine chosen hears all that came since shortly before it."""

    def __init__(self, speech: EngineMaker) -> None:
        self._speech = speech
        self._chosen: Engine | None = None
        self._is_speech = False
        self._kept = bytearray()
        self._dropped = 0  # bytes of silence before what is kept
        self._loud_from: int | None = None  # in what is kept

    @property
    def slow(self) -> bool:
        """Once speech is recognised as such, the next call loads the engine for it."""
        return self._is_speech

    def feed(self, pcm: bytes) -> Hypothesis:
        """Hear more samples."""
        if self._chosen is not None:
            return self._placed(self._chosen.feed(pcm))
        self._keep(pcm)
        if self._is_speech:
            return self._choose(self._speech())
        if self._loud_from is None or len(self._kept) < self._loud_from + _FIRST_SOUNDS:
            return Hypothesis()
        if sounds_like_tones(from_pcm(bytes(self._kept[self._loud_from :]))):
            return self._choose(ToneEngine())
        self._is_speech = True
        return Hypothesis()

    def finish(self) -> Hypothesis:
        """Settle everything; what was too short to judge is heard as tones."""
        first = Hypothesis()
        if self._chosen is None:
            first = self._choose(self._speech() if self._is_speech else ToneEngine())
        chosen = self._chosen
        return Hypothesis(first.settled + (self._placed(chosen.finish()).settled if chosen else ()))

    def close(self) -> None:
        """Close the engine that was chosen."""
        if self._chosen is not None:
            self._chosen.close()

    def _keep(self, pcm: bytes) -> None:
        if self._loud_from is None:
            found = first_loud(from_pcm(pcm), 0)
            if found is not None:
                self._loud_from = len(self._kept) + 2 * found
            else:
                too_old = max(0, len(self._kept) - _CONTEXT)
                del self._kept[:too_old]
                self._dropped += too_old
        self._kept += pcm

    def _choose(self, engine: Engine) -> Hypothesis:
        self._chosen = engine
        kept, self._kept = bytes(self._kept), bytearray()
        return self._placed(engine.feed(kept))

    def _placed(self, hypothesis: Hypothesis) -> Hypothesis:
        return hypothesis.shifted(self._dropped // 2)
