"""Lists of resources: filter, order, pages, and the fields of a read mask (WIRE 3.1). Pure, over ready JSON.

Of AIP-160 there are comparisons joined by AND, with `=`, `!=`, `<`, `<=`, `>`, `>=` and `:` (contains). What else is
supported is unknown, so the rest is refused.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

from pydantic.alias_generators import to_camel

from workers.emulator.batch.refusals import invalid

Resource: TypeAlias = dict[str, Any]
_USUAL_SIZE, _MOST = 50, 200
_TERM = re.compile(r"""\s*([A-Za-z_][\w.]*)\s*(!=|<=|>=|=|<|>|:)\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'()]+)\s*""")
_AND = re.compile(r"AND\s", re.IGNORECASE)
_SPELLED = {"createdTime": "createTime"}


@dataclass(frozen=True)
class Query:
    """What a list call asks for."""

    size: int = _USUAL_SIZE
    token: str = ""
    filter: str = ""
    order: str = ""
    mask: str = ""

    @property
    def digest(self) -> str:
        """Everything that must stay the same from page to page."""
        return sha256(repr((self.filter, self.order, self.mask)).encode()).hexdigest()[:12]


def read_query(given: Mapping[str, str], order: str) -> Query:
    """The query of a list call in either spelling; `order` if it does not say. Unknown names are ignored."""
    values = {to_camel(name): value for name, value in given.items()}
    size = values.get("pageSize") or "0"
    if not re.fullmatch(r"\d{1,9}", size):
        raise invalid(f"invalid page_size: {size!r}")
    return Query(
        size=min(int(size) or _USUAL_SIZE, _MOST),
        token=values.get("pageToken", ""),
        filter=values.get("filter", ""),
        order=values.get("orderBy") or order,
        mask=values.get("readMask", ""),
    )


def page(resources: Sequence[Resource], query: Query) -> tuple[list[Resource], str, int]:
    """The page, the token of the next one ("" on the last), and how many there are in all."""
    found = _ordered([each for each in resources if _passes(each, query.filter)], query.order)
    start = _start(found, query)
    shown = found[start : start + query.size]
    more = start + query.size < len(found)
    token = _token(query, shown[-1]["name"], start + query.size) if more else ""
    return [masked(each, query.mask) for each in shown], token, len(found)


def masked(resource: Resource, mask: str) -> Resource:
    """Only the fields of a read mask; all without one."""
    names = [_field(name) for name in mask.split(",") if name.strip()]
    for name in names:
        if name not in resource and name != "*":
            raise invalid(f"invalid read_mask: no field {name!r}")
    return resource if not names or "*" in names else {name: resource[name] for name in names}


def _token(query: Query, last: str, place: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([query.digest, last, place]).encode()).decode().rstrip("=")


def _start(found: Sequence[Resource], query: Query) -> int:
    """After the last one shown, wherever that is by now; if it is gone, where it was."""
    if not query.token:
        return 0
    try:
        padded = query.token + "=" * (-len(query.token) % 4)
        digest, last, place = json.loads(base64.urlsafe_b64decode(padded))
        if digest != query.digest or not isinstance(place, int) or place < 0:
            raise ValueError
    except (ValueError, TypeError):
        raise invalid("invalid page_token, or the other parameters have changed") from None
    return next((position + 1 for position, each in enumerate(found) if each["name"] == last), place)


def _ordered(found: list[Resource], order: str) -> list[Resource]:
    """By the last key first: sorting keeps what equal keys had."""
    for part in reversed([part.strip() for part in order.split(",") if part.strip()]):
        name, _, direction = part.partition(" ")
        field = _field(name)
        if direction.strip().lower() not in ("", "asc", "desc") or any(field not in each for each in found):
            raise invalid(f"invalid order_by: {part!r}")
        found = sorted(found, key=lambda each: _sortable(each[field]), reverse=direction.strip().lower() == "desc")
    return found


def _sortable(value: Any) -> tuple[float, str]:
    if isinstance(value, bool | int | float) or (isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value)):
        return float(value), ""
    return 0.0, value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _field(name: str) -> str:
    camel = to_camel(name.strip()) if name.strip() != "*" else "*"
    return _SPELLED.get(camel, camel)


def _passes(resource: Resource, text: str) -> bool:
    place = 0
    while place < len(text):
        term = _TERM.match(text, place)
        if term is None:
            raise invalid(f"invalid filter at {place}: {text!r:.200}")
        if not _holds(resource, term[1], term[2], _unquoted(term[3])):
            # What follows is still read, so that a bad filter is bad whatever is in the list.
            _passes(resource, _rest(text, term.end()))
            return False
        rest = _rest(text, term.end())
        place = len(text) - len(rest)
    return True


def _rest(text: str, place: int) -> str:
    if place >= len(text):
        return ""
    joined = _AND.match(text, place)
    if joined is None or joined.end() >= len(text):
        raise invalid(f"invalid filter at {place}: {text!r:.200}")
    return text[joined.end() :]


def _unquoted(text: str) -> str:
    if text[0] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text[1:-1] if text[0] == "'" else text


def _holds(resource: Resource, name: str, operator: str, wanted: str) -> bool:
    value: Any = resource
    for part in name.split("."):
        if not isinstance(value, dict) or _field(part) not in value:
            raise invalid(f"invalid filter: no field {name!r}")
        value = value[_field(part)]
    have = json.dumps(value) if isinstance(value, bool) else "" if value is None else str(value)
    left, right = _sortable(have), _sortable(wanted)
    match operator:
        case "=":
            return have == wanted
        case "!=":
            return have != wanted
        case ":":
            return wanted in have
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right
