"""The sounds of `tones`: any words, any frames, any loudness; what is lost or repeated never becomes another word."""

import math
from array import array
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.emulator.speech.speaking import frames, heard, some_words, texts, undamaged
from workers.emulator.speech import DAMAGED, VOCABULARY, NotInVocabulary, encode, read_wav, silence
from workers.emulator.speech.tone_decoder import ToneEngine
from workers.emulator.speech.tones import GAP, MARK, SYMBOL, VOICED, WORD, check_symbol, from_pcm, to_pcm

pytestmark = pytest.mark.requirement("EMU-02")

SPOKEN = ["maple", "river", "maple", "tiger", "tiger", "able"]
SOUND = encode(SPOKEN)
VOICE = len(SOUND) // 2 - GAP  # samples up to the end of the last word


def _is_part_of(some: list[str], whole: list[str]) -> bool:
    """Whether `whole` with words left out is `some`."""
    rest = iter(whole)
    return all(word in rest for word in some)


@pytest.mark.long
def test_every_word_of_the_vocabulary_is_heard_where_it_was_said() -> None:
    words = heard(frames(encode(VOCABULARY)))
    assert len(set(VOCABULARY)) == 256
    assert texts(words) == list(VOCABULARY)
    assert [(word.start, word.end) for word in words] == [(n * WORD, n * WORD + VOICED) for n in range(256)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(VOCABULARY), max_size=4), st.lists(st.integers(0, 4000), max_size=12))
@pytest.mark.long
def test_any_split_of_the_samples_gives_the_same_words(words: list[str], cuts: list[int]) -> None:
    pcm = encode(words)
    places = sorted({min(2 * cut, len(pcm)) for cut in cuts} | {0, len(pcm)})
    pieces = [pcm[start:end] for start, end in pairwise(places)]
    assert heard([b"", *pieces]) == heard([pcm])
    assert texts(heard(pieces)) == words


# Three samples are 0.2 ms; one or two lost at a word's very edge can pass.
LOSSES = st.tuples(st.integers(0, VOICE - 3), st.integers(3, 3 * WORD))


@settings(max_examples=150, deadline=None)
@given(LOSSES)
@pytest.mark.long
def test_a_lost_stretch_is_noticed_and_invents_nothing(loss: tuple[int, int]) -> None:
    start, length = loss
    words = heard(frames(SOUND[: 2 * start] + SOUND[2 * min(start + length, VOICE) :]))
    assert texts(words) != SPOKEN
    assert _is_part_of(undamaged(words), SPOKEN)


@settings(max_examples=150, deadline=None)
@given(LOSSES)
@pytest.mark.long
def test_a_repeated_stretch_is_noticed_and_invents_nothing(repetition: tuple[int, int]) -> None:
    start, length = repetition
    end = min(start + length, VOICE)
    words = heard(frames(SOUND[: 2 * end] + SOUND[2 * start :]))
    assert texts(words) != SPOKEN
    assert _is_part_of(undamaged(words), SPOKEN[: end // WORD + 1] + SPOKEN[start // WORD :])


@pytest.mark.parametrize("length", [1, 2])
def test_a_loss_of_one_or_two_samples_in_every_frame_ruins_most_words(length: int) -> None:
    spoken = some_words(40)
    words = heard(piece[2 * length :] for piece in frames(encode(spoken)))
    assert len(undamaged(words)) < 20
    assert _is_part_of(undamaged(words), spoken)


def test_the_head_of_a_word_never_fits_the_tail_of_another() -> None:
    codes = {(first, second, check_symbol(first, second)) for first in range(16) for second in range(16)}
    for one, other in ((a, b) for a in codes for b in codes if a != b):
        assert (one[0], *other[1:]) not in codes - {one, other}
        assert (*one[:2], other[2]) not in codes - {one, other}


@pytest.mark.parametrize("symbols", [1, 2])
def test_the_head_of_one_word_and_the_tail_of_the_next_are_no_word(symbols: int) -> None:
    pcm, cut = encode(["maple", "tiger", "able"]), MARK + symbols * SYMBOL
    assert texts(heard([pcm[: 2 * cut] + pcm[2 * (cut + WORD) :]])) == [DAMAGED, "able"]


def test_a_word_with_another_sound_over_it_is_damaged() -> None:
    samples = from_pcm(encode(["maple", "river"]))
    for place in range(MARK, VOICED):
        samples[place] += round(3000 * math.sin(place / 8))
    assert texts(heard([to_pcm(samples)])) == [DAMAGED, "river"]


def test_a_damaged_word_leaves_its_neighbours_alone() -> None:
    middle = WORD + VOICED // 2
    words = heard(frames(SOUND[: 2 * middle] + SOUND[2 * (middle + 160) :]))
    assert texts(words) == ["maple", DAMAGED, *SPOKEN[2:]]
    assert words[1].start == WORD
    assert words[1].probability < 0.1


def test_silence_lost_between_two_words_marks_the_second() -> None:
    gap = VOICED + 200
    assert texts(heard([SOUND[: 2 * gap] + SOUND[2 * (gap + 320) :]]))[:3] == ["maple", DAMAGED, "maple"]


def test_pauses_are_part_of_speech() -> None:
    pcm = silence(0.7) + encode(SPOKEN, pause_s=0.1) + silence(1.0) + encode(["lemon"])
    words = heard(frames(pcm))
    assert texts(words) == [*SPOKEN, "lemon"]
    assert words[1].start - words[0].start == WORD + 1600
    assert words[0].start == 11_200


def test_a_pause_too_short_to_tell_from_a_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        encode(SPOKEN, pause_s=0.05)


def test_a_word_outside_the_vocabulary_is_refused_by_name() -> None:
    with pytest.raises(NotInVocabulary, match="'xylophone'"):
        encode(["maple", "xylophone"])


@pytest.mark.parametrize("loudness", [600, 2000, 32_000])
def test_loudness_does_not_matter(loudness: int) -> None:
    assert texts(heard(frames(encode(SPOKEN, loudness=loudness)))) == SPOKEN


def test_some_noise_does_not_matter() -> None:
    random = Random(7)
    samples = array("h", (random.randrange(-300, 301) + sample for sample in from_pcm(SOUND)))
    assert texts(heard(frames(to_pcm(samples)))) == SPOKEN


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100])
def test_words_survive_another_sampling_rate(rate: int) -> None:
    there = _at_rate(SOUND, rate)
    assert texts(heard(frames(read_wav(there)))) == SPOKEN


def _at_rate(pcm: bytes, rate: int) -> bytes:
    """A WAV file at another rate: straight lines between samples, as simple resamplers draw them."""
    samples = from_pcm(pcm)
    places = [divmod(place * 16_000, rate) for place in range((len(samples) - 1) * rate // 16_000)]
    made = array("h", (samples[at] + (samples[at + 1] - samples[at]) * part // rate for at, part in places))
    size = len(made) * 2
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    form = b"\x01\x00\x01\x00" + rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little") + b"\x02\x00\x10\x00"
    return head + form + b"data" + size.to_bytes(4, "little") + to_pcm(made)


def test_a_word_under_way_is_guessed_and_then_corrected() -> None:
    engine = ToneEngine()
    guesses = []
    for piece in frames(encode(["river"]), 320):
        guesses += [word.text for word in engine.feed(piece).pending]
    assert guesses[-1] == "river"
    assert set(guesses) - {"river"}


def test_a_word_cut_by_the_end_is_damaged_and_ends_with_the_sound() -> None:
    words = heard([SOUND[: 2 * (WORD + VOICED - 300)]])
    assert texts(words) == ["maple", DAMAGED]
    assert words[1].end <= WORD + VOICED - 300


def test_the_last_word_needs_no_silence_after_it() -> None:
    assert texts(heard([SOUND[: 2 * (WORD + VOICED)]])) == SPOKEN[:2]


def test_something_else_than_words_is_one_damaged_stretch() -> None:
    random = Random(7)
    noise = to_pcm(array("h", (random.randrange(-9000, 9000) for _ in range(8000))))
    assert texts(heard(frames(noise + silence(0.1) + SOUND))) == [DAMAGED, *SPOKEN]
