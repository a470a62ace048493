"""A job's rows, answered ahead of its virtual time: the files that it will show, and how much of them when.

Work is done in slices, a row at a time, by whoever drives it: nothing here waits or looks at a clock of the job's. The
output is written in the order of the answers, so what a job has done at any time is the beginning of each file.
"""

import json
import shutil
import time
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from workers.emulator.batch.answers import Answered
from workers.emulator.batch.fates import Fate, Fates, Shuffle, shuffled
from workers.emulator.batch.faults import BatchFaults
from workers.emulator.batch.ledger import Ledger, Totals
from workers.emulator.batch.rows import BadRow, Input, InputFile, Row, Validation, read_row

OUTPUT_NAME, ERROR_NAME = "BIJOutputSet.jsonl", "error-data"


@dataclass(frozen=True)
class Assignment:
    """What a job wants done.

    `answer` takes a row's body, its place in the order of the answers and the number of rows. `wanted` says how many of
    so many rows are to be answered; it may grow smaller while they are.
    """

    source: Input
    faults: BatchFaults
    seed: str
    answer: Callable[[dict[str, Any], int, int], Answered]
    wanted: Callable[[int], int]
    validation: Validation
    offsets: "array[int] | None" = None  # the rows that are left of another job; None is all, after a validation


class Preparation:
    """The work on one job's rows, with a folder for what only it reads and one for what it shows.

    `total` is None until the rows are validated; `failure` is why they will not be answered.

    The files may be read up to the bytes in `ledger.totals(n)` for any n up to `answered`.
    """

    def __init__(self, assignment: Assignment, private: Path, public: Path) -> None:
        self._assignment = assignment
        self._folders = (private, public)
        self._offsets_path = private / "offsets"
        self.ledger = Ledger(private / "ledger")
        self.output, self.errors = public / OUTPUT_NAME, public / ERROR_NAME
        self.total: int | None = None
        self.failure: str | None = None
        self.answered = 0
        self._open: tuple[BinaryIO, ...] = ()
        self._work = self._all()

    def work(self, seconds: float) -> bool:
        """Go on for so many real seconds, but for one row at least. False if nothing is left to do."""
        end = time.perf_counter() + seconds
        more = any(time.perf_counter() >= end for _ in self._work)
        for file in self._open:
            file.flush()
        self.ledger.flush()
        return more

    def stop(self) -> None:
        """Give up what is not done."""
        self._work.close()
        self._close()

    def remove(self, *, keep_output: bool) -> None:
        """Give up, and remove the files."""
        self.stop()
        for folder in self._folders[: 1 if keep_output else 2]:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def input_files(self) -> Sequence[InputFile]:
        """What the rows are read from."""
        return self._assignment.source.files

    def unsettled(self, rows: int) -> "array[int]":
        """The offsets of the rows that did not succeed, of which the first `rows` of the order have been answered."""
        offsets = array("Q")
        with self._offsets_path.open("rb") as file:
            offsets.fromfile(file, self.total or 0)
        order = self._order()
        left = [order[place] for place, succeeded in enumerate(self.ledger.successes(rows)) if not succeeded]
        left += [order[place] for place in range(rows, len(offsets))]
        return array("Q", (offsets[index] for index in sorted(left)))

    def _all(self) -> Generator[None, None, None]:
        try:
            offsets = self._assignment.offsets
            if offsets is None:
                yield from self._assignment.validation.run()
                offsets = self._assignment.validation.take()
            with self._offsets_path.open("wb") as file:
                offsets.tofile(file)
            self.total = len(offsets)
            yield from self._answer_all(offsets)
        except BadRow as error:
            self.failure = str(error)
        finally:
            self._close()

    def _close(self) -> None:
        self._open = ()
        self._assignment.source.close()
        self.ledger.close()

    def _answer_all(self, offsets: "array[int]") -> Iterator[None]:
        total, order = len(offsets), self._order()
        fates = Fates(self._assignment.faults, total, self._assignment.seed)
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self._open = (output, errors)
            while self.answered < min(total, self._assignment.wanted(total)):
                index = order[self.answered]
                row = read_row(self._assignment.source.line_at(offsets[index]))
                answered = self._assignment.answer(row.body, self.answered, total)
                lines, error_line, counts = self._told(row, answered, fates.of(index, row.custom_id))
                output.write(lines)
                errors.write(error_line)
                self.ledger.add(counts._replace(output_bytes=len(lines), error_bytes=len(error_line)))
                self.answered += 1
                yield

    def _order(self) -> Shuffle:
        return shuffled(self.total or 0, f"{self._assignment.seed} order")

    def _told(self, row: Row, answered: Answered, fate: Fate) -> tuple[bytes, bytes, Totals]:
        """What goes into the two files, and what it counts for."""
        faults = self._assignment.faults
        if fate == "missing":
            return b"", b"", Totals()
        error_line = b""
        if fate in ("failed", "both") or answered.response is None:
            error = answered.error or {"message": "A fault was asked for", "code": faults.fail_code}
            error_line = dump_line({"custom_id": row.custom_id, "error": error})
        if fate == "failed" or answered.response is None:
            return b"", error_line, Totals(failed=1)
        extra = {"error": None} if faults.has("null_error") else {}
        line = dump_line({"custom_id": row.custom_id, "response": answered.response, **extra})
        if fate == "corrupt":
            line = line[: len(line) // 2] + b"\n"
        counts = Totals(
            succeeded=1,
            lines=2 if fate == "doubled" else 1,
            input_tokens=answered.input_tokens,
            output_tokens=answered.output_tokens,
            cached_tokens=answered.cached_tokens,
        )
        return line * counts.lines, error_line, counts


def dump_line(value: dict[str, Any]) -> bytes:
    """A line of JSON in UTF-8; escaped where a text holds what UTF-8 cannot."""
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode() + b"\n"
