"""Which files, and which wishes for them, are refused before anything is sent."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from api_contracts.client.speaking import file_fields
from api_contracts.runs import RunQueued
from api_contracts.stt_files import MOST_AUDIO_BYTES, SttFileRequest, SttFileResult
from api_contracts.vocabulary import typed_result

pytestmark = pytest.mark.requirement("STT-19", "RUN-14")

URL = "https://example.org/talk.mp3"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "one of url and audio_b64"),
        ({"url": URL, "audio_b64": "QUJD"}, "one of url and audio_b64"),
        ({"audio_b64": ""}, "the file is empty"),
        ({"audio_b64": "not base64!"}, "not base64"),
        ({"audio_b64": "QUJ"}, "not base64"),
        ({"url": "file:///etc/passwd"}, "http:// or https://"),
        ({"url": "https://"}, "http:// or https://"),
        ({"url": "https://[half"}, "http:// or https://"),
        ({"url": "https://example.org/a b"}, "quoted"),
        ({"url": URL, "response_format": "docx"}, "response_format"),
        ({"url": URL, "model": "whisper-9"}, "model"),
        ({"url": URL, "temperature": [0.1, 2]}, "temperature"),
        ({"url": URL, "translate": True, "language": "de"}, "neither language nor diarize"),
        ({"url": URL, "translate": True, "diarize": True}, "neither language nor diarize"),
        ({"url": URL, "diarize": True, "response_format": "json"}, "diarize needs"),
        ({"url": URL, "diarize": True, "timestamp_granularities": ["segment"]}, "diarize needs"),
        ({"url": URL, "min_speakers": 3, "max_speakers": 2}, "max_speakers"),
        ({"url": URL, "max_speakers": 0}, "max_speakers"),
        ({"url": URL, "mood": "good"}, "mood"),
        ({"url": URL, "filename": 'a"b'}, "filename"),
    ],
)
def test_it_is_refused_and_says_why(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        SttFileRequest.model_validate(fields)


@pytest.mark.long
def test_a_file_over_the_limit_is_refused_and_one_at_the_limit_is_not(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(bytes(MOST_AUDIO_BYTES))
    SttFileRequest.model_validate(file_fields(path, {}))
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValidationError, match="over 64 MB: give its url"):
        SttFileRequest.model_validate(file_fields(path, {}))


def test_a_file_is_its_path_its_bytes_or_its_url(tmp_path: Path) -> None:
    path = tmp_path / 'a "talk".wav'
    path.write_bytes(b"RIFF")
    encoded = base64.b64encode(b"RIFF").decode()
    assert file_fields(path, {}) == {"audio_b64": encoded, "filename": "a _talk_.wav"}
    assert file_fields(path, {"filename": "mine"}) == {"audio_b64": encoded}
    assert file_fields(bytearray(b"RIFF"), {}) == {"audio_b64": encoded}
    assert file_fields(URL, {}) == {"url": URL}
    with pytest.raises(TypeError, match="not int"):
        file_fields(5, {})  # type: ignore[arg-type]


def test_a_stored_result_is_read_as_its_kind() -> None:
    result = typed_result(
        {"run_id": "run-1", "kind": "stt_file", "status": "completed", "text": "good", "mood": "good"}
    )
    assert isinstance(result, SttFileResult)
    assert (result.text, result.srt) == ("good", None)


@pytest.mark.requirement("RUN-15", "RUN-24")
def test_a_reader_of_the_first_release_meets_a_kind_that_it_knows() -> None:
    queued = RunQueued(kind="stt_file", digest="d")
    written = json.loads(queued.to_json())
    assert (written["kind"], written["file"]) == ("stt", True)
    assert RunQueued.model_validate(written) == queued
    assert RunQueued.model_validate(written | {"file": None}).kind == "stt"
    assert RunQueued.model_validate({"kind": "chat", "digest": "d", "file": True}).file is None
