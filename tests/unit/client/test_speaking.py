"""What a session's producer sends, before it is sent (`client.speaking`)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts import keys
from api_contracts.client.scripts import AUDIO, UNTAKEN_S
from api_contracts.client.speaking import MOST_BYTES, audio_calls, control_call, is_sent
from api_contracts.failure import RunNotFound
from api_contracts.stt import ChangeOptions, Clear, End, Flush, Vad

TTL_S = 1.5


def pieces(pcm: bytes) -> list[bytes]:
    """What the entries of this audio hold."""
    return [bytes(call.args[1]) for call in audio_calls("run-1", pcm, TTL_S)]  # type: ignore[arg-type]


def control(made: Any) -> dict[str, Any]:
    call = control_call("run-1", made, TTL_S)
    assert call.args[0] == "c"
    told: dict[str, Any] = json.loads(str(call.args[1]))
    return told


@pytest.mark.requirement("STT-01")
def test_audio_is_field_a_of_an_entry_as_it_is() -> None:
    (call,) = audio_calls("run-1", b"\x01\x02\x03", TTL_S)
    assert (call.script, call.keys) == (AUDIO, (keys.lease("run-1"), keys.audio("run-1")))
    assert call.args == ("a", b"\x01\x02\x03", 1500, UNTAKEN_S * 1000)


@given(st.integers(0, 3 * MOST_BYTES + 1))
def test_audio_of_any_length_becomes_entries_of_64_kb_at_most_and_no_byte_is_lost(length: int) -> None:
    pcm = (bytes(range(256)) * (length // 256 + 1))[:length]
    made = pieces(pcm)
    assert b"".join(made) == pcm
    assert all(0 < len(piece) <= MOST_BYTES for piece in made)
    assert len(made) == -(-length // MOST_BYTES)


def test_no_audio_is_no_entry() -> None:
    assert pieces(b"") == []


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_bytes_may_come_in_any_of_their_types(make: Any) -> None:
    assert pieces(make(b"\x00\x01")) == [b"\x00\x01"]


def test_what_was_sent_stays_when_the_producer_writes_over_its_buffer() -> None:
    buffer = bytearray(b"\x01\x02")
    (call,) = audio_calls("run-1", memoryview(buffer), TTL_S)
    buffer[:] = b"\x00\x00"
    assert call.args[1] == b"\x01\x02"


@pytest.mark.parametrize("wrong", ["audio", [1, 2], 3, None])
def test_what_is_no_bytes_is_refused_with_what_it_should_be(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"audio is bytes, not {type(wrong).__name__}"):
        list(audio_calls("run-1", wrong, TTL_S))


@pytest.mark.requirement("STT-01")
@pytest.mark.parametrize(
    ("made", "text"), [(Flush(), '{"type":"flush"}'), (Clear(), '{"type":"clear"}'), (End(), '{"type":"end"}')]
)
def test_a_control_is_field_c_as_json(made: Any, text: str) -> None:
    call = control_call("run-1", made, TTL_S)
    assert (call.script, call.keys) == (AUDIO, (keys.lease("run-1"), keys.audio("run-1")))
    assert call.args == ("c", text, 1500, UNTAKEN_S * 1000)


@pytest.mark.requirement("STT-01", "STT-12")
def test_options_that_were_not_given_are_left_out_and_null_is_told() -> None:
    assert control(ChangeOptions(language="fr")) == {"type": "options", "language": "fr"}
    assert control(ChangeOptions(prompt=None, text_timeout_s=2)) == {
        "type": "options", "prompt": None, "text_timeout_s": 2.0,
    }  # fmt: skip
    assert control(ChangeOptions()) == {"type": "options"}


@pytest.mark.requirement("STT-12")
def test_voice_detection_that_is_given_in_part_is_told_in_part() -> None:
    made = ChangeOptions(vad=Vad(threshold=0.5))
    assert control(made) == {"type": "options", "vad": {"threshold": 0.5}}
    assert ChangeOptions.model_validate_json(json.dumps(control(made))) == made


def test_a_reply_says_whether_anybody_listens() -> None:
    assert is_sent("run-1", "sent")
    assert not is_sent("run-1", "finished")
    with pytest.raises(RunNotFound, match="run-1"):
        is_sent("run-1", "missing")
