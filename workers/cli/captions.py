"""What a session's events look like to a person: finals, the interim that is being rewritten, asides.

`captions_of` and `fitted` are pure. `Screen` owns the two outputs: finals on standard output, all else beside it.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from api_contracts import stt
from api_contracts.runs import EventData, RunResumed
from api_contracts.stt import SttResult, SttWord


@dataclass(frozen=True, slots=True)
class Final:
    """A line that never changes."""

    text: str


@dataclass(frozen=True, slots=True)
class Interim:
    """What stands in the place of the interim before it; empty when nothing does. All other captions void it, too."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Aside:
    """Something about the session, not of it."""

    text: str


Caption = Final | Interim | Aside


def captions_of(event: EventData | None) -> Iterator[Caption]:
    """Yield what there is to show of an event; of most, nothing."""
    match event:
        case stt.SttFinal(text=text):
            yield Final(printable(text))
        case stt.SttInterim(text=text):
            yield Interim(printable(text))
        case stt.SttRetracted():
            yield Interim()
        case RunResumed():
            yield Aside("another worker took the session over")
        case _:
            yield from _troubles_of(event)


def _troubles_of(event: EventData | None) -> Iterator[Caption]:
    match event:
        case stt.SttLost(code=code, reason=reason):
            yield Aside(f"the connection was lost{_why(code, reason)}")
        case stt.SttReconnecting(wait_s=wait_s, failures=failures, code=code, reason=reason):
            why = _why(code, reason)
            yield Aside(f"connecting again in {wait_s:.1f} s (try {failures + 1} in a row){why}" if failures else
                        f"connecting again{why}")  # fmt: skip
        case stt.SttConnected(conn=conn, start_at=start_at) if conn > 1:
            yield Aside(f"connected; what follows {start_at / stt.SAMPLE_RATE:.1f} s is sent again")
        case stt.SttGap(start=start, end=end, cause=cause):
            yield Aside(f"no transcript from {start:.1f} to {end:.1f} s ({cause})")
        case stt.SttTrouble(kind=kind, message=message):
            yield Aside(f"{kind}: {printable(message)}")
        case _:
            pass


def _why(code: int | None, reason: str) -> str:
    told = " ".join(part for part in ("" if code is None else str(code), printable(reason)) if part)
    return f": {told}" if told else ""


def printable(text: str) -> str:
    """Return the text on one line, without what would steer a terminal."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def fitted(text: str, cells: int) -> str:
    """Return the end of the text, so that it fills at most so many cells of a terminal's line."""
    if cell_len(text) <= cells:
        return text
    while text and cell_len(text) >= cells:
        text = text[1:]
    return f"…{text}" if cells > 0 else ""


def summary_of(result: SttResult) -> str:
    """Return the one line of the end."""
    connections = "1 connection" if result.connections == 1 else f"{result.connections} connections"
    ended = "" if result.ended_by == "end" or result.status != "completed" else f" (ended by {result.ended_by})"
    coverage = result.coverage
    return (
        f"run {result.run_id}: {result.status}{ended}, {coverage.audio_s:.1f} s of audio, "
        f"coverage {coverage.share:.1%}, {connections}"
    )


def table_of(words: list[SttWord]) -> Table:
    """Return times and probability of each word."""
    table = Table("start", "end", "probability", "word", box=None, pad_edge=False)
    for word in words:
        probability = "" if word.probability is None else f"{word.probability:.2f}"
        table.add_row(f"{word.start:.2f}", f"{word.end:.2f}", probability, Text(printable(word.word)))
    return table


class Screen:
    """Shows captions. Safe to use from several threads; raises BrokenPipeError when nobody reads the finals.

    Interims are rewritten in place on a terminal. Elsewhere they are left out, or with `interims` a line each.
    """

    def __init__(self, out: IO[str], console: Console, *, interims: bool = False) -> None:
        self._out = out
        self._console = console
        self._in_place = console.is_terminal and not console.is_dumb_terminal
        self._interims = interims
        self._shown = ""
        self._lock = threading.Lock()

    def show(self, caption: Caption) -> None:
        """Show one caption."""
        with self._lock:
            match caption:
                case Final(text):
                    self._clear()
                    print(text, file=self._out, flush=True)
                case Interim(text) if self._in_place:
                    self._rewrite(text)
                case Interim(text) if text and self._interims:
                    self._say(text, "dim")
                case Aside(text):
                    self._clear()
                    self._say(text, "dim")

    def error(self, text: str) -> None:
        """Say what went wrong."""
        with self._lock:
            self._clear()
            self._say(text, "red")

    def table(self, table: Table) -> None:
        """Show a table among the finals."""
        with self._lock:
            self._clear()
            Console(file=self._out, highlight=False).print(table, markup=False)

    def _rewrite(self, text: str) -> None:
        text = fitted(text, self._console.width - 1)
        if text != self._shown:
            self._clear()
            self._console.print(text, style="dim", markup=False, end="")
            self._console.file.flush()
            self._shown = text

    def _clear(self) -> None:
        if self._shown:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
            self._shown = ""

    def _say(self, text: str, style: str) -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)
