"""From a JSON schema to a shape, in two tempers.

Strict, for `response_format`: a fixed subset, and anything outside it is refused by name and path, so that what is
emitted always validates. The subset: type, properties, required, additionalProperties (a boolean), items, enum, const,
and annotations. Lenient, for a tool's parameters, which the wire promises less about (WIRE 1.4): also anyOf, oneOf,
allOf, local $ref and bounds; a keyword that it does not know is passed over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from workers.emulator.shapes import Anything, Choice, Items, Member, Nothing, Number, Record, Shape, Text, Union

_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$comment"}
)
_SUBSET = frozenset({"type", "properties", "required", "additionalProperties", "items", "enum", "const"})
_DEEPEST = 32


class SchemaRefused(ValueError):
    """The schema is no schema, outside the subset, or nothing can satisfy it. The text names keyword and path."""


def strict_shape(schema: Any, path: str) -> Shape:
    """The shape of a schema in the subset. `path` is where the schema sits in the request. Raises SchemaRefused."""
    _check_depth(schema, path)
    _check_meta(schema, path)
    shape = _Strict().shape(schema, path)
    if isinstance(shape, Nothing):
        raise SchemaRefused(f"No value can satisfy the JSON schema, field: '{path}'")
    return shape


def lenient_shape(schema: Any) -> Shape:
    """The shape of any schema, as near as it goes; never fails."""
    return _Lenient(schema if isinstance(schema, dict) else {}).shape(schema)


def _check_depth(schema: Any, path: str) -> None:
    level = [schema]
    for _ in range(4 * _DEEPEST):  # a schema nests two or three containers for each level of the value
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return
    raise SchemaRefused(f"The JSON schema nests too deep, field: '{path}'")


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_meta(schema: Any, path: str) -> None:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = ".".join([path, *(str(step) for step in error.absolute_path)])
        raise SchemaRefused(f"Invalid JSON schema: {error.message[:200]}, field: '{where}'") from None


class _Strict:
    """The subset, or SchemaRefused."""

    def shape(self, schema: Any, path: str) -> Shape:
        if schema is True:
            return Anything()
        if schema is False:
            return Nothing()
        self._refuse_others(schema, path)
        if "enum" in schema or "const" in schema:
            return _choice(schema)
        return _union(self._typed(schema, kind, path) for kind in _kinds(schema))

    def _refuse_others(self, schema: Mapping[str, Any], path: str) -> None:
        for keyword, value in schema.items():
            known = keyword in _SUBSET or keyword in _ANNOTATIONS
            if not known or (keyword == "additionalProperties" and not isinstance(value, bool)):
                message = f"JSON schema keyword '{keyword}' is not supported, field: '{path}.{keyword}'"
                raise SchemaRefused(f"{message}, value: {value!r:.200}")

    def _typed(self, schema: Mapping[str, Any], kind: str, path: str) -> Shape:
        match kind:
            case "object":
                properties = schema.get("properties", {})
                shapes = {name: self.shape(inner, f"{path}.properties.{name}") for name, inner in properties.items()}
                return _record(schema, shapes)
            case "array":
                item = self.shape(schema.get("items", True), f"{path}.items")
                return Items(item, high=0 if isinstance(item, Nothing) else None)
            case _:
                return _scalar(kind, {})


@dataclass(frozen=True)
class _Lenient:
    """As near as it goes. A reference inside itself is left out, so recursion ends at the first chance."""

    root: Mapping[str, Any]
    trail: tuple[str, ...] = ()
    depth: int = 0

    def shape(self, schema: Any) -> Shape:
        if schema is False:
            return Nothing()
        if not isinstance(schema, dict) or self.depth > _DEEPEST:
            return Anything()
        if "const" in schema:
            return Choice((schema["const"],))
        if listed := _list(schema, "enum"):
            return Choice(tuple(listed))
        if "$ref" in schema:
            return self._referred(str(schema["$ref"]))
        for keyword in ("anyOf", "oneOf"):
            if options := _list(schema, keyword):
                return _union(self._under(option) for option in options)
        if "allOf" in schema:
            return self._under(_merged(schema))
        return _union(self._typed(schema, kind) for kind in _kinds(schema))

    def _under(self, schema: Any) -> Shape:
        return replace(self, depth=self.depth + 1).shape(schema)

    def _referred(self, ref: str) -> Shape:
        if ref in self.trail:
            return Nothing()
        found: Any = self.root
        for step in ref.removeprefix("#").strip("/").split("/"):
            found = found.get(step) if isinstance(found, dict) else None
        return replace(self, trail=(*self.trail, ref), depth=self.depth + 1).shape(found)

    def _typed(self, schema: Mapping[str, Any], kind: str) -> Shape:
        match kind:
            case "object":
                return _record(
                    schema, {name: self._under(inner) for name, inner in _dict(schema, "properties").items()}
                )
            case "array":
                item = self._under(schema.get("items", True))
                high = 0 if isinstance(item, Nothing) else _bound(schema, "maxItems")
                return Items(item, 0 if high == 0 else _bound(schema, "minItems") or 0, high)
            case _:
                return _scalar(kind, schema)


def _list(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _dict(schema: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _kinds(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The types to sample from. Without `type` the other keywords say what is meant, and a value of that is valid."""
    if isinstance(schema.get("type"), str):
        return (schema["type"],)
    if listed := _list(schema, "type"):
        return tuple(kind for kind in listed if isinstance(kind, str))
    if "properties" in schema or "required" in schema:
        return ("object",)
    return ("array",) if "items" in schema else ("any",)


def _choice(schema: Mapping[str, Any]) -> Shape:
    """The listed values that the rest of the schema allows too."""
    listed = [schema["const"]] if "const" in schema else schema["enum"]
    validator = Draft202012Validator(dict(schema))
    values = tuple(value for value in listed if validator.is_valid(value))
    return Choice(values) if values else Nothing()


def _record(schema: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Shape:
    """An object. Names that are required without being described may hold anything, unless the schema closes itself."""
    required = [name for name in _list(schema, "required") if isinstance(name, str)]
    closed = schema.get("additionalProperties") is False
    every = {**shapes, **{name: Nothing() if closed else Anything() for name in required if name not in shapes}}
    members = tuple(Member(name, shape, name in required) for name, shape in every.items())
    if any(member.required and isinstance(member.shape, Nothing) for member in members):
        return Nothing()
    return Record(tuple(member for member in members if not isinstance(member.shape, Nothing)))


def _scalar(kind: str, schema: Mapping[str, Any]) -> Shape:
    match kind:
        case "string":
            return Text(_bound(schema, "minLength") or 0, _bound(schema, "maxLength"))
        case "number" | "integer":
            return Number(kind == "integer", *_limits(schema, 1 if kind == "integer" else 0.5))
        case "boolean":
            return Choice((True, False))
        case "null":
            return Choice((None,))
        case _:
            return Anything()


def _limits(schema: Mapping[str, Any], step: float) -> tuple[float | None, float | None]:
    low, high = _real(schema, "minimum"), _real(schema, "maximum")
    above, below = _real(schema, "exclusiveMinimum"), _real(schema, "exclusiveMaximum")
    return (low if above is None else above + step), (high if below is None else below - step)


def _real(schema: Mapping[str, Any], keyword: str) -> float | None:
    value = schema.get(keyword)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _bound(schema: Mapping[str, Any], keyword: str) -> int | None:
    value = _real(schema, keyword)
    return None if value is None else max(0, int(value))


def _merged(schema: Mapping[str, Any]) -> dict[str, Any]:
    """allOf, laid one over the other: good enough for a base object with a few more properties."""
    merged: dict[str, Any] = {}
    own = {keyword: value for keyword, value in schema.items() if keyword != "allOf"}
    for part in (*_list(schema, "allOf"), own):
        if isinstance(part, dict):
            properties = _dict(merged, "properties") | _dict(part, "properties")
            required = _list(merged, "required") + _list(part, "required")
            merged |= part
            merged |= {"properties": properties} if properties else {}
            merged |= {"required": required} if required else {}
    return merged


def _union(shapes: Iterable[Shape]) -> Shape:
    options = tuple(shape for shape in shapes if not isinstance(shape, Nothing))
    if not options:
        return Nothing()
    return options[0] if len(options) == 1 else Union(options)
