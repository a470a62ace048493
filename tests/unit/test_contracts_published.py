"""The published contracts are those of the code, and no release breaks who relies on the last one."""

import copy
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, SchemaError

from api_contracts import SCHEMA_VERSION, keys, names
from api_contracts.publishing import REQUEST_TYPES, asyncapi, json_schemas
from api_contracts.runs import Event, Result, RunQueued, RunStarted
from api_contracts.signals import SIGNALS
from api_contracts.vocabulary import EVENT_TYPES, RESULT_TYPES
from tests.golden.files import contracts_of, read, releases, stories_of
from tests.schema_changes import breaking
from workers.cli.publishing import documents_of, export

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "contracts"
AGAIN = "run `fireworks-workers contracts export`, and read what changed"


def published() -> dict[str, Any]:
    return {file.stem: json.loads(file.read_text()) for file in (PUBLISHED / "schemas").glob("*.json")}


@pytest.mark.requirement("RUN-15")
def test_no_contract_changes_in_a_breaking_way() -> None:
    now = json_schemas()
    broken = [line for name, old in published().items() for line in breaking(name, old, now.get(name))]
    assert broken == [], "producers and readers of the last release would break"


@pytest.mark.requirement("RUN-15")
@pytest.mark.parametrize("release", releases())
def test_no_contract_of_a_release_was_broken_since_by_an_export_that_overwrote_it(release: str) -> None:
    now = json_schemas()
    then = json.loads(contracts_of(release).read_text())
    assert "ChatRequest" in then
    assert [line for name, old in then.items() for line in breaking(name, old, now.get(name))] == []


@pytest.mark.requirement("RUN-15")
def test_what_is_published_is_what_the_code_says() -> None:
    texts = {str(file.relative_to(PUBLISHED)): file.read_text() for file in PUBLISHED.rglob("*.json")}
    assert texts == documents_of(version("fireworks-workers")), AGAIN


@pytest.mark.requirement("RUN-15")
def test_every_schema_is_one_by_the_dialect_that_it_names() -> None:
    for name, schema in published().items():
        assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"], name
        Draft202012Validator.check_schema(schema)
    with pytest.raises(SchemaError):
        Draft202012Validator.check_schema({"type": "no type"})


@pytest.mark.requirement("RUN-15")
def test_what_workers_wrote_fits_what_is_published() -> None:
    """Every journal that a release left behind, against the schema of each event and of the frame."""
    checks = {name: Draft202012Validator(schema) for name, schema in published().items()}
    seen = set()
    for golden in (read(release, story) for release in releases() for story in stories_of(release)):
        for event in golden.journal:
            seen.add(event.type)
            checks["Event"].validate(event.model_dump(mode="json"))
            checks[EVENT_TYPES[event.type].__name__].validate(event.data)
    assert len(seen) > 30, seen


@pytest.mark.requirement("RUN-15")
def test_requests_and_signals_refuse_unknown_fields_events_and_results_do_not() -> None:
    written = {cls.__name__ for cls in (*REQUEST_TYPES.values(), *SIGNALS.values())}
    strict = {name for name, schema in published().items() if schema.get("additionalProperties") is False}
    assert written <= strict
    assert not strict & {cls.__name__ for cls in (Event, *RESULT_TYPES.values(), *EVENT_TYPES.values())}


@pytest.mark.requirement("RUN-15")
def test_results_the_beginning_of_a_run_and_of_each_life_say_their_schema_version() -> None:
    for cls, field in ((Result, "schema_version"), (RunQueued, "version"), (RunStarted, "version")):
        assert cls.model_fields[field].default == SCHEMA_VERSION


def test_the_export_writes_every_file_and_removes_what_is_no_more(tmp_path: Path) -> None:
    old = tmp_path / "schemas" / "Forgotten.json"
    old.parent.mkdir()
    old.write_text("{}")
    assert export(tmp_path) == 0
    assert not old.exists()
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.json")} == set(documents_of("1"))


@pytest.mark.requirement("RUN-15")
def test_every_queue_task_event_and_stream_is_in_the_document() -> None:
    document = asyncapi("1.0")
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert {names.queue_of(kind, lane) for kind in names.TASK_OF for lane in ("interactive", "background")} < addresses
    assert names.CONTROL_QUEUE in addresses
    assert {keys.address(stream) for stream in ("events", "inbox", "audio")} < addresses
    told = {message["name"] for message in document["components"]["messages"].values()}
    assert {*names.TASK_OF.values(), *EVENT_TYPES, *SIGNALS, names.SIGNAL, names.WAKE, names.DELIVER} < told


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi("1.0")
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert isinstance(found, dict)


def references(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        yield from (str(value) for key, value in found.items() if key == "$ref")
        found = list(found.values())
    if isinstance(found, list):
        for each in found:
            yield from references(each)


# -- what counts as breaking -------------------------------------------------------------------------------------------


def changed(name: str, **changes: Any) -> list[str]:
    """Return what breaks when the fields of a schema's properties change so; None takes a property away."""
    old = json_schemas()[name]
    new = copy.deepcopy(old)
    required = changes.pop("required", None)
    for field, value in changes.items():
        if value is None:
            del new["properties"][field]
        else:
            new["properties"][field] = {**new["properties"].get(field, {}), **value}
    if required is not None:
        new["required"] = required
    return breaking(name, old, new)


def test_a_new_optional_field_breaks_nothing() -> None:
    assert changed("ChatRequest", wish={"type": "string"}) == []
    assert changed("ChatResult", wish={"type": "string"}) == []


def test_a_new_optional_field_of_one_of_several_forms_breaks_nothing_and_a_duty_does() -> None:
    old, new, worse = (copy.deepcopy(json_schemas()["ChatRequest"]) for _ in range(3))
    new["$defs"]["ToolSpec"]["properties"]["wish"] = {"type": "string"}
    worse["$defs"]["ToolSpec"]["required"].append("effect")
    assert breaking("ChatRequest", old, new) == []
    assert len(breaking("ChatRequest", old, worse)) == 1
    assert len(breaking("ChatRequest", new, old)) == 1


def test_a_field_that_goes_breaks() -> None:
    assert changed("ChatRequest", temperature=None) == ["ChatRequest.temperature is gone"]
    assert changed("ChatResult", message=None) == ["ChatResult.message is gone"]


def test_a_new_duty_of_producers_breaks() -> None:
    assert changed("ChatRequest", required=["messages", "model", "seed"]) != []


def test_a_promise_to_readers_that_is_taken_back_breaks() -> None:
    assert changed("Event", required=["seq"]) != []


def test_another_type_or_a_narrower_choice_breaks() -> None:
    assert changed("Event", seq={"type": "string"}) != []
    assert changed("BatchRequest", lane={"enum": ["interactive"]}) != []
    assert changed("SttRequest", sample_rate={"maximum": 1}) != []


def test_more_than_the_one_choice_that_there_was_breaks_nobody_who_writes() -> None:
    one = {"properties": {"channels": {"const": 1, "type": "integer"}}}
    for more, breaks in (
        ({"enum": [1, 2]}, False),
        ({"minimum": 1}, False),
        ({"enum": [2]}, True),
        ({"const": 2}, True),
    ):
        assert bool(breaking("SttRequest", one, {"properties": {"channels": more}})) is breaks
        assert breaking("SttResult", one, {"properties": {"channels": more}}) != []


def test_a_value_that_is_no_more_breaks() -> None:
    assert breaking("ChatDelta", json_schemas()["ChatDelta"], None) == ["ChatDelta is gone"]
