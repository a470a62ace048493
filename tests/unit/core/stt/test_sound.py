"""From the producer's audio to the wire's: any form, any cut, to the sample."""

import itertools
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_contracts.audio import SAMPLE_RATE, Encoding, SttSource
from workers.core.stt.sound import Converter, Place

SOURCES = st.builds(
    SttSource,
    sample_rate=st.sampled_from((8_000, 11_025, 16_000, 22_050, 44_100, 48_000)) | st.integers(8_000, 48_000),
    encoding=st.sampled_from(("s16", "f32", "mulaw", "alaw")),
    channels=st.sampled_from((1, 2)),
)
BEGINNING = Place(0, 0, b"")


def converted(source: SttSource, *pieces: bytes) -> list[int]:
    converter = Converter(source, BEGINNING)
    pcm = b"".join([converter.feed(piece) for piece in pieces]) + converter.drain()
    return [value for (value,) in struct.iter_unpack("<h", pcm)]


def of(encoding: Encoding, raw: bytes, channels: int = 1) -> list[int]:
    return converted(SttSource.model_validate({"encoding": encoding, "channels": channels}), raw)


def noise(size: int) -> bytes:
    """The same bytes every time; as numbers of any encoding they make sense or none."""
    return b"".join(((n * 2_654_435_761) >> 7 & 0xFFFF_FFFF).to_bytes(4, "little") for n in range(size // 4 + 1))[:size]


def tone(rate: int, pitch: float) -> bytes:
    """A second of it."""
    wave = (12_000 * math.sin(2 * math.pi * pitch * n / rate) for n in range(rate))
    return b"".join(struct.pack("<h", round(value)) for value in wave)


@pytest.mark.requirement("STT-03")
@settings(max_examples=60, deadline=None)
@given(SOURCES, st.integers(0, 20_000), st.lists(st.integers(0, 20_000), max_size=12))
def test_any_cut_of_the_same_bytes_gives_the_same_samples(source: SttSource, size: int, cuts: list[int]) -> None:
    raw = noise(size)
    ends = sorted({0, size, *(cut for cut in cuts if cut < size)})
    pieces = [raw[start:end] for start, end in itertools.pairwise(ends)]
    whole = converted(source, raw)
    assert converted(source, *pieces) == whole
    assert len(whole) == size // source.frame_bytes * SAMPLE_RATE // source.sample_rate


@pytest.mark.requirement("STT-03")
def test_bytes_one_by_one_give_the_same_samples() -> None:
    source = SttSource(sample_rate=44_100, encoding="f32", channels=2)
    raw = noise(8_003)
    assert converted(source, *(raw[n : n + 1] for n in range(len(raw)))) == converted(source, raw)


@pytest.mark.requirement("STT-03")
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_000, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_its_loudness_and_its_place(rate: int) -> None:
    """A wrong rate, a filter that is late or a sample too many at any of these borders is far from this wave."""
    raw = tone(rate, 700)
    ends = [0, 2, 1_554, 4_756, rate + 1, 2 * rate]
    pieces = [raw[start:end] for start, end in itertools.pairwise(ends)]
    heard = converted(SttSource(sample_rate=rate), *pieces)
    for n in range(1_000, len(heard) - 1_000):
        assert abs(heard[n] - 12_000 * math.sin(2 * math.pi * 700 * n / SAMPLE_RATE)) < 4, n


@pytest.mark.requirement("STT-03")
def test_what_a_telephone_carries_is_kept_and_what_16_khz_cannot_hold_is_no_other_tone() -> None:
    def level(rate: int, pitch: float) -> float:
        heard = converted(SttSource(sample_rate=rate), tone(rate, pitch))[2_000:-2_000]
        return math.sqrt(2 * sum(value * value for value in heard) / len(heard))

    assert level(8_000, 3_400) == pytest.approx(12_000, rel=0.01)
    assert level(48_000, 11_000) < 2


@pytest.mark.requirement("STT-03")
def test_g711_is_decoded_as_the_standard_says() -> None:
    """ITU-T G.711: loudest, softest and zero of both signs, and a step in a middle chord; 16 bits."""
    assert of("mulaw", bytes([0x00, 0x80, 0x7F, 0xFF, 0xB1])) == [-32124, 32124, 0, 0, 3772]
    assert of("alaw", bytes([0x2A, 0xAA, 0x55, 0xD5, 0x9D])) == [-32256, 32256, -8, 8, 3136]
    assert of("mulaw", bytes(range(256))) == [of_mulaw(code) for code in range(256)]
    assert of("alaw", bytes(range(256))) == [of_alaw(code) for code in range(256)]


def of_mulaw(code: int) -> int:
    """The standard's decision table as a sum: 33 steps of bias, each chord twice as steep as the one before."""
    bits = 0xFF - code
    chord, step = (bits >> 4) % 8, bits % 16
    size = 4 * ((2 * step + 33) * 2**chord - 33)
    return -size if bits >= 128 else size


def of_alaw(code: int) -> int:
    """The same for A-law: the first chord is as steep as the second, and values lie in the middle of their step."""
    bits = code ^ 0x55
    chord, step = (bits >> 4) % 8, bits % 16
    size = 8 * ((2 * step + 1) if chord == 0 else (2 * step + 33) * 2 ** (chord - 1))
    return size if bits >= 128 else -size


@pytest.mark.requirement("STT-03")
def test_two_channels_are_mixed_half_and_half() -> None:
    assert of("s16", struct.pack("<6h", 100, 300, -8, 8, 32_767, 32_767), 2) == [200, 0, 32_767]
    assert of("f32", struct.pack("<4f", 0.5, 0.0, -1.0, -1.0), 2) == [8_192, -32_768]


@pytest.mark.requirement("STT-03")
def test_floats_that_are_no_sound_are_silence_or_the_loudest() -> None:
    raw = struct.pack("<7f", math.nan, math.inf, -math.inf, 7.0, -1e30, 1e-42, 0.25)
    assert of("f32", raw) == [0, 32_767, -32_768, 32_767, -32_768, 0, 8_192]


def test_half_a_frame_at_the_end_is_dropped() -> None:
    assert of("f32", struct.pack("<f", 0.5) + b"\x00\x01\x02") == [16_384]
    assert of("s16", b"\x01") == []
