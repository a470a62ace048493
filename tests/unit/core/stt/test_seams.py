"""Where one hearing of the audio meets the next: no word twice, no word lost, whatever happens to times and ids."""

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import ECHO, OVERLAP_S, RATE, Life, check, kinds, request, segment, sound, update, word
from workers.core.stt import acts


def heard(*words: dict[str, object], seconds: float = 10.0) -> Life:
    """A session that has sent so much audio and heard these words of it."""
    life = Life(request(idle_timeout_s=3600)).opened()
    for _ in range(round(seconds * 2)):
        life.speak(0.5)
    life.says(update(segment(0, *words)))
    return life


def again(life: Life) -> float:
    """Lose the connection, open the next one; return where its clock begins (seconds)."""
    life.loses()
    life.retries()
    life.opened()
    return float(life.told(stt.SttConnected)[-1].start_at) / RATE


# -- times that shift --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-09")
@pytest.mark.parametrize("shift", [-0.05, 0.05])
def test_a_short_word_that_is_heard_again_a_little_aside_is_told_once(shift: float) -> None:
    life = heard(word("to", 4.0, 4.08, final=True))
    start = again(life)
    at = 4.0 - start + shift
    life.says(update(segment(0, word("To", at, at + 0.08, final=True), word("be,", at + 0.08, at + 0.16, final=True))))
    assert life.words == ["to", "be,"]
    check(life)


def test_a_word_that_is_said_twice_is_told_twice() -> None:
    life = heard(word("no", 4.0, 4.2, final=True))
    start = again(life)
    life.says(
        update(
            segment(
                0,
                word("no", 4.05 - start, 4.22 - start, final=True),
                word("no", 4.24 - start, 4.4 - start, final=True),
            )
        )
    )
    assert life.words == ["no", "no"]


def test_the_same_word_somewhere_else_moves_no_border() -> None:
    life = heard(word("the", 4.0, 4.1, final=True))
    start = again(life)
    later = [("cat", 4.2), ("the", 4.5), ("dog", 4.7)]
    words = [word(text, at - start, at - start + 0.1, final=True) for text, at in later]
    life.says(update(segment(0, word("a", 4.0 - start, 4.1 - start, final=True), *words)))
    assert life.words == ["the", "cat", "the", "dog"]


def test_a_final_word_that_moves_within_its_connection_is_told_once() -> None:
    life = heard(word("a", 4.0, 4.06, final=True))
    life.says(update(segment(0, word("a", 4.05, 4.11, final=True), word("b", 4.11, 4.2, final=True))))
    assert life.words == ["a", "b"]


# -- clear -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-12")
def test_a_clear_sends_again_what_is_not_final_because_the_provider_forgets_it() -> None:
    life = heard(word("one", 4.0, 4.2, final=True), word("two", 9.5, 9.8))
    at = 10.0 - (4.2 - OVERLAP_S)  # the clock of the connection goes on: it hears so much more than the timeline has
    before = len(life.sent())
    done = life.control(type="clear")
    assert kinds(done)[:2] == ["SendText", "stt.retracted"]
    assert done[0] == acts.SendText(1, {
        "event_id": "clear-21-0", "object": "stt.state.clear", "reset_id": "21-0",
    })  # fmt: skip
    assert len(life.sent()) - before == round(at * RATE) * 2, "from the overlap before the last final word's end on"
    assert life.told(stt.SttRetracted)[-1].text == "two"
    life.says({"event_id": "clear-21-0", "object": "stt.state.cleared", "reset_id": "21-0"})
    life.says(
        update(segment(0, word("two", 9.5 + at, 9.8 + at, final=True), word("three", 9.8 + at, 10 + at, final=True)))
    )
    assert life.words == ["one", "two", "three"]
    assert [(each.start, each.end) for each in life.told(stt.SttFinal)[-1].words] == [
        (pytest.approx(9.5), pytest.approx(9.8)),
        (pytest.approx(9.8), 10.0),
    ]
    check(life)


@pytest.mark.parametrize("is_cleared", [True, False])
def test_what_the_provider_said_before_it_took_the_clear_is_not_told_twice(is_cleared: bool) -> None:
    life = heard(word("one", 4.0, 4.2, final=True))
    life.control(type="clear")
    life.says(update(segment(1, word("two", 9.5, 9.8, final=True))))
    assert life.words == ["one"]
    if is_cleared:
        life.says({"object": "stt.state.cleared"})
    life.says(update(segment(0, word("two", 17.3, 17.6, final=True))))
    assert life.words == ["one", "two"]


def test_a_clear_before_anything_is_final_starts_all_over() -> None:
    life = Life().opened()
    life.speak(10)
    life.says(update(segment(0, word("one", 0.1, 0.4))))
    life.control(type="clear")
    assert life.sent() == sound(20)
    life.says(update(segment(0, word("one", 0.1, 0.4, final=True), word("two", 0.5, 0.8, final=True))))
    assert life.words == [], "this will be heard again"
    life.says(update(segment(0, word("one", 9.99, 10.4, final=True))))
    assert [(each.word, each.start, each.end) for each in life.told(stt.SttFinal)[0].words] == [("one", 0.0, 0.4)]


def test_a_clear_finds_no_connection_or_a_fresh_one_and_says_nothing() -> None:
    life = Life().begin()
    life.speak(1)
    assert life.control(type="clear") == []
    life = Life().opened()
    assert life.control(type="clear") == []
    life.speak(1)
    assert life.control(type="clear") != []
    assert life.control(type="clear") == [], "it has forgotten already"


def test_where_no_times_tell_words_apart_a_clear_makes_final_what_was_said() -> None:
    life = Life().opened()
    life.speak(10)
    life.says({"segments": [{"id": 0, "text": "one"}]})
    life.later(1.5)
    life.says({"segments": [{"id": 0, "text": "one"}, {"id": 1, "text": "two"}]})
    sent = len(life.sent())
    life.control(type="clear")
    assert len(life.sent()) == sent
    assert life.words == ["one"]
    life.says({"object": "stt.state.cleared"})
    assert life.words == ["one", "two"]
    life.speak(1)
    life.says({"segments": [{"id": 0, "text": "three"}]})
    life.later(1)
    assert life.words == ["one", "two", "three"]


def test_an_answer_to_a_clear_that_nobody_asked_for_changes_nothing() -> None:
    life = heard(word("mor", 4.0, 4.2))
    life.says({"object": "stt.state.cleared"})
    assert life.words == []
    life.says(update(segment(0, word("morning", 4.0, 4.4, final=True))))
    assert life.words == ["morning"]


# -- words without times -----------------------------------------------------------------------------------------------


def test_a_text_without_times_is_of_audio_sent_before_it_was_told() -> None:
    life = Life().opened()
    life.speak(4)
    life.says({"segments": [{"id": 0, "text": "one"}]})
    life.speak(6)
    life.later(1)
    assert life.told(stt.SttFinal)[0].end == 4.0
    again(life)
    assert life.sent(2) == sound(6), "what was said of it is not known"


def test_a_word_without_times_stays_where_it_was_told_when_it_becomes_final() -> None:
    life = Life().opened()
    life.speak(4)
    life.says(update(segment(0, word("one"))))
    life.speak(6)
    life.says(update(segment(0, word("one", final=True))))
    assert life.told(stt.SttFinal)[0].end == 4.0


def test_the_end_asks_for_the_rest_although_estimates_reach_so_far() -> None:
    life = Life().opened()
    life.speak(4)
    life.says({"segments": [{"id": 0, "text": "one"}]})
    life.later(1)
    life.control(type="end")
    assert not life.end
    life.says({"segments": [{"id": 0, "text": "one two"}]}, ECHO)
    assert life.words == ["one", "two"]


def test_estimates_overlap_with_nothing_even_if_the_connection_opens_before_the_stream_is_read() -> None:
    life = Life().opened()
    first = round(OVERLAP_S / 0.5) + 4
    for _ in range(first):
        life.speak(0.5)
    life.says({"segments": [{"id": 0, "text": "one"}]})
    life.later(1)
    life.speak(0.5)
    after = life.reborn().opened()
    assert after.done(acts.ReadAudio)[0].after_entry_id == "4-0"
    after.feed(*(acts.AudioArrived(f"{number}-0", sound(0.5)) for number in range(5, first + 2)))
    assert after.sent() == sound(0.5)


def test_one_word_without_times_among_others_takes_none_of_them_back() -> None:
    life = heard(word("one", 4.0, 4.2, final=True), word("two", 4.2, 4.4, final=True))
    life.says(
        update(
            segment(
                0,
                word("one", 4.0, 4.2, final=True),
                word("two", final=True),
                word("three", 4.4, 4.6, final=True),
            )
        )
    )
    assert life.words == ["one", "two", "three"]
    check(life)


def test_a_segment_that_loses_its_times_is_not_told_again() -> None:
    life = heard(word("one", 4.0, 4.2, final=True), word("two", 4.2, 4.4))
    life.says(update(segment(0, word("one", final=True), word("two", final=True))))
    assert life.words == ["one", "two"]
    check(life)


def test_a_segment_without_times_that_was_let_go_goes_on_where_it_was() -> None:
    life = Life().opened()
    life.speak(4)
    life.says(update(segment(0, word("one", final=True)), segment(1, word("two", final=True)), segment(2)))
    life.says(
        update(segment(0, word("one", final=True), word("more", final=True)), segment(1, word("two", final=True)))
    )
    assert life.words == ["one", "two", "more"]


# -- audio that is gone ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-15")
def test_audio_that_is_gone_but_was_settled_is_no_gap() -> None:
    """A producer that bounds its stream (MAXLEN) may cut off what a successor reads for its overlap."""
    life = heard(word("one", 9.0, 9.5, final=True))
    assert life.told(stt.SttFinal)[0].anchor_at == (9.5 - OVERLAP_S) * RATE
    after = life.reborn().opened()
    after.feed(acts.AudioMissing(round((OVERLAP_S - 1) * RATE)))
    assert after.told(stt.SttGap) == []
    after.speak(2)
    after.says(update(segment(0, word("two", 1.0, 1.2, final=True))))
    assert after.told(stt.SttFinal)[-1].start == pytest.approx(9.5)


@pytest.mark.requirement("STT-15")
def test_of_audio_that_is_gone_only_what_is_not_settled_is_a_gap() -> None:
    life = heard(word("one", 9.0, 9.5, final=True))
    after = life.reborn().opened()
    missing = acts.AudioMissing(round((OVERLAP_S + 2) * RATE))
    after.feed(missing)
    assert [(gap.start, gap.end) for gap in after.told(stt.SttGap)] == [(9.5, 11.5)]
    third = after.reborn().opened()
    third.feed(missing)
    third.speak(1)
    assert len(third.told(stt.SttGap)) == 1
    third.control(type="end")
    third.says(ECHO)
    coverage = third.result.coverage
    assert (coverage.audio_s, coverage.gaps_s, coverage.words_s) == (12.5, 2.0, 0.5)
    check(third)


def test_a_gap_is_no_longer_than_a_session() -> None:
    """Ids that are no times make the guess of how much is missing absurd."""
    life = Life(request(max_duration_s=100)).opened()
    life.feed(acts.AudioMissing(10**18))
    assert life.told(stt.SttGap)[0].end == 100.0
