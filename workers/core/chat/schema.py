"""JSON schemas of requests, held against values by jsonschema. Pure.

References out of a schema are refused and `pattern` is not checked: both could take for ever.
"""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

Schema = Callable[[Any], str | None]
"""Takes a JSON value; returns None, or why it does not fit: what is wrong and where, at most `LONGEST` characters."""

LONGEST: Final = 300
TOO_DEEP: Final = "it is nested too deeply"


class BadSchema(ValueError):
    """The schema itself is none: the text says what is wrong with it."""


def schema_of(schema: Any) -> Schema:
    """Return the schema, given as an object or as text (WIRE 4.1). Raises BadSchema."""
    try:
        return _compiled(schema if isinstance(schema, str) else json.dumps(schema, sort_keys=True))
    except RecursionError as exc:
        raise BadSchema(f"the JSON schema cannot be read: {type(exc).__name__}") from None


def strict_json(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError, also for NaN and infinities, and RecursionError."""
    return json.loads(text, parse_constant=_no_constant)


@lru_cache(maxsize=128)
def _compiled(text: str) -> Schema:
    try:
        schema = json.loads(text)
        Draft202012Validator.check_schema(schema)
    except SchemaError as exc:
        raise BadSchema(f"the JSON schema is none: {_told(exc)}") from None
    except (ValueError, RecursionError) as exc:
        raise BadSchema(f"the JSON schema cannot be read: {type(exc).__name__}") from None
    validator = _Validator(schema, registry=Registry())

    def fault(value: Any) -> str | None:
        try:
            found = best_match(validator.iter_errors(value))
            return None if found is None else _told(found)
        except Unresolvable as exc:
            return f"the schema refers to what it does not hold: {exc.ref}"[:LONGEST]
        except RecursionError:
            return TOO_DEEP

    return fault


def _told(exc: SchemaError | ValidationError) -> str:
    where = "/".join(str(step)[:40] for step in exc.absolute_path)
    return f"{'at ' + where + ': ' if where else ''}{exc.message}"[:LONGEST]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unchecked(*_: Any) -> Iterator[ValidationError]:
    return iter(())


_Validator: Final = extend(Draft202012Validator, {"pattern": _unchecked, "patternProperties": _unchecked})  # type: ignore[no-untyped-call]
