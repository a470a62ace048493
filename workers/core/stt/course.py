"""Where the samples of a connection's own clock lie on the session's timeline. Pure.

An object of its own, so that what a connection has said (`segments`) finds places without holding the connection:
what hold each other are freed by the collector alone, minutes later, and the audio of their session with them.
"""

from bisect import bisect_right
from dataclasses import dataclass

from api_contracts.stt import SAMPLE_RATE


@dataclass(slots=True)
class _Stretch:
    """From sample `server` of its clock on, the connection hears the timeline from `at` up to `until`; then silence."""

    server: int
    at: int
    until: int | None = None


class Course:
    """Grows by jumps; all positions are samples. `sent` is how far its clock has come: nothing lies later."""

    __slots__ = ("_stretches", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self._stretches: list[_Stretch] = []

    def __len__(self) -> int:
        """How many jumps are held."""
        return len(self._stretches)

    def place_s(self, seconds: float) -> int:
        """Return where a time of its clock lies on the timeline, in samples; nothing lies after what was sent."""
        return self.place(min(round(seconds * SAMPLE_RATE), self.sent))

    def place(self, server: int) -> int:
        """Return where a sample of its clock lies on the timeline."""
        if not self._stretches:
            return 0
        stretch = self._stretches[-1]
        if server < stretch.server:
            stretch = self._stretches[max(0, bisect_right(self._stretches, server, key=_server) - 1)]
        placed = stretch.at + max(0, server - stretch.server)
        return placed if stretch.until is None else min(placed, stretch.until)

    def jump(self, server: int, at: int, until: int | None) -> None:
        """From `server` on hear the timeline from `at`. `until`: where it was, as far as anything was heard."""
        if self._stretches and until is not None:
            self._stretches[-1].until = until
        self._stretches.append(_Stretch(server, at))

    def stay(self, at: int) -> None:
        """What was just sent is silence of ours: the timeline goes on at `at`, where it was. All such silence is one
        jump."""
        if len(self._stretches) > 1 and self._stretches[-1].at == at:
            self._stretches[-1].server = self.sent
        else:
            self.jump(self.sent, at, at)

    def forget(self, sample: int) -> None:
        """Let go of what is only needed for places before this sample."""
        while len(self._stretches) > 1 and self._stretches[1].at <= sample:
            del self._stretches[0]


def _server(stretch: _Stretch) -> int:
    return stretch.server
