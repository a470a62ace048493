"""What a batch came to, row by row in the order in which they were answered: fixed records in a file.

Records hold running totals, so that the counts of any prefix are one read, and a job of any length costs no memory.
"""

import struct
from collections.abc import Iterator
from operator import add
from pathlib import Path
from typing import BinaryIO, NamedTuple

_RECORD = struct.Struct("<8Q?")


class Totals(NamedTuple):
    """Counts of one row, or over the first rows. Bytes are the lengths of what just these rows put into the files."""

    output_bytes: int = 0
    error_bytes: int = 0
    succeeded: int = 0
    failed: int = 0
    lines: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class Ledger:
    """The records of one job."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("w+b")
        self._last = Totals()

    def add(self, row: Totals) -> None:
        """One more row."""
        self._last = Totals(*map(add, self._last, row))
        self._file.write(_RECORD.pack(*self._last, row.succeeded > 0))

    def flush(self) -> None:
        """Make what was added readable."""
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """No more will be added."""
        self._file.close()

    def totals(self, rows: int) -> Totals:
        """The totals after so many rows, which must have been flushed."""
        if rows == 0:
            return Totals()
        with self._path.open("rb") as file:
            file.seek((rows - 1) * _RECORD.size)
            return Totals(*_RECORD.unpack(file.read(_RECORD.size))[:-1])

    def successes(self, rows: int) -> Iterator[bool]:
        """Whether each of the first rows succeeded."""
        with self._path.open("rb") as file:
            for _ in range(rows):
                yield _RECORD.unpack(file.read(_RECORD.size))[-1]
