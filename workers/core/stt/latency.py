"""How late a session is: its audio, its finals, its provider's echoes (STT-20). Pure.

All three begin with a time that somebody else wrote down: an entry's id is the time of its write on Redis' clock, and
`now` is read from the same one; a probe is timed from the frame that it follows.
"""

from typing import Final

from api_contracts.stt import SttLatency
from workers.core.stt.timeline import order_of

MOST_S: Final = 86_400.0
"""An id from longer ago is none that the server gave: a producer made it up."""


def ago(entry_id: str, now: float) -> float | None:
    """Return how many seconds ago an entry was written; None for an id that no server can have given."""
    passed = now - order_of(entry_id)[0] / 1000
    if passed >= MOST_S:
        return None
    return max(0.0, passed)  # clocks of a server that took over differ by a little


class Latency:
    """The worst of each since it was told last."""

    __slots__ = ("_audio", "_final", "_trace")

    def __init__(self) -> None:
        self._audio = self._final = self._trace = -1.0

    def arrived(self, entry_id: str, now: float) -> None:
        """Take an entry of audio that comes to the session."""
        if (passed := ago(entry_id, now)) is not None and passed > self._audio:
            self._audio = passed

    def final(self, entry_id: str | None, now: float) -> float | None:
        """Take a final whose last sound is in this entry; return how long it took, if anybody can say."""
        passed = None if entry_id is None else ago(entry_id, now)
        if passed is None:
            return None
        self._final = max(self._final, passed)
        return round(passed, 3)

    def echoed(self, sent_at: float, now: float) -> None:
        """Take the echo of a probe."""
        self._trace = max(self._trace, now - sent_at)

    def take(self) -> SttLatency | None:
        """Return what there is to tell, and begin anew."""
        told = SttLatency(audio_s=_known(self._audio), final_s=_known(self._final), trace_s=_known(self._trace))
        self._audio = self._final = self._trace = -1.0
        return None if told == SttLatency() else told


def _known(worst: float) -> float | None:
    return round(worst, 3) if worst >= 0 else None
