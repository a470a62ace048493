"""Requests in proto3 JSON: both spellings, closed, int64 as text or number (WIRE 3)."""

import json
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from workers.emulator.batch.messages import (
    CreateDataset,
    JobBody,
    Message,
    UploadEndpoint,
    dump_parameters,
    read_message,
)
from workers.emulator.batch.stamps import fresh_stamp, last_segment, read_duration, stamp
from workers.emulator.errors import Refused

pytestmark = pytest.mark.requirement("EMU-01")
M = TypeVar("M", bound=Message)


def _refusal(kind: type[Message], raw: Any) -> str:
    with pytest.raises(Refused) as caught:
        read_message(kind, raw)
    body = json.loads(caught.value.reply.text)
    assert (caught.value.reply.status, body["code"], body["details"]) == (400, 3, [])
    return str(body["message"])


@pytest.mark.parametrize(
    "dataset",
    [
        {"exampleCount": "3"},
        {"exampleCount": 3},
        {"example_count": "3"},
        {"example_count": 3.0},
    ],
)
def test_counts_come_in_either_spelling_as_text_or_number(dataset: dict[str, Any]) -> None:
    assert read_message(CreateDataset, {"datasetId": "in-1", "dataset": dataset}).dataset.example_count == 3


def test_a_field_that_nobody_knows_is_named_as_it_was_sent() -> None:
    assert _refusal(CreateDataset, {"datasetId": "a", "example_count": 3, "dataset": {}}) == (
        'unknown field "example_count"'
    )
    assert _refusal(CreateDataset, {"datasetId": "a", "dataset": {"exampleCnt": 3}}) == 'unknown field "exampleCnt"'


@pytest.mark.parametrize(
    ("kind", "raw", "says"),
    [
        (CreateDataset, {"dataset": {}}, "dataset_id is required"),
        (CreateDataset, {"datasetId": "a"}, "dataset is required"),
        (CreateDataset, [], "invalid value for the body"),
        (CreateDataset, {"datasetId": 5, "dataset": {}}, "invalid value for dataset_id: 5"),
        (CreateDataset, {"datasetId": "a", "dataset": {"exampleCount": "x"}}, "invalid value for example_count: 'x'"),
        (CreateDataset, {"datasetId": "a", "dataset": {"exampleCount": True}}, "invalid value for example_count"),
        (CreateDataset, {"datasetId": "a", "dataset": {"exampleCount": 2**63}}, "invalid value for example_count"),
        (CreateDataset, {"datasetId": "a", "dataset": {"format": "chat"}}, "invalid value for format"),
        (CreateDataset, {"datasetId": "a", "dataset_id": "a", "dataset": {}}, 'duplicate field "dataset_id"'),
        (JobBody, {"maxJobDuration": "1 day"}, "invalid value for max_job_duration"),
        (JobBody, {"maxJobDuration": 86400}, "invalid value for max_job_duration"),
        (JobBody, {"inferenceParameters": {"maxTokens": 2**31}}, "invalid value for max_tokens"),
        (JobBody, {"inferenceParameters": {"temperature": "warm"}}, "invalid value for temperature"),
        (JobBody, {"inferenceParameters": {"stop": ["a"]}}, 'unknown field "stop"'),
        (JobBody, {"precision": "FP3"}, "invalid value for precision"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(kind: type[Message], raw: Any, says: str) -> None:
    assert _refusal(kind, raw).startswith(says)


def test_enums_come_as_names_or_numbers() -> None:
    assert read_message(JobBody, {"precision": 1}).precision == "FP16"
    assert read_message(JobBody, {"precision": "NF4"}).precision == "NF4"


def test_a_null_is_a_field_that_was_not_given() -> None:
    job = read_message(JobBody, {"model": None, "maxJobDuration": None, "inferenceParameters": {"topK": None}})
    assert job.model == ""
    assert job.inference_parameters is not None
    assert job.inference_parameters.given == {}


def test_a_resource_can_be_sent_back_as_it_came() -> None:
    sent = {"model": "m", "name": "accounts/a/batchInferenceJobs/j", "state": "JOB_STATE_RUNNING", "placement": None}
    assert read_message(JobBody, sent).model == "m"


def test_names_of_files_are_no_fields() -> None:
    assert read_message(UploadEndpoint, {"filenameToSize": {"my_file.jsonl": "12"}}).filename_to_size == {
        "my_file.jsonl": 12
    }


def test_parameters_become_those_of_a_chat_request() -> None:
    body = {"maxTokens": "256", "topP": 1, "extraBody": '{"stop":["\\n"],"seed":5}'}
    parameters = read_message(JobBody, {"inferenceParameters": body}).inference_parameters
    assert parameters is not None
    assert parameters.given == {"max_tokens": 256, "top_p": 1.0, "stop": ["\n"], "seed": 5}
    assert dump_parameters(parameters) == {"extraBody": body["extraBody"], "maxTokens": 256, "topP": 1.0}
    assert dump_parameters(None) is None


@pytest.mark.parametrize("extra", ["{", "[]", "5", "null"])
def test_an_extra_body_must_hold_an_object(extra: str) -> None:
    parameters = read_message(JobBody, {"inferenceParameters": {"extraBody": extra}}).inference_parameters
    assert parameters is not None
    with pytest.raises(Refused, match="extra_body"):
        _ = parameters.given


def test_times_have_nanoseconds_when_fresh_and_microseconds_later() -> None:
    assert stamp(1_790_000_000.25) == "2026-09-21T14:13:20.250000Z"
    assert fresh_stamp(1_790_000_000.25).startswith("2026-09-21T14:13:20.250000")
    assert len(fresh_stamp(1_790_000_000.25)) == len("2026-09-21T14:13:20.250000123Z")


def test_durations_and_names_are_read() -> None:
    assert (read_duration("86400s"), read_duration("0.5s")) == (86_400.0, 0.5)
    for wrong in ("5", "-5s", "5m", "s", ""):
        with pytest.raises(ValueError, match="duration"):
            read_duration(wrong)
    assert (last_segment("accounts/a/datasets/d"), last_segment("d")) == ("d", "d")


def test_every_field_has_both_spellings() -> None:
    def names(kind: type[BaseModel]) -> set[str]:
        return set(kind.model_fields)

    for kind in (CreateDataset, JobBody, UploadEndpoint):
        for name in names(kind):
            assert kind.model_fields[name].alias == name.split("_")[0] + "".join(
                part.capitalize() for part in name.split("_")[1:]
            )
