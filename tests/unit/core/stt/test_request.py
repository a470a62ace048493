"""What a session's request takes, and what a connection is told of it."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from pydantic import TypeAdapter, ValidationError

from api_contracts import stt
from api_contracts.audio import SttSource
from api_contracts.stt import SttOptions, SttRequest, Vad
from tests.unit.core.stt.playing import request
from workers.core.stt.query import query_of

GRANULARITIES = [("timestamp_granularities", "word"), ("timestamp_granularities", "segment")]


def test_a_request_needs_nothing() -> None:
    asked = SttRequest()
    assert (asked.sample_rate, asked.encoding, asked.channels) == (16_000, "s16", 1)
    assert (asked.text_timeout_s, asked.idle_timeout_s, asked.timestamps) == (1.0, 60.0, ["word", "segment"])


@pytest.mark.requirement("STT-03")
@pytest.mark.parametrize(
    "fields", [{"sample_rate": 8000}, {"sample_rate": 48_000, "encoding": "f32", "channels": 2}, {"encoding": "alaw"}]
)
def test_audio_of_another_form_is_taken(fields: dict[str, Any]) -> None:
    assert request(**fields).source == SttSource(**fields)
    assert not request(**fields).source.is_wire


@pytest.mark.parametrize(
    "fields",
    [
        {"text_timeout_s": 0.9}, {"text_timeout_s": 29.1}, {"language": "not a code"}, {"temperature": -1},
        {"idle_timeout_s": 0}, {"max_duration_s": 90_000}, {"vad": {"treshold": 0.1}}, {"sample_rates": 16_000},
        {"timestamps": ["letter"]}, {"max_retries": 11},
        {"sample_rate": 7_999}, {"sample_rate": 48_001}, {"sample_rate": 8000.5}, {"encoding": "opus"}, {"channels": 3},
        {"channels": True}, {"sample_rate": True},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)


@pytest.mark.requirement("STT-02")
def test_what_is_unset_is_absent_from_the_query() -> None:
    """All but the text timeout: the provider's default has moved before (WIRE 7.24)."""
    assert query_of(SttOptions()) == [
        ("response_format", "verbose_json"),
        ("text_timeout_seconds", "1.0"),
        *GRANULARITIES,
    ]


@pytest.mark.requirement("STT-02")
def test_every_option_reaches_the_query_as_documented() -> None:
    options = SttOptions(
        language="zh-hant", prompt="a b&c=ü", temperature=0.0, text_timeout_s=2.5, model="m", max_retries=3,
        vad=Vad(skip=False, threshold=0.15, extra={"min_silence": True}),
    )  # fmt: skip
    query = query_of(options)
    assert query == [
        ("response_format", "verbose_json"),
        ("language", "zh-hant"),
        ("prompt", "a b&c=ü"),
        ("temperature", "0.0"),
        ("model", "m"),
        ("skip_vad", "false"),
        ("vad_kwargs", '{"min_silence":true,"threshold":0.15}'),
        ("text_timeout_seconds", "2.5"),
        ("max_retries", "3"),
        *GRANULARITIES,
    ]
    assert parse_qsl(urlencode(query)) == query
    assert json.loads(dict(query)["vad_kwargs"]) == {"min_silence": True, "threshold": 0.15}


def test_a_threshold_of_zero_is_sent() -> None:
    assert dict(query_of(SttOptions(vad=Vad(threshold=0.0))))["vad_kwargs"] == '{"threshold":0.0}'
    assert "vad_kwargs" not in dict(query_of(SttOptions(vad=Vad(skip=True))))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"type":"flush"}', stt.Flush),
        ('{"type":"clear"}', stt.Clear),
        ('{"type":"end"}', stt.End),
        ('{"type":"options","language":"de"}', stt.ChangeOptions),
    ],
)
def test_controls_are_told_apart_by_their_type(text: str, kind: type) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(stt.AudioControl)
    assert isinstance(adapter.validate_json(text), kind)


def test_every_type_of_event_has_a_class_of_its_own() -> None:
    types = [event.TYPE for event in stt.STT_EVENTS]
    assert len(set(types)) == len(types) == 15
    assert all(each.startswith("stt.") for each in types)
