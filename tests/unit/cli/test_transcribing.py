"""What `transcribe` reads, when it speaks and what it shows: the parts that need no service."""

import io
import shlex
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from api_contracts import stt
from api_contracts.runs import EventData, RunResumed, RunStarted
from api_contracts.stt import SttResult, SttWord
from workers.cli.captions import (
    Aside,
    Caption,
    Final,
    Interim,
    Screen,
    captions_of,
    fitted,
    printable,
    summary_of,
    table_of,
)
from workers.cli.sound import (
    MOST_BEHIND_S,
    PIECE_BYTES,
    Form,
    NotWav,
    Pace,
    is_wav,
    pieces,
    read_form,
    refusal,
    up_to,
)
from workers.cli.transcribing import heard, opened
from workers.errors import Misconfigured

SECOND = bytes(range(250)) * 128


def wav(pcm: bytes = SECOND, *, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    """A WAV file as the standard library writes it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, width, rate, 0, "NONE", ""))
        writer.writeframes(pcm)
    return file.getvalue()


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + bytes(len(body) % 2)


def made(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


def description(kind: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16, more: bytes = b"") -> bytes:
    body = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    return chunk(b"fmt ", body + more)


def dripping(data: bytes, at_once: int) -> Callable[[int], bytes]:
    """Read as a pipe does: never more than so many bytes at a time."""
    file = io.BytesIO(data)
    return lambda size: file.read(min(size, at_once))


def form_of(data: bytes) -> Form:
    read = io.BytesIO(data).read
    assert is_wav(read(12))
    return read_form(read)


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 7, 3_200, 10**9])
def test_sound_comes_in_pieces_of_a_tenth_of_a_second_however_it_is_read(at_once: int) -> None:
    found = list(pieces(dripping(SECOND[:10_000], at_once)))
    assert [len(piece) for piece in found] == [3_200, 3_200, 3_200, 400]
    assert b"".join(found) == SECOND[:10_000]


@given(st.binary(max_size=9_000), st.integers(0, 9_000), st.integers(0, 12), st.integers(1, 5_000))
def test_no_byte_is_lost_or_repeated_or_read_beyond_the_limit(data: bytes, limit: int, head: int, at_once: int) -> None:
    read = dripping(data, at_once)
    first = up_to(read, head)
    found = list(pieces(read, first, limit))
    assert b"".join(found) == data[:limit]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in found)
    assert all(len(piece) == PIECE_BYTES for piece in found[:-1])


@pytest.mark.requirement("STT-22")
@pytest.mark.parametrize("name", ["-", "talk.wav"])
def test_a_wav_file_is_heard_without_its_header_and_what_stands_after_its_samples(name: str) -> None:
    data = wav() + chunk(b"LIST", b"made by somebody")
    assert b"".join(heard(name, dripping(data, 5))) == SECOND


@pytest.mark.requirement("STT-22")
def test_a_pipe_without_a_header_is_raw_sound() -> None:
    assert b"".join(heard("-", dripping(SECOND, 5))) == SECOND
    assert b"".join(heard("-", dripping(b"RIFF", 5))) == b"RIFF"


def test_chunks_before_the_samples_are_passed_over() -> None:
    data = made(chunk(b"LIST", bytes(70_001)), description(), chunk(b"fact", b"1234"), chunk(b"data", SECOND))
    assert b"".join(heard("talk.wav", io.BytesIO(data).read)) == SECOND


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_header_that_was_written_to_a_pipe_does_not_know_its_length(length: int) -> None:
    data = made(description(), chunk(b"data", SECOND, length))
    assert b"".join(heard("-", dripping(data, 999))) == SECOND
    assert b"".join(heard("talk.wav", dripping(data, 999))) == SECOND


def test_a_file_that_was_cut_off_is_heard_as_far_as_it_goes() -> None:
    assert b"".join(heard("talk.wav", io.BytesIO(wav()[:-1_001]).read)) == SECOND[:-1_001]


def test_the_form_behind_an_extensible_header_is_found() -> None:
    guid = struct.pack("<HHIH", 22, 16, 4, 1) + b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    data = made(description(0xFFFE, more=guid), chunk(b"data", SECOND))
    assert form_of(data) == Form(1, 1, 16_000, 16, len(SECOND))
    assert b"".join(heard("talk.wav", io.BytesIO(data).read)) == SECOND


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (wav(rate=44_100, channels=2), "44100 Hz, stereo, 16 bit PCM"),
        (wav(rate=8_000), "8000 Hz, mono, 16 bit PCM"),
        (wav(width=3), "16000 Hz, mono, 24 bit PCM"),
        (wav(width=1), "16000 Hz, mono, 8 bit PCM"),
        (wav(channels=6), "16000 Hz, 6 channels, 16 bit PCM"),
        (made(description(3, bits=32), chunk(b"data", SECOND)), "16000 Hz, mono, 32 bit floating point"),
        (made(description(2, bits=4, more=bytes(34)), chunk(b"data", SECOND)), "16000 Hz, mono, 4 bit ADPCM"),
        (made(description(7, rate=8_000, bits=8), chunk(b"data", SECOND)), "8000 Hz, mono, 8 bit mu-law"),
        (made(description(0x161), chunk(b"data", SECOND)), "16000 Hz, mono, 16 bit format 353"),
        (b"ID3\x03 not sound as we know it", "no WAV file"),
        (made(chunk(b"data", SECOND)), "a WAV file that cannot be read (its samples come before their description)"),
        (made(description())[:30], "a WAV file that cannot be read (it ends in its header)"),
        (made(chunk(b"fmt ", b"12")), "a WAV file that cannot be read (its description is cut off)"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_what_it_is_and_what_would_convert_it(data: bytes, said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        heard("a talk.wav", io.BytesIO(data).read)
    assert str(refused.value) == (
        f"a talk.wav is {said}; 16000 Hz, mono, 16 bit PCM is needed: "
        "ffmpeg -i 'a talk.wav' -ar 16000 -ac 1 -c:a pcm_s16le 'a talk-16k.wav'"
    )


def test_a_pipe_that_cannot_be_sent_is_refused_with_the_pipe_that_can() -> None:
    with pytest.raises(Misconfigured) as refused:
        heard("-", io.BytesIO(wav(rate=48_000)).read)
    assert str(refused.value) == (
        "standard input is 48000 Hz, mono, 16 bit PCM; 16000 Hz, mono, 16 bit PCM is needed: "
        "ffmpeg -i - -ar 16000 -ac 1 -f s16le - | fireworks-workers transcribe -"
    )


def test_a_shell_takes_the_command_as_it_stands() -> None:
    _, command = refusal("it's/a talk.mp3", "x").split("needed: ")
    assert shlex.split(command) == [
        "ffmpeg", "-i", "it's/a talk.mp3", "-ar", "16000", "-ac", "1", "-c:a", "pcm_s16le", "it's/a talk-16k.wav",
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"", wav(b"")])
@pytest.mark.parametrize(("name", "said"), [("-", "standard input"), ("t.wav", "t.wav")])
def test_no_sound_is_refused(name: str, data: bytes, said: str) -> None:
    with pytest.raises(Misconfigured, match=f"^{said} holds no sound$"):
        heard(name, io.BytesIO(data).read)


def test_a_file_that_cannot_be_opened_or_read_says_why(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.wav", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(Misconfigured, match=f"cannot read {path}: {why}"), opened(str(path)):
            pass

    def broken(size: int) -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(Misconfigured, match=r"cannot read standard input: Input/output error"):
        heard("-", broken)


def test_a_file_is_opened_for_as_long_as_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav())
    with opened(str(path)) as found:
        assert b"".join(found) == SECOND


def test_a_header_that_ends_too_soon_is_no_endless_loop() -> None:
    with pytest.raises(NotWav):
        read_form(io.BytesIO(chunk(b"LIST", b"", 0xFFFFFFFF)).read)


# -- pacing ------------------------------------------------------------------------------------------------------------


def due(pace: Pace, *now: float, size: int = PIECE_BYTES) -> list[float]:
    return [pace.next(bytes(size), each) for each in now]


@pytest.mark.requirement("STT-22")
def test_each_piece_is_due_when_the_one_before_is_over() -> None:
    assert due(Pace(1.0, 50.0), 50, 50, 50, 50) == pytest.approx([50.0, 50.1, 50.2, 50.3])
    assert due(Pace(2.0, 50.0), 50, 50, 50) == pytest.approx([50.0, 50.05, 50.1])
    assert due(Pace(1.0, 0.0), 0, 0, 0, size=1_600) == pytest.approx([0.0, 0.05, 0.1])


def test_a_short_delay_is_caught_up_with_and_a_long_one_is_not() -> None:
    assert due(Pace(1.0, 0.0), 0, 0.5, 0.5, 0.5) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert due(Pace(1.0, 0.0), 0, 60, 60, 60) == pytest.approx([0.0, 59.0, 59.1, 59.2])


@given(st.lists(st.floats(0, 20), min_size=1, max_size=60), st.sampled_from([0.5, 1.0, 4.0]))
def test_sound_is_never_ahead_of_its_own_time(delays: list[float], speed: float) -> None:
    """Over any stretch: as much sound as time, and what had come late."""
    pace, now, said = Pace(speed, 0.0), 0.0, []
    for delay in delays:
        now += delay
        now = max(now, pace.next(bytes(PIECE_BYTES), now))
        said.append(now)
    for first, start in enumerate(said):
        for last, end in enumerate(said[first:], first):
            assert (last - first) * 0.1 / speed <= end - start + MOST_BEHIND_S + 1e-6


# -- showing -----------------------------------------------------------------------------------------------------------

USAGE = stt.SttUsage(audio=stt.AudioMeters(), settled_at=1, anchor_entry="0", anchor_at=0)


def final(text: str) -> stt.SttFinal:
    return stt.SttFinal(
        conn=1, text=text, start=0, end=1, segments=[0], words=[], anchor_entry="0", anchor_at=0
    )  # fmt: skip


def interim(text: str) -> stt.SttInterim:
    return stt.SttInterim(conn=1, text=text, start=0, end=1, segments=[0])


@pytest.mark.requirement("STT-22")
@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (final("so be it"), [Final("so be it")]),
        (interim("so b"), [Interim("so b")]),
        (stt.SttRetracted(conn=1, segments=[0], text="so b"), [Interim()]),
        (RunResumed(owner="bob"), [Aside("another worker took the session over")]),
        (stt.SttLost(conn=1, code=1011, reason="x\x1b[2J"), [Aside("the connection was lost: 1011 x [2J")]),
        (stt.SttLost(conn=1), [Aside("the connection was lost")]),
        (stt.SttReconnecting(conn=1, failures=2, wait_s=0.53, code=503, reason="busy"),
         [Aside("connecting again in 0.5 s (try 3 in a row): 503 busy")]),
        (stt.SttReconnecting(conn=1, failures=0, wait_s=0, reason="the options were changed"),
         [Aside("connecting again: the options were changed")]),
        (stt.SttConnected(conn=1, start_at=0), []),
        (stt.SttConnected(conn=2, start_at=24_000), [Aside("connected; what follows 1.5 s is sent again")]),
        (stt.SttGap(start=1, end=2.55, start_at=16_000, end_at=40_800, cause="lost"),
         [Aside("no transcript from 1.0 to 2.5 s (lost)")]),
        (stt.SttTrouble(kind="garbled", message="not JSON"), [Aside("garbled: not JSON")]),
        (stt.SttStartOfSpeech(start=0), []), (stt.SttEndOfSpeech(end=0), []), (USAGE, []), (RunStarted(owner="a"), []),
        (None, []),
    ],
)  # fmt: skip
def test_what_is_shown_of_an_event(event: EventData | None, shown: list[Any]) -> None:
    assert list(captions_of(event)) == shown


def test_every_type_of_event_can_be_shown() -> None:
    for kind in stt.STT_EVENTS:
        for _ in captions_of(kind.model_construct(
            text="", code=None, reason="", wait_s=0.0, failures=0, conn=2, start_at=0, start=0.0, end=0.0,
            cause="lost", kind="error", message="",
        )):  # fmt: skip
            pass


def test_what_would_steer_a_terminal_or_break_a_line_is_not_shown() -> None:
    assert printable("one\ntwo\x1b[31m \x07 drei 四\u202e ") == "one two [31m drei 四"


@pytest.mark.parametrize(
    ("text", "cells", "shown"),
    [
        ("hello", 5, "hello"), ("hello", 4, "…llo"), ("x", 0, ""),
        ("四五六", 6, "四五六"), ("四五六", 5, "…五六"), ("四五", 2, "…"),
    ],
)  # fmt: skip
def test_an_interim_that_is_too_long_shows_its_end(text: str, cells: int, shown: str) -> None:
    assert fitted(text, cells) == shown


class Terminal(io.StringIO):
    """A text file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Stage:
    """A screen, and what it wrote: `out` and `err` apart."""

    def __init__(self, err: io.StringIO, *, interims: bool = False) -> None:
        self.out, self.err = io.StringIO(), err
        console = Console(file=err, width=20, highlight=False, emoji=False)
        self.screen = Screen(self.out, console, interims=interims)

    def show(self, *events: EventData) -> tuple[str, str]:
        for event in events:
            for caption in captions_of(event):
                self.screen.show(caption)
        return self.out.getvalue(), self.err.getvalue()


@pytest.fixture(autouse=True)
def _a_terminal_with_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.requirement("STT-22")
def test_on_a_terminal_the_interim_is_rewritten_in_place_and_gone_before_a_final() -> None:
    out, err = Stage(Terminal()).show(interim("so"), interim("so be"), interim("so be"), final("so be it"))
    assert out == "so be it\n"
    assert err == "\x1b[2mso\x1b[0m\r\x1b[2K\x1b[2mso be\x1b[0m\r\x1b[2K"


@pytest.mark.requirement("STT-22")
@pytest.mark.parametrize("caption", [Interim(), Final("f"), Aside("a")])
def test_whatever_comes_next_the_interim_is_gone(caption: Caption) -> None:
    stage = Stage(Terminal())
    for each in (Interim("so"), caption, caption):
        stage.screen.show(each)
    assert stage.err.getvalue().startswith("\x1b[2mso\x1b[0m\r\x1b[2K")
    assert stage.err.getvalue().count("\r") == 1


def test_an_interim_never_fills_the_line_to_its_end() -> None:
    _, err = Stage(Terminal()).show(interim("0123456789" * 3))
    assert err == "\x1b[2m…234567890123456789\x1b[0m"


@pytest.mark.requirement("STT-22")
def test_without_a_terminal_there_are_no_interims_unless_they_are_asked_for() -> None:
    events = (interim("so"), RunResumed(owner="b"), final("so be it"))
    aside = "another worker took the session over\n"
    assert Stage(io.StringIO()).show(*events) == ("so be it\n", aside)
    assert Stage(io.StringIO(), interims=True).show(*events) == ("so be it\n", f"so\n{aside}")


def test_a_terminal_that_cannot_rewrite_a_line_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert Stage(Terminal()).show(interim("so")) == ("", "")


def test_text_is_shown_as_it_is() -> None:
    stage = Stage(Terminal())
    assert ":smile: [red]" in stage.show(interim(":smile: [red]"))[1]
    assert stage.show(final(":smile: [red]"))[0] == ":smile: [red]\n"


def test_words_are_a_table_with_their_times_and_how_sure_the_provider_is() -> None:
    stage = Stage(io.StringIO())
    words = [SttWord(word="[b]:smile:", start=0.1, end=0.35, segment=0, probability=0.876),
             SttWord(word="be", start=10, end=10.5, segment=0)]  # fmt: skip
    stage.screen.table(table_of(words))
    assert [line.split() for line in stage.out.getvalue().splitlines()] == [
        ["start", "end", "probability", "word"], ["0.10", "0.35", "0.88", "[b]:smile:"], ["10.00", "10.50", "be"],
    ]  # fmt: skip


@pytest.mark.requirement("STT-22")
@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "run r-1: completed, 6.0 s of audio, coverage 100.0%, 1 connection"),
        ({"connections": 2}, "run r-1: completed, 6.0 s of audio, coverage 100.0%, 2 connections"),
        ({"ended_by": "idle"}, "run r-1: completed (ended by idle), 6.0 s of audio, coverage 100.0%, 1 connection"),
        ({"status": "cancelled", "ended_by": "cancelled", "connections": 0,
          "coverage": stt.Coverage(audio_s=6, share=0.768)},
         "run r-1: cancelled, 6.0 s of audio, coverage 76.8%, 0 connections"),
    ],
)  # fmt: skip
def test_the_end_is_one_line(fields: dict[str, Any], line: str) -> None:
    told = {"run_id": "r-1", "status": "completed", "coverage": stt.Coverage(audio_s=6.0), "connections": 1} | fields
    assert summary_of(SttResult(**told)) == line
