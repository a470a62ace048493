"""What in a changed JSON Schema breaks who relies on the old one. Requests are written by others, the rest is read."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

from api_contracts.signals import SIGNALS

Schema = Mapping[str, Any]

_WORDS = ("description", "title", "default", "$schema", "$defs", "examples", "properties", "required")
"""What a machine does not check, and what is looked at by itself."""


def breaking(name: str, old: Schema, new: Schema | None) -> list[str]:
    """Return a line for each change that breaks; new optional fields never do."""
    if new is None:
        return [f"{name} is gone"]
    return list(_changes(name, _plain(old, old), _plain(new, new), written=_is_written(name)))


def _is_written(name: str) -> bool:
    return name.endswith("Request") or name == "AudioControl" or name in {cls.__name__ for cls in SIGNALS.values()}


def _changes(path: str, old: Any, new: Any, *, written: bool) -> Iterator[str]:
    if written and "const" in old and Draft202012Validator(new).is_valid(old["const"]):
        return  # the only choice there was can still be made
    for field, before in old.get("properties", {}).items():
        if field not in new.get("properties", {}):
            yield f"{path}.{field} is gone"
        else:
            yield from _changes(f"{path}.{field}", before, new["properties"][field], written=written)
    had, has = set(old.get("required", [])), set(new.get("required", []))
    if written and has - had:
        yield f"{path} requires {sorted(has - had)} now"
    if not written and had - has:
        yield f"{path} promises {sorted(had - has)} no more"
    for word in sorted({*old, *new} - set(_WORDS)):
        if _differs(word, old.get(word), new.get(word), written=written):
            yield f"{path}: {word} was {old.get(word)!r:.80}, is {new.get(word)!r:.80}"


def _differs(word: str, old: Any, new: Any, *, written: bool) -> bool:
    if old == new:
        return False
    if word == "enum" and isinstance(old, list) and isinstance(new, list):
        return not (_set(old) <= _set(new) if written else _set(new) <= _set(old))
    if word in ("anyOf", "oneOf") and isinstance(old, list) and isinstance(new, list):
        return not _fits(old, new, written=written)
    if word == "items" and isinstance(old, Mapping) and isinstance(new, Mapping):
        return any(_changes("", old, new, written=written))
    if written and new is None and word not in ("type", "const", "$ref"):
        return False  # a limit that is lifted
    if word in ("maximum", "maxLength", "maxItems", "exclusiveMaximum") and None not in (old, new):
        return bool(new < old if written else new > old)
    if word in ("minimum", "minLength", "minItems", "exclusiveMinimum") and None not in (old, new):
        return bool(new > old if written else new < old)
    return True


def _fits(old: list[Schema], new: list[Schema], *, written: bool) -> bool:
    """Whether all that was written before is still taken, or all that is told now could be read before."""

    def same(before: Schema, after: Schema) -> bool:
        return not any(_changes("", before, after, written=written))

    if written:
        return all(any(same(before, after) for after in new) for before in old)
    return all(any(same(before, after) for before in old) for after in new)


def _set(values: list[Any]) -> set[str]:
    return {json.dumps(value, sort_keys=True) for value in values}


def _plain(found: Any, root: Schema, above: tuple[str, ...] = ()) -> Any:
    """Put every reference's schema in its place, but for those that hold themselves; leave words out."""
    if isinstance(found, list):
        return [_plain(each, root, above) for each in found]
    if not isinstance(found, Mapping):
        return found
    if (reference := found.get("$ref")) and reference not in above:
        name = str(reference).rpartition("/")[2]
        return _plain(root["$defs"][name], root, (*above, str(reference)))
    return {
        key: _plain(value, root, above) for key, value in found.items() if key != "$defs" and not _is_word(key, value)
    }


def _is_word(key: str, value: Any) -> bool:
    return key in ("description", "title", "default", "examples") and not isinstance(value, Mapping)
