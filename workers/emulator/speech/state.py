"""What a server remembers of speech: counts, open connections, which faults were used up. Resettable."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class SpeechStats:
    """Counts since the start or the last reset.

    `connections` were upgraded, `open` of them are up now, `refused` were not upgraded. `words` were settled by an
    engine, `damaged` of them are the token of `tones` for what it could not read. `files` were transcribed whole.
    """

    connections: int = 0
    open: int = 0
    refused: int = 0
    audio_samples: int = 0
    words: int = 0
    damaged: int = 0
    updates: int = 0
    checkpoints: int = 0
    files: int = 0

    def reset(self) -> None:
        """Start again; what is open stays open."""
        vars(self).update(vars(SpeechStats(open=self.open)))

    def as_json(self) -> dict[str, int]:
        """The counts as served; audio in milliseconds."""
        counts = dict(vars(self))
        return counts | {"audio_ms": counts.pop("audio_samples") // 16}


@dataclass
class Uses:
    """How often each fault was used."""

    _counts: Counter[Hashable] = field(default_factory=Counter)

    def take(self, key: Hashable, times: int | None) -> bool:
        """Use it once more; False if it is used up."""
        if times is not None and self._counts[key] >= times:
            return False
        self._counts[key] += 1
        return True

    def clear(self) -> None:
        """Forget."""
        self._counts.clear()
