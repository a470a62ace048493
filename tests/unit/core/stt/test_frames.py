"""Bytes to frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.stt.frames import FRAME_BYTES, LEAST_BYTES, Framer


@pytest.mark.requirement("STT-04")
@given(st.lists(st.binary(max_size=9_000), max_size=20))
def test_every_byte_goes_out_once_in_order_in_frames_of_100_ms(pieces: list[bytes]) -> None:
    framer = Framer()
    frames = [frame for piece in pieces for frame in framer.feed(piece)]
    assert all(len(frame) == FRAME_BYTES for frame in frames)
    last, padding = framer.flush()
    said = b"".join(pieces)
    whole = len(said) - len(said) % 2
    assert b"".join(frames) + last[: len(last) - padding] == said[:whole]
    assert framer.held == len(said) % 2


def test_a_frame_that_is_too_short_for_the_wire_is_filled_with_silence() -> None:
    framer = Framer()
    framer.feed(b"\1" * 10)
    assert framer.flush() == (b"\1" * 10 + bytes(LEAST_BYTES - 10), LEAST_BYTES - 10)
    framer.feed(b"\1" * 1_700)
    assert framer.flush() == (b"\1" * 1_700, 0)


def test_there_is_nothing_to_flush_twice() -> None:
    framer = Framer()
    framer.feed(b"abc")
    framer.flush()
    assert framer.flush() == (b"", 0)
    assert framer.held == 1


def test_half_a_sample_waits_for_its_other_half() -> None:
    framer = Framer()
    framer.feed(b"\1\2\3")
    frame, _ = framer.flush()
    assert frame.rstrip(b"\0") == b"\1\2"
    framer.feed(b"\4")
    frame, _ = framer.flush()
    assert frame.rstrip(b"\0") == b"\3\4"
    framer.feed(b"\5")
    framer.drop_half()
    assert framer.held == 0
