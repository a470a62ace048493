"""The input of a batch on its way into SQL: checked, cut into shards, counted. No IO; the performer moves the rows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from api_contracts.batch import BatchRequest, RowSample
from api_contracts.batch_rows import RowFault
from workers.core.batch import ids
from workers.core.batch.acts import RowsRead
from workers.core.batch.cutter import Cutter
from workers.core.batch.harvest import most_frequent
from workers.core.batch.lines import Line
from workers.core.batch.rows import BadRow, Row, RowReader, line_of
from workers.ports import NewRow

_MOST_SAMPLES: Final = 20
_SLICE_ROWS: Final = 100
_SLICE_BYTES: Final = 250_000
_TAKEN = RowFault(code="duplicate_custom_id", message="a row before this one has the same custom id")


class Intake:
    """Takes lines, gives rows to keep, and hears which of them were taken already."""

    def __init__(self, request: BatchRequest) -> None:
        self._reader = RowReader(request.extra_fields)
        self._cutter = Cutter(request.shard_rows, request.shard_bytes)
        self._made: set[int] = set()
        self._rows = 0
        self._reasons: Counter[str] = Counter()
        self._samples: list[RowSample] = []

    def take(self, lines: Iterable[Line]) -> list[NewRow]:
        """Return the lines as rows: those that fit have a shard, the others a fault."""
        return [self._placed(self._reader.read(line)) for line in lines]

    def taken(self, rows: Sequence[NewRow]) -> list[NewRow]:
        """Return what becomes of rows whose custom id is another's: ids that we made are made anew, once."""
        return [self._again(row) for row in rows]

    def kept(self) -> None:
        """Hear that all rows so far are where they belong: which ids we made need not be known any more."""
        self._made.clear()

    def done(self) -> RowsRead:
        """Return how it all adds up."""
        plan = self._cutter.plan()
        return RowsRead(
            self._rows, self._reasons.total(), sum(each.bytes for each in plan), plan, most_frequent(self._reasons),
            self._samples,
        )  # fmt: skip

    def _placed(self, row: Row | BadRow) -> NewRow:
        self._rows += 1
        if isinstance(row, BadRow):
            return self._set_aside(row.number, row.custom_id, RowFault(code=row.code, message=row.message))
        if row.made:
            self._made.add(row.number)
        return self._in_a_shard(row.number, row.custom_id, row.body)

    def _again(self, row: NewRow) -> NewRow:
        self._cutter.take_back(row.shard, row.size)
        if row.number in self._made and row.custom_id is not None:
            self._made.discard(row.number)
            return self._in_a_shard(row.number, ids.made_again(row.custom_id, row.number), row.body)
        return self._set_aside(row.number, row.custom_id, _TAKEN)

    def _in_a_shard(self, number: int, custom_id: str, body: bytes) -> NewRow:
        size = len(line_of(custom_id, body))
        return NewRow(number, custom_id, self._cutter.place(size), size, body)

    def _set_aside(self, number: int, custom_id: str | None, fault: RowFault) -> NewRow:
        self._reasons[fault.code] += 1
        if len(self._samples) < _MOST_SAMPLES:
            self._samples.append(RowSample(number=number, custom_id=custom_id, code=fault.code, message=fault.message))
        return NewRow(number, custom_id, fault=fault)


def slices(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Yield the lines a few at a time: what is checked or read without a pause holds up every run of the process.

    A row costs 15 to 40 us, and 1 to 2 us for each of its kilobytes [X]: a slice is some milliseconds.
    """
    piece: list[Line] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line.data or b"")
        if len(piece) >= _SLICE_ROWS or size >= _SLICE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
