"""Whole transcripts in their formats, and the sound files they come from."""

import json
from typing import Any

import pytest

from workers.emulator.speech import read_wav, write_wav
from workers.emulator.speech.form import Format, Order
from workers.emulator.speech.formats import render
from workers.emulator.speech.transcript import Segment, Word
from workers.emulator.speech.wav import BadAudio

pytestmark = pytest.mark.requirement("EMU-01")

SEGMENTS = (
    Segment(0, (Word("turn", 0.5, 0.75, 0.9, True), Word("on", 0.75, 1.0, 0.8, True))),
    Segment(1, (Word("light", 3661.5, 3662.0, 1.0, True),)),
)


def _rendered(name: Format, **order: Any) -> str:
    return render(SEGMENTS, 3700.0, Order("transcribe", name, **order)).text


def test_plain_formats_have_the_text() -> None:
    assert json.loads(_rendered("json")) == {"text": "turn on light"}
    assert _rendered("text") == "turn on light\n"


def test_subtitles_have_a_cue_for_each_segment() -> None:
    cues = ("00:00:00{0}500 --> 00:00:01{0}000\nturn on\n", "01:01:01{0}500 --> 01:01:02{0}000\nlight\n")
    assert _rendered("srt") == "\n".join(f"{number}\n{cue.format(',')}" for number, cue in enumerate(cues, 1))
    assert _rendered("vtt") == "WEBVTT\n\n" + "\n".join(cue.format(".") for cue in cues)


def test_the_long_format_has_what_was_asked_for() -> None:
    body = json.loads(_rendered("verbose_json", words=True, segments=True, diarize=True))
    assert (body["task"], body["duration"], body["text"]) == ("transcribe", 3700.0, "turn on light")
    assert [word["word"] for word in body["words"]] == ["turn", "on", "light"]
    assert {word["speaker_id"] for word in body["words"]} == {"0"}
    first = body["segments"][0]
    assert (first["id"], first["start"], first["end"], len(first["words"])) == (0, 0.5, 1.0, 2)
    assert "words" not in json.loads(_rendered("verbose_json"))
    assert "segments" not in json.loads(_rendered("verbose_json", words=True, segments=False))


def test_a_file_gives_back_what_was_written() -> None:
    assert read_wav(write_wav(b"\x01\x00\x02\x00")) == b"\x01\x00\x02\x00"


def test_channels_are_mixed() -> None:
    stereo = bytearray(write_wav(b"\x02\x00\x04\x00\x06\x00\x08\x00"))
    stereo[22], stereo[32] = 2, 4
    assert read_wav(bytes(stereo)) == b"\x03\x00\x07\x00"


@pytest.mark.parametrize("data", [b"", b"ID3 something else", write_wav(b"")[:20]])
def test_another_kind_of_file_is_refused(data: bytes) -> None:
    with pytest.raises(BadAudio, match="reads WAV"):
        read_wav(data)


def test_another_width_is_refused() -> None:
    wide = bytearray(write_wav(b"\x00" * 8))
    wide[32], wide[34] = 4, 32
    with pytest.raises(BadAudio, match="16 bits, not 32"):
        read_wav(bytes(wide))
