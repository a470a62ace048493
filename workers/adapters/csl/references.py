"""`ReferenceStyles` by citeproc-py: one item of CSL-JSON to one line of plain text, without its number.

The processor is handed what it knows and nothing else: it warns about the rest, and stumbles over some of it. Whatever
it stumbles over all the same gets a plain line of our own, since no answer may be lost over how a title is set.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final

import structlog
from citeproc import DATES, NAMES, VARIABLES, Citation, CitationItem, CitationStylesBibliography, CitationStylesStyle
from citeproc.formatter import plain
from citeproc.source.json import CiteProcJSON

from api_contracts.citations import Style

_log = structlog.get_logger(__name__)

_FILES: Final[dict[Style, str]] = {
    "apa-7": "apa",
    "mla-9": "modern-language-association",
    "chicago-author-date": "chicago-author-date",
    "ieee": "ieee",
    "nature": "nature",
    "vancouver": "nlm-citation-sequence",
}
"""Names of the styles in the repository of the CSL project."""

_KEY: Final = "item"
_NUMBER: Final = "\ue000"
"""Stands for the item's number while it is formatted: a private character, so no metadata holds it after `_clean`."""
_LABEL: Final = re.compile(rf"^\W*{_NUMBER}[\].)\s]*")
_TAG: Final = re.compile(r"</?(?:i|b|sub|sup|sc|span)\b[^<>]*>")
_QUOTE_BEFORE_STOP: Final = re.compile(r"([,.]?)(\u2019?\u201d)([,.])")
_KNOWN: Final = frozenset(name.replace("_", "-") for name in VARIABLES) | {"type"}
_NAME_PARTS: Final = ("family", "given", "dropping-particle", "non-dropping-particle", "suffix")


class _Item(CitationItem):  # type: ignore[misc]  # citeproc carries no annotations
    """An item whose number is a placeholder, which is taken away again: numbers are the caller's."""

    number = _NUMBER


def lines_of(items: Sequence[Mapping[str, Any]], style: Style) -> list[str]:
    """See `ReferenceStyles`. Styles are read once, and lines are remembered: one takes about 4 ms, and sources come
    again.
    """
    return [_line(json.dumps(item, sort_keys=True), style) for item in items]


@lru_cache(maxsize=4096)
def _line(text: str, style: Style) -> str:
    item = json.loads(text)
    try:
        line = _tidy(_formatted(_known(item), _style(style)))
    except Exception as exc:  # noqa: BLE001 - the processor has many ways to stumble; see the module
        _log.warning("reference.unformatted", style=style, error=type(exc).__name__)
        line = ""
    return line or _plainly(item)


@cache
def _style(style: Style) -> Any:
    return CitationStylesStyle(_FILES[style], validate=False)


def _formatted(item: dict[str, Any], style: Any) -> str:
    bibliography = CitationStylesBibliography(style, CiteProcJSON([{**item, "id": _KEY}]), plain)
    cites = [_Item(_KEY)]
    bibliography.register(Citation(cites))
    try:
        return "".join(str(line) for line in bibliography.bibliography())
    finally:
        for held in (cites, bibliography.items):  # or all of it would be left to Python's collector
            held.clear()


def _tidy(line: str) -> str:
    """Take the number away, set spaces once, and set stops before closing quotes, as the American styles want it."""
    line = " ".join(_LABEL.sub("", line).split())
    return _QUOTE_BEFORE_STOP.sub(lambda found: f"{found[1] or found[3]}{found[2]}", line)


def _known(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the processor knows of an item, in the forms that it takes."""
    made: dict[str, Any] = {"type": "document"}
    for variable, value in item.items():
        spelled = variable.replace("-", "_")
        if variable not in _KNOWN:
            continue
        if spelled in NAMES:
            made[variable] = [_name(each) for each in value]
        elif spelled in DATES:
            made[variable] = _date(value)
        else:
            made[variable] = _clean(value)
    return {variable: value for variable, value in made.items() if value}


def _name(given: Mapping[str, Any]) -> dict[str, str]:
    if not given.get("family"):
        return {"literal": _clean(given.get("literal") or given.get("given") or "")}
    return {part: _clean(given[part]) for part in _NAME_PARTS if given.get(part)}


def _date(given: Mapping[str, Any]) -> dict[str, Any]:
    """Years, months and days as numbers; a month or day that is none is left out."""
    parts = [[int(each) for each in part] for part in given.get("date-parts") or ()]
    if not parts:
        return {"literal": _clean(given.get("literal") or given.get("raw") or "")}
    return {"date-parts": [_sound(part) for part in parts]}


def _sound(part: list[int]) -> list[int]:
    good = [part[0]]
    for each, most in zip(part[1:], (12, 31), strict=False):
        if not 1 <= each <= most:
            break
        good.append(each)
    return good


def _clean(value: object) -> str:
    """Return text without the markup that CSL-JSON allows in titles, and without our placeholder."""
    return " ".join(_TAG.sub("", str(value)).replace(_NUMBER, "").split())


def _plainly(item: Mapping[str, Any]) -> str:
    """Return who, what and where, in that order, for an item that has no better line."""
    names = [
        " ".join(filter(None, (n.get("given"), n.get("family"), n.get("literal")))) for n in item.get("author", ())
    ]
    told = [", ".join(names), str(item.get("title", "")), str(item.get("URL") or item.get("DOI") or "")]
    return _clean(". ".join(filter(None, told)))
