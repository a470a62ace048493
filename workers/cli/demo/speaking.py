"""Somebody who speaks: audio into a session in real time, or faster, from a thread of its own."""

import threading
import time

from api_contracts.client import Session
from api_contracts.stt import SAMPLE_RATE

_PIECE_S = 0.1
_PIECE = int(SAMPLE_RATE * _PIECE_S) * 2


class Speaker:
    """Speaks once, then hangs up. `speed` 1 is as a person speaks."""

    def __init__(self, session: Session, pcm: bytes, *, speed: float = 1.0) -> None:
        self._session = session
        self._pcm = pcm
        self._pause_s = _PIECE_S / speed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._speak, name="speaker", daemon=True)

    def __enter__(self) -> "Speaker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def is_speaking(self) -> bool:
        """Whether there is more to say."""
        return self._thread.is_alive()

    def _speak(self) -> None:
        due = time.monotonic()
        for start in range(0, len(self._pcm), _PIECE):
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            self._session.send_audio(self._pcm[start : start + _PIECE])
            due += self._pause_s
        self._session.end()
