"""A line of the input: a row that the provider will take, or the reason why it is set aside.

One row that fails the provider's validation fails its whole job (WIRE 3.7), so the check is strict, in types too: the
row is sent as it was given. Only nulls in its body are left out, which mean the same as nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import ValidationError

from api_contracts.batch_rows import RowBody
from workers.core.batch.ids import made_custom_id
from workers.core.batch.lines import Line

_LONGEST_ID: Final = 512
"""Characters of a custom id: the wire names no bound (WIRE 3.4), an index has one."""
_LONGEST_MESSAGE: Final = 300
_MOST_FAULTS: Final = 3
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_NOT_IN_A_ROW: Final = {
    "model": ("model_in_row", "the model is the job's: leave 'model' out of the rows (WIRE 3.4)"),
    "stream": ("stream_in_row", "a batch streams nothing: leave 'stream' out of the rows"),
    "stream_options": ("stream_in_row", "a batch streams nothing: leave 'stream_options' out of the rows"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row that may be uploaded. `body` is JSON without a line break. `made` says that the custom id is ours."""

    number: int
    custom_id: str
    body: bytes
    made: bool = False


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is set aside. `code` is for programs, `message` for people; neither quotes a value of the row."""

    number: int
    code: str
    message: str
    custom_id: str | None = None


class RowReader:
    """Reads rows. `extra_fields` names body fields that may stand there unchecked."""

    def __init__(self, extra_fields: Iterable[str] = ()) -> None:
        self._extra = frozenset(extra_fields)

    def read(self, line: Line) -> Row | BadRow:
        """Return the row, or why it is none. Whether its custom id is taken, SQL knows."""
        if line.data is None:
            return BadRow(line.number, "line_too_long", "the line is longer than a request may be")
        try:
            value = orjson.loads(line.data)
        except orjson.JSONDecodeError as exc:
            return BadRow(line.number, "not_json", f"{exc.msg} (column {exc.colno})"[:_LONGEST_MESSAGE])
        if not isinstance(value, dict):
            return BadRow(line.number, "not_an_object", f"a row is a JSON object, not {_kind(value)}")
        return self._checked(line.number, value)

    def _checked(self, number: int, value: dict[str, Any]) -> Row | BadRow:
        custom_id = value.get("custom_id")
        if custom_id is not None and (fault := _fault_in_id(custom_id)):
            return BadRow(number, "bad_custom_id", fault)
        if strange := sorted(value.keys() - {"custom_id", "body"}):
            message = f"a row has 'custom_id' and 'body', not {_shown(strange)}"
            return BadRow(number, "unknown_field", message, custom_id)
        body = value.get("body")
        if not isinstance(body, dict):
            return BadRow(number, "no_body", f"'body' must be an object, not {_kind(body)}", custom_id)
        body = {name: said for name, said in body.items() if said is not None}
        if found := self._fault_in_body(body):
            return BadRow(number, *found, custom_id)
        try:
            text = orjson.dumps(body)
        except orjson.JSONEncodeError:
            return BadRow(number, "too_deep", "the body is nested too deeply", custom_id)
        if custom_id is None:
            return Row(number, made_custom_id(text), text, made=True)
        return Row(number, custom_id, text)

    def _fault_in_body(self, body: Mapping[str, Any]) -> tuple[str, str] | None:
        for name, found in _NOT_IN_A_ROW.items():
            if name in body:
                return found
        known = {name: said for name, said in body.items() if name not in self._extra} if self._extra else body
        try:
            RowBody.model_validate(known, strict=True)
        except ValidationError as exc:
            return _told(exc)
        return None


def line_of(custom_id: str, body: bytes) -> bytes:
    """Return the line to upload (WIRE 3.4), its end included."""
    return b'{"custom_id":%b,"body":%b}\n' % (orjson.dumps(custom_id), body)


def _fault_in_id(custom_id: Any) -> str | None:
    if not isinstance(custom_id, str):
        return f"'custom_id' must be a string, not {_kind(custom_id)}"
    if not 0 < len(custom_id) <= _LONGEST_ID:
        return f"'custom_id' must have 1 to {_LONGEST_ID} characters"
    return "'custom_id' must not have control characters" if _CONTROL.search(custom_id) else None


def _told(exc: ValidationError) -> tuple[str, str]:
    errors = exc.errors(include_url=False, include_input=False, include_context=False)
    unknown = all(each["type"] == "extra_forbidden" for each in errors)
    faults = [
        f"{'.'.join(map(str, ('body', *each['loc'])))[:120]}: {each['msg'].removeprefix('Value error, ')}"
        for each in errors[:_MOST_FAULTS]
    ]
    return "unknown_field" if unknown else "bad_field", "; ".join(faults)[:_LONGEST_MESSAGE]


def _shown(names: list[str]) -> str:
    return ", ".join(name[:40] for name in names[:_MOST_FAULTS])


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number")
