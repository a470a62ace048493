"""Sampling under a JSON schema: what comes out validates, what is outside the subset is refused by name (WIRE 4)."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.unit.emulator.making import CLASSIC, chat, message_of, take
from workers.emulator.json_schema import SchemaRefused, lenient_shape, strict_shape
from workers.emulator.schema_sampler import SchemaSampler, hints_from

pytestmark = pytest.mark.requirement("EMU-03")

_NAMES = st.sampled_from(["a", "b", "c", "name", "größe"])
_VALUES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=5)
_TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"]


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.fixed_dictionaries(
        {"properties": st.dictionaries(_NAMES, inner, max_size=3)},
        optional={
            "type": st.just("object"),
            "required": st.lists(_NAMES, max_size=2, unique=True),
            "additionalProperties": st.booleans(),
            "title": st.text(max_size=5),
        },
    )
    arrays = st.fixed_dictionaries({"type": st.just("array")}, optional={"items": inner})
    return objects | arrays


_LEAVES = st.one_of(
    st.booleans(),
    st.just({}),
    st.sampled_from([{"type": kind} for kind in _TYPES]),
    st.lists(st.sampled_from(_TYPES), min_size=1, max_size=3, unique=True).map(lambda kinds: {"type": kinds}),
    st.fixed_dictionaries(
        {"enum": st.lists(_VALUES, min_size=1, max_size=4)}, optional={"type": st.sampled_from(_TYPES)}
    ),
    st.fixed_dictionaries({"const": _VALUES}, optional={"description": st.text(max_size=5)}),
)
SCHEMAS = st.recursive(_LEAVES, _nested, max_leaves=12)


def _refused(schema: Any) -> str | None:
    try:
        strict_shape(schema, "here")
    except SchemaRefused as refused:
        return str(refused)
    return None


@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_what_is_sampled_always_validates(schema: Any, seed: int) -> None:
    refused = _refused(schema)
    if refused is not None:
        assert "No value can satisfy" in refused
        return
    value = json.loads(json.dumps(SchemaSampler(Random(seed)).draw(strict_shape(schema, "here"))))
    Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"enum": [1, 2], "type": "string"},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"type": "object", "required": ["a"], "additionalProperties": False},
    ],
)
def test_a_schema_that_nothing_satisfies_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaRefused, match="No value can satisfy the JSON schema, field: 'here'"):
        strict_shape(schema, "here")


def _weighs_no_enum(schema: Any) -> bool:
    """The lenient temper does not weigh an enum against the keywords beside it."""
    return isinstance(schema, dict) and "enum" not in json.dumps(schema) and "const" not in json.dumps(schema)


@given(schema=SCHEMAS.filter(_weighs_no_enum), seed=st.integers(0, 2**32))
def test_tools_are_called_with_what_their_schema_allows(schema: dict[str, Any], seed: int) -> None:
    if _refused(schema) is not None:
        return
    value = SchemaSampler(Random(seed), hints_from("Add 2 and 3 in Oslo")).draw(lenient_shape(schema))
    Draft202012Validator(schema).validate(value)


def _answer(response_format: dict[str, Any]) -> Any:
    return json.loads(take(chat(response_format=response_format)).completions[0].content or "")


_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "size": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}},
    },
    "required": ["name", "size", "tags"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_object", "schema": _SCHEMA},
        {"type": "json_object", "schema": json.dumps(_SCHEMA)},
        {"type": "json_schema", "json_schema": {"name": "p", "schema": _SCHEMA, "strict": True}},
        {"type": "json_schema", "json_schema": _SCHEMA},
        {"type": "json_schema", "json_schema": json.dumps(_SCHEMA)},
    ],
)
def test_every_spelling_of_a_schema_is_obeyed(response_format: dict[str, Any]) -> None:
    Draft202012Validator(_SCHEMA).validate(_answer(response_format))


def test_json_mode_answers_with_an_object() -> None:
    assert isinstance(_answer({"type": "json_object"}), dict)


def test_a_schema_with_a_property_named_schema_is_not_mistaken_for_the_wrapper() -> None:
    schema = {"type": "object", "properties": {"schema": {"const": 1}}, "required": ["schema"]}
    assert _answer({"type": "json_schema", "json_schema": {"schema": schema}}) == {"schema": 1}
    assert _answer({"type": "json_schema", "json_schema": schema}) == {"schema": 1}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("minLength", 3),
        ("pattern", "a+"),
        ("anyOf", [{"type": "string"}]),
        ("format", "date"),
        ("$ref", "#/x"),
        ("minimum", 0),
        ("additionalProperties", {"type": "string"}),
    ],
)
def test_a_keyword_outside_the_subset_is_refused_with_its_path(keyword: str, value: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {keyword: value}}}}
    message = message_of(chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}))
    assert f"JSON schema keyword '{keyword}' is not supported" in message
    assert f"field: 'response_format.json_schema.schema.properties.a.items.{keyword}'" in message


@pytest.mark.parametrize(
    ("response_format", "needle"),
    [
        ({"type": "json_schema"}, "field: 'response_format.json_schema'"),
        ({"type": "json_schema", "json_schema": "{"}, "not valid JSON"),
        ({"type": "json_schema", "json_schema": "7"}, "not an object"),
        ({"type": "json_object", "schema": {"type": "strng"}}, "Invalid JSON schema"),
        ({"type": "json_schema", "json_schema": {"schema": {}, "extra": 1}}, "response_format.json_schema.extra"),
    ],
)
def test_a_broken_response_format_is_refused(response_format: dict[str, Any], needle: str) -> None:
    assert needle in message_of(chat(response_format=response_format))


def test_a_deep_schema_is_answered_with_a_small_value() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(30):
        schema = {"type": "array", "items": schema, "minItems": 2}
    strict = json.loads(json.dumps(schema).replace(', "minItems": 2', ""))
    for seed in range(20):
        values = (
            SchemaSampler(Random(seed)).draw(strict_shape(strict, "here")),
            SchemaSampler(Random(seed), hints_from("")).draw(lenient_shape(schema)),
        )
        assert all(len(json.dumps(value)) < 50_000 for value in values)


def test_a_schema_that_nests_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SchemaRefused):
        strict_shape({"type": "object", "properties": {"a": {"x": schema}}}, "here")


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"const": 4}}, "required": ["a"]},
        {
            "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}},
            "$ref": "#/$defs/tree",
        },
        {"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"properties": {"b": {"const": 2}}}]},
        {"type": "integer", "minimum": 3.5, "exclusiveMaximum": 6},
        {"type": "number", "minimum": 0.25, "maximum": 0.75},
        {"type": "string", "minLength": 40, "maxLength": 41},
        {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
    ],
)
def test_a_tools_schema_may_use_more_than_the_subset(schema: dict[str, Any]) -> None:
    for seed in range(20):
        for hints in (None, hints_from("What about 7 and Oslo?")):
            Draft202012Validator(schema).validate(SchemaSampler(Random(seed), hints).draw(lenient_shape(schema)))


_KEYWORDS = ["type", "enum", "$ref", "anyOf", "allOf", "items", "properties", "required", "minimum", "minItems"]
_RUBBISH = st.recursive(
    _VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(_KEYWORDS), inner), max_leaves=10
)


@given(_RUBBISH)
def test_no_schema_of_a_tool_is_too_broken_to_call_it(schema: Any) -> None:
    json.dumps(SchemaSampler(Random(1), hints_from("")).draw(lenient_shape(schema)))


def test_a_schema_silences_the_reasoning_of_a_model() -> None:
    body = chat(
        model=CLASSIC.replace("classic", "reasoning"), response_format={"type": "json_schema", "json_schema": {}}
    )
    assert take(body).completions[0].reasoning is None
