"""Lines of JSONL from chunks of bytes, as they come. Knows nothing of what a line holds."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

LONGEST: Final = 16 * 1024 * 1024
"""Bytes of a line. A request's images alone may have 10 MB (WIRE 1.3)."""

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank. `data` is None when it was longer than the bound; `number` counts from 1, blank lines
    included, so that an editor finds it."""

    number: int
    data: bytes | None


class LineReader:
    """Cuts chunks of any size into lines; holds at most one line of `longest` bytes, and the chunk at hand.

    Takes LF and CRLF, a byte order mark at the start, and a last line without an end.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._number = 0
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Line]:
        """Return the lines that end in this chunk."""
        pieces = chunk.split(b"\n")
        lines = []
        for piece in pieces[:-1]:
            self._hold(piece)
            if (line := self._end()) is not None:
                lines.append(line)
        self._hold(pieces[-1])
        return lines

    def close(self) -> list[Line]:
        """Return the last line, if the input did not end with the end of a line."""
        line = self._end() if self._size else None
        return [] if line is None else [line]

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._longest + 1:  # a CR may follow
            self._held.append(piece)
        else:
            self._held.clear()

    def _end(self) -> Line | None:
        data, size = b"".join(self._held), self._size
        self._held.clear()
        self._size = 0
        self._number += 1
        if size > self._longest + 1:
            return Line(self._number, None)
        if self._number == 1:
            data = data.removeprefix(_BOM)
        data = data.removesuffix(b"\r")
        if not data or data.isspace():
            return None
        return Line(self._number, data if len(data) <= self._longest else None)


def lines_of(rows: Iterable[Any]) -> Iterator[Line]:
    """Return rows that came inside a request as the lines of a file, numbered from 1."""
    for number, row in enumerate(rows, 1):
        yield Line(number, json.dumps(row, separators=(",", ":")).encode())
