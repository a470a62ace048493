"""Segments, finality and second thoughts, from hypotheses made by hand."""

import pytest

from workers.emulator.speech.engine import RATE, Heard, Hypothesis
from workers.emulator.speech.transcript import Segment, Telling, Transcript

pytestmark = pytest.mark.requirement("EMU-01")

STEADY = Telling(mishear_every=0, split_every=0, withdraw_every=0)


def _word(text: str, start_s: float, end_s: float) -> Heard:
    return Heard(text, round(start_s * RATE), round(end_s * RATE))


def _at(seconds: float) -> int:
    return round(seconds * RATE)


def _final(segments: tuple[Segment, ...]) -> list[str]:
    return [word.text for segment in segments for word in segment.words if word.is_final]


def test_words_are_final_once_they_lie_far_enough_back() -> None:
    transcript = Transcript(STEADY)
    transcript.hear(Hypothesis((_word("a", 0, 0.5), _word("b", 0.5, 1.0)), (_word("c", 1.0, 1.4),)), _at(1.5))
    assert _final(transcript.told()) == []
    transcript.hear(Hypothesis(pending=(_word("c", 1.0, 1.6),)), _at(2.5))
    assert _final(transcript.told()) == ["a"]


def test_silence_makes_everything_final_sooner() -> None:
    transcript = Transcript(STEADY)
    transcript.hear(Hypothesis((_word("a", 0, 0.5),)), _at(0.6))
    transcript.told()
    transcript.hear(Hypothesis(), _at(1.4))
    assert transcript.told() == ()
    transcript.hear(Hypothesis(), _at(1.5))
    assert _final(transcript.told()) == ["a"]


def test_a_gap_or_enough_words_begin_a_segment() -> None:
    transcript = Transcript(Telling(segment_words=2, mishear_every=0, split_every=0, withdraw_every=0))
    spoken = [_word("a", 0, 0.2), _word("b", 0.2, 0.4), _word("c", 0.4, 0.6), _word("d", 1.5, 1.7)]
    transcript.hear(Hypothesis(tuple(spoken)), _at(1.7))
    assert [(segment.id, segment.text) for segment in transcript.told()] == [(0, "a b"), (1, "c"), (2, "d")]


def test_an_update_begins_with_the_first_segment_that_changed() -> None:
    transcript = Transcript(Telling(segment_words=1, mishear_every=0, split_every=0, withdraw_every=0))
    transcript.hear(Hypothesis((_word("a", 0, 0.2), _word("b", 0.2, 0.4))), _at(0.4))
    assert [segment.id for segment in transcript.told()] == [0, 1]
    transcript.hear(Hypothesis(pending=(_word("c", 0.4, 0.5),)), _at(0.5))
    assert [segment.id for segment in transcript.told()] == [2]
    assert [segment.text for segment in transcript.all_segments()] == ["a", "b", "c"]


def test_finished_segments_are_told_once_more_as_final_and_kept() -> None:
    transcript = Transcript(Telling(segment_words=1, mishear_every=0, split_every=0, withdraw_every=0))
    transcript.hear(Hypothesis(tuple(_word(text, n / 2, n / 2 + 0.4) for n, text in enumerate("abc"))), _at(1.5))
    transcript.told()
    transcript.conclude()
    assert _final(transcript.told()) == ["a", "b", "c"]
    transcript.hear(Hypothesis((_word("d", 3, 3.9),)), _at(4))
    assert [segment.id for segment in transcript.told()] == [3]
    assert [segment.text for segment in transcript.all_segments()] == ["a", "b", "c", "d"]


def test_a_word_may_be_misheard_at_first_but_never_when_final() -> None:
    transcript = Transcript(Telling(mishear_every=1))
    transcript.hear(Hypothesis((_word("river", 0, 0.3),)), _at(0.4))
    assert transcript.told()[0].text == "rive"
    transcript.conclude()
    assert transcript.told()[0].text == "river"


def test_one_word_may_be_taken_for_two_until_it_settles() -> None:
    transcript = Transcript(Telling(mishear_every=0, split_every=2, withdraw_every=0))
    transcript.hear(Hypothesis((_word("a", 0, 0.3),), (_word("river", 0.3, 0.5),)), _at(0.5))
    assert transcript.told()[0].text == "a ri ver"
    transcript.hear(Hypothesis((_word("river", 0.3, 0.6),)), _at(0.7))
    assert transcript.told()[0].text == "a river"


def test_a_segment_may_be_withdrawn_by_a_message_that_ends_before_it() -> None:
    transcript = Transcript(Telling(mishear_every=0, split_every=0, withdraw_every=2))
    transcript.hear(Hypothesis((_word("a", 0, 0.3),), (_word("b", 0.3, 0.5),)), _at(0.5))
    assert [segment.id for segment in transcript.told()] == [0, 1]
    transcript.hear(Hypothesis((_word("b", 0.3, 0.6),)), _at(0.7))
    assert [(segment.id, segment.text) for segment in transcript.told()] == [(0, "a b")]


def test_a_guess_that_is_taken_back_withdraws_its_segment_with_an_unchanged_one() -> None:
    transcript = Transcript(Telling(segment_words=1, mishear_every=0, split_every=0, withdraw_every=0))
    transcript.hear(Hypothesis((_word("a", 0, 0.3),), (_word("b", 0.3, 0.5),)), _at(0.5))
    assert [segment.id for segment in transcript.told()] == [0, 1]
    transcript.hear(Hypothesis(), _at(0.7))
    assert [(segment.id, segment.text) for segment in transcript.told()] == [(0, "a")]


@pytest.mark.parametrize(("restart", "next_id"), [(True, 0), (False, 1)])
def test_clearing_forgets_the_text_and_may_restart_the_ids(restart: bool, next_id: int) -> None:
    transcript = Transcript(STEADY)
    transcript.hear(Hypothesis((_word("a", 0, 0.3),)), _at(0.5))
    transcript.told()
    transcript.clear(restart_ids=restart)
    assert not transcript.unsent
    transcript.hear(Hypothesis((_word("b", 1, 1.3),)), _at(1.4))
    assert [(segment.id, segment.text) for segment in transcript.told()] == [(next_id, "b")]


def test_a_final_word_can_be_rewritten_against_the_rules() -> None:
    transcript = Transcript(STEADY)
    assert not transcript.rewrite_final()
    transcript.hear(Hypothesis((_word("a", 0, 0.3),)), _at(0.5))
    transcript.conclude()
    transcript.told()
    assert transcript.rewrite_final()
    assert _final(transcript.told()) == ["as"]
