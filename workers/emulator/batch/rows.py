"""The rows of a batch: found in JSONL files, read and judged as the provider's validation does (WIRE 3.4, 3.7).

Files are read line by line; what stays in memory is a number for each row.
"""

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

_ROLES = "'system', 'user', 'assistant' or 'tool'"
_LONGEST_LINE = 16 * 1024 * 1024


class BadRow(ValueError):
    """A row for which the whole job fails. The text says what is wrong with it."""


@dataclass(frozen=True)
class Row:
    """A row that can be answered."""

    custom_id: str
    body: dict[str, Any]


@dataclass(frozen=True)
class InputFile:
    """A file of a dataset, under the name that it was uploaded with."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True)
class Line:
    """A line and where it starts, counted over all files of the input."""

    offset: int
    file: str
    number: int
    data: bytes


@dataclass
class Input:
    """Files one after the other. Opens what is read and closes it at `close`."""

    files: Sequence[InputFile]
    _open: dict[Path, BinaryIO] = field(default_factory=dict)

    def lines(self) -> Iterator[Line]:
        """All lines that are not blank."""
        start = 0
        for file in self.files:
            stream, offset = self._stream(file), 0
            for number in count(1):
                data = stream.readline(_LONGEST_LINE)
                if not data:
                    break
                if data.strip():
                    yield Line(start + offset, file.name, number, data)
                offset += len(data)
            start += file.size

    def line_at(self, offset: int) -> bytes:
        """The line that starts there."""
        for file in self.files:
            if offset < file.size:
                stream = self._stream(file)
                stream.seek(offset)
                return stream.readline(_LONGEST_LINE)
            offset -= file.size
        raise IndexError(offset)

    def close(self) -> None:
        """Close the files."""
        for stream in self._open.values():
            stream.close()
        self._open.clear()

    def _stream(self, file: InputFile) -> BinaryIO:
        if file.path not in self._open:
            self._open[file.path] = file.path.open("rb")
        return self._open[file.path]


def read_row(data: bytes) -> Row:
    """A row from its line. Raises BadRow."""
    try:
        raw = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"invalid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise BadRow("a row must be a JSON object")
    custom_id, body = raw.get("custom_id"), raw.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise BadRow("custom_id is required" if custom_id in (None, "") else "custom_id must be a string")
    if not isinstance(body, dict):
        raise BadRow("body is required" if body is None else "body must be an object")
    return Row(custom_id, body)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def check_body(body: dict[str, Any], roles: frozenset[str]) -> None:
    """What the validation of a dataset looks at in a body; the rest is found when the row is answered."""
    messages = body.get("messages")
    if (messages is None) == (body.get("prompt_token_ids") is None):
        raise BadRow("exactly one of messages and prompt_token_ids is required")
    if messages is None:
        return
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise BadRow("messages must be a list of messages")
    for number, message in enumerate(messages, 1):
        role = message.get("role")
        if role not in roles:
            raise BadRow(f"invalid role {role} in message {number}, must be {_ROLES}")


class Validation:
    """Reads rows one by one, and remembers where they are. Two that share a custom id are bad."""

    def __init__(self, source: Input, roles: frozenset[str], *, true_numbers: bool) -> None:
        self._source = source
        self._roles = roles
        self._true_numbers = true_numbers
        self._seen: set[int] = set()
        self._offsets: array[int] = array("Q")

    def run(self) -> Iterator[None]:
        """Look at one row after the other. Raises BadRow with the provider's message."""
        name = self._source.files[0].name if self._source.files else "the dataset"
        for line in self._source.lines():
            try:
                self._look_at(line.data)
            except BadRow as error:
                number = line.number if self._true_numbers else 1  # as observed: not the line that is bad
                raise BadRow(_message(line.file, number, str(error))) from None
            self._offsets.append(line.offset)
            yield
        self._seen.clear()
        if not self._offsets:
            raise BadRow(_message(name, 1, "the file has no rows"))

    def take(self) -> "array[int]":
        """Where the rows are. Forgets them."""
        taken, self._offsets = self._offsets, array("Q")
        return taken

    def _look_at(self, data: bytes) -> None:
        row = read_row(data)
        check_body(row.body, self._roles)
        # 64 bits instead of the id: of a million rows one in 37 million batches is wrongly called a duplicate.
        digest = blake2b(row.custom_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        if key in self._seen:
            raise BadRow(f"duplicate custom_id {row.custom_id!r:.200}")
        self._seen.add(key)


def _message(file: str, number: int, text: str) -> str:
    return f"Dataset has a syntax error: chat dataset validation failed on {file}:{number}: {text}"
