"""Which engine hears a stream. The one place that knows them all."""

from workers.emulator.speech.config import SpeechConfig
from workers.emulator.speech.engine import Engine
from workers.emulator.speech.listening import AutoEngine
from workers.emulator.speech.sphinx import SphinxShelf
from workers.emulator.speech.tone_decoder import ToneEngine
from workers.emulator.speech.whisper import WhisperShelf


class Engines:
    """Makes the engine of each stream."""

    def __init__(self, config: SpeechConfig) -> None:
        """Raises EngineMissing if the configured engine is not installed; `auto` finds out when it needs it."""
        self._kind = config.engine
        self._shelf = SphinxShelf() if config.engine == "pocketsphinx" else None
        self._whisper = WhisperShelf() if config.engine == "whisper" else None

    def make(self) -> Engine:
        """A fresh engine."""
        match self._kind:
            case "tones":
                return ToneEngine()
            case "pocketsphinx":
                return self._sphinx()
            case "whisper":
                return (self._whisper or WhisperShelf()).engine()
            case "auto":
                return AutoEngine(self._sphinx)

    def _sphinx(self) -> Engine:
        if self._shelf is None:
            self._shelf = SphinxShelf()
        return self._shelf.engine()
