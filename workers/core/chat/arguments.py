"""The arguments of a tool call: read, and held against the tool's schema before anything runs (TOOL-04). Pure."""

import json
from typing import Any, Final

from workers.core.chat.schema import LONGEST, TOO_DEEP, Schema, strict_json

MOST_DEPTH: Final = 100
"""Objects and lists inside of each other. What is nested deeper breaks whoever reads it without a bound of its own."""

NO_OBJECT: Final = "they are not a JSON object"


class Unfit(ValueError):
    """The arguments cannot be used; the text says why, for the model."""


def arguments_of(text: str) -> dict[str, Any]:
    """Return the arguments that the model wrote; no text means none. Raises Unfit."""
    try:
        value = strict_json(text or "{}")
    except ValueError as exc:
        raise Unfit(f"they are not JSON: {exc}"[:LONGEST]) from None
    except RecursionError:
        raise Unfit(TOO_DEEP) from None
    if not isinstance(value, dict):
        raise Unfit(NO_OBJECT)
    if _is_deeper(value, MOST_DEPTH):
        raise Unfit(TOO_DEEP)
    return value


def checked(text: str, schema: Schema) -> dict[str, Any]:
    """Return the arguments if they fit the schema. Raises Unfit."""
    value = arguments_of(text)
    if why := schema(value):
        raise Unfit(why)
    return value


def canonical(text: str) -> str:
    """Return the arguments in the one form that all ways to write them have; of what is no JSON object, the text."""
    try:
        return json.dumps(arguments_of(text), sort_keys=True, ensure_ascii=False)
    except Unfit:
        return text


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [child for each in level for child in _children(each)]
        if not level:
            return False
    return True


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
