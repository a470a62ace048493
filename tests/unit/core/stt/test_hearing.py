"""What is told of what the provider says: interims, finals, retractions, the beginning and the end of speech."""

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import Life, check, request, segment, sound, update, word
from workers.core.stt import acts


def listening(seconds: float = 10.0, **fields: object) -> Life:
    """A session that has sent so much silence, and now waits to be told of it."""
    life = Life(request(**fields)).opened()
    life.speak(seconds)
    return life


@pytest.mark.requirement("STT-05")
def test_a_final_carries_its_words_with_all_that_is_known_of_them() -> None:
    life = listening()
    life.says(update(segment("0", word("turn", 0.42, 0.61, final=True), word("on", 0.61, 0.7, final=True))))
    [final] = life.told(stt.SttFinal)
    assert (final.text, final.start, final.end, final.segments, final.language) == ("turn on", 0.42, 0.7, [0], "en")
    first = final.words[0]
    assert (first.word, first.start, first.end, first.segment) == ("turn", 0.42, 0.61, 0)
    assert (first.probability, first.hallucination_score, first.language) == (0.9, 0.1, "en")
    assert life.types[-2:] == ["stt.start_of_speech", "stt.final"]
    check(life)


@pytest.mark.requirement("STT-07")
def test_final_words_leave_one_by_one_and_the_rest_stays_interim() -> None:
    life = listening()
    life.says(update(segment(0, word("turn", 0.4, 0.6, final=True), word("on", 0.6, 0.7), word("the", 0.7, 0.8))))
    life.says(
        update(segment(0, word("turn", 0.4, 0.6, final=True), word("on", 0.6, 0.7, final=True), word("th", 0.7, 0.9)))
    )
    assert life.finals == ["turn", "on"]
    assert life.interims == ["on the", "th"]
    check(life)


@pytest.mark.requirement("STT-07")
def test_an_earlier_word_is_not_made_final_by_a_later_one() -> None:
    life = listening()
    life.says(update(segment(0, word("turn", 0.4, 0.6), word("on", 0.6, 0.7, final=True))))
    assert life.finals == []
    life.says(update(segment(0, word("burn", 0.4, 0.6, final=True), word("on", 0.6, 0.7, final=True))))
    assert life.words == ["burn", "on"]


def test_a_word_that_nobody_looks_at_again_does_not_hold_up_the_rest_for_ever() -> None:
    life = listening()
    life.says(update(segment(0, word("turn", 0.4, 0.6), word("on", 0.6, 0.7, final=True))))
    life.later(29.9)
    assert life.words == []
    life.later(0.2)
    assert life.words == ["turn", "on"]


def test_an_open_word_at_the_end_waits_however_long_it_takes() -> None:
    life = listening(idle_timeout_s=3600, stall_timeout_s=None)
    life.says(update(segment(0, word("turn", 0.4, 0.6))))
    life.later(1_000)
    assert life.words == []


@pytest.mark.requirement("STT-06")
def test_an_unchanged_interim_is_told_once() -> None:
    life = listening()
    for _ in range(3):
        life.says(update(segment(0, word("turn", 0.4, 0.6))))
    life.says(update(segment(0, word("turn", 0.4, 0.65, probability=0.99))))
    assert life.interims == ["turn"]


@pytest.mark.requirement("STT-06")
def test_a_segment_may_be_rewritten_and_shortened() -> None:
    life = listening()
    life.says(update(segment(0, word("turn", 0.4, 0.6), word("on", 0.6, 0.7), word("it", 0.7, 0.8))))
    life.says(update(segment(0, word("Dawn", 0.4, 0.7))))
    assert life.interims == ["turn on it", "Dawn"]
    assert life.told(stt.SttRetracted) == []


@pytest.mark.requirement("STT-06")
def test_segments_above_the_last_of_a_message_are_withdrawn() -> None:
    life = listening()
    life.says(update(segment(0, word("turn", 0.4, 0.6)), segment(1, word("own", 0.6, 0.8))))
    life.says(update(segment(0, word("turn", 0.4, 0.6), word("on", 0.6, 0.8))))
    [gone] = life.told(stt.SttRetracted)
    assert (gone.segments, gone.text) == ([1], "own")
    assert life.interims == ["turn own", "turn on"]
    life.says(update(segment(0)))
    assert life.told(stt.SttRetracted)[-1].text == "turn on"
    check(life)


def test_an_update_without_segments_withdraws_nothing() -> None:
    life = listening()
    life.says(update(segment(0, word("turn", 0.4, 0.6))))
    life.says({"task": "transcribe", "language": "en", "text": "", "segments": []})
    assert life.told(stt.SttRetracted) == []


@pytest.mark.requirement("STT-06")
def test_segments_are_in_the_order_of_their_numbers_not_their_letters() -> None:
    life = listening()
    life.says(update(segment("9", word("nine", 0.9, 1.0)), segment("10", word("ten", 1.0, 1.1))))
    assert life.interims == ["nine ten"]


def test_a_partial_update_leaves_the_other_segments_as_they_are() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 0.1, 0.2)), segment(1, word("to", 0.2, 0.3))))
    life.says(update(segment(1, word("two", 0.2, 0.3))))
    assert life.interims == ["one to", "one two"]
    life.says(update(segment(0, word("one", 0.1, 0.2, final=True)), segment(1, word("two", 0.2, 0.3))))
    life.says(update(segment(1, word("two", 0.2, 0.3, final=True))))
    assert life.words == ["one", "two"]


def test_a_segment_goes_on_growing_after_its_first_words_are_final() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 0.1, 0.2, final=True))))
    life.says(update(segment(0, word("one", 0.1, 0.2, final=True), word("two", 0.3, 0.4, final=True))))
    life.says(update(segment(0, word("one", 0.1, 0.2, final=True), word("two", 0.3, 0.4, final=True))))
    assert life.words == ["one", "two"]
    assert life.told(stt.SttFinal)[1].segments == [0]


def test_a_final_never_changes_whatever_becomes_of_its_segment() -> None:
    life = listening()
    life.says(update(segment(0, word("I", 0.1, 0.2, final=True), word("am", 0.2, 0.3, final=True))))
    life.says(update(segment(0, word("I'm", 0.1, 0.3, final=True))))
    life.says(update(segment(0)))
    assert life.words == ["I", "am"]


def test_words_whose_times_overlap_share_the_time_and_are_told_once() -> None:
    life = listening()
    overlapping = segment(0, word("one", 1.0, 2.0, final=True), word("two", 1.4, 1.8, final=True), word("x", 1.4, 1.8))
    life.says(update(overlapping), update(overlapping))
    life.says(update(segment(0, *overlapping["words"][:2], word("three", 1.4, 1.8, final=True))))
    assert life.words == ["one", "two", "three"]
    check(life)


def test_words_at_one_and_the_same_place_are_all_told() -> None:
    life = listening()
    life.says(update(segment(0, *(word(text, 1.0, 1.0, final=True) for text in "abc"))))
    life.says(update(segment(0, *(word(text, 1.0, 1.0, final=True) for text in "abc"))))
    assert life.words == ["a", "b", "c"]
    check(life)


def test_no_word_lies_after_what_was_sent() -> None:
    life = listening(2.0)
    life.says(update(segment(0, word("late", 1.5, 99.0, final=True))))
    assert life.told(stt.SttFinal)[0].end == 2.0


def test_texts_keep_their_marks_and_spaces() -> None:
    life = listening()
    first = [word("Hello", 0.1, 0.2, final=True), word("world", 0.3, 0.4)]
    life.says(update(segment(0, *first, text="Hello, world.")))
    life.says(update(segment(0, first[0], word("world", 0.3, 0.4, final=True), text="Hello, world.")))
    life.says(update(segment(1, word("你好", 0.5, 0.6, final=True), word("世界", 0.6, 0.7), text="你好世界。")))
    life.says(update(segment(1, word("你好", 0.5, 0.6), word("世界", 0.6, 0.7, final=True), text="你好世界。")))
    assert life.finals == ["Hello,", "world.", "你好", "世界。"]
    life.control(type="end")
    life.says({"checkpoint_id": "final"})
    assert life.result.text == "Hello, world. 你好世界。"
    assert [each.text for each in life.result.segments] == ["Hello, world.", "你好世界。"]


# -- without words, without flags, without times -----------------------------------------------------------------------


@pytest.mark.requirement("STT-07")
def test_text_without_words_is_final_when_it_stands_for_the_text_timeout() -> None:
    life = listening(text_timeout_s=2)
    life.says({"segments": [{"id": 0, "text": "good morn"}]})
    life.later(1.5)
    life.says({"segments": [{"id": 0, "text": "good morning"}]})
    life.later(1.9)
    assert life.finals == []
    life.later(0.2)
    assert life.finals == ["good morning"]
    assert life.told(stt.SttFinal)[0].estimated
    life.speak(1.0)
    life.says({"segments": [{"id": 0, "text": "good morning everyone"}]})
    life.later(2)
    assert life.finals == ["good morning", "everyone"]
    check(life)


def test_estimated_times_lie_between_what_was_final_and_what_was_sent() -> None:
    life = listening(4.0)
    life.says({"segments": [{"id": 0, "text": "a b"}]})
    life.later(1)
    first, second = life.told(stt.SttFinal)[0].words
    assert (first.start, first.end, second.start, second.end) == (0.0, 2.0, 2.0, 4.0)
    life.speak(2.0)
    life.says({"segments": [{"id": 1, "text": "c", "start": 4.5, "end": 5.5}]})
    life.later(1)
    assert [(each.start, each.end) for each in life.told(stt.SttFinal)[1].words] == [(4.5, 5.5)]


def test_words_without_times_go_by_their_number() -> None:
    life = listening()
    life.says(update(segment(0, word("one", final=True), word("two"))))
    life.says(update(segment(0, word("one", final=True), word("two", final=True), word("three"))))
    life.says(
        update(segment(0, word("one", final=True), word("two", final=True)), segment(1, word("four", final=True)))
    )
    life.says(
        update(segment(0, word("one", final=True), word("two", final=True)), segment(1, word("four", final=True)))
    )
    assert life.words == ["one", "two", "four"]
    check(life)


def test_words_without_flags_are_final_when_they_stand_for_the_text_timeout() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 0.1, 0.2, final=None))))
    life.later(1.1)
    assert life.words == ["one"]


def test_where_words_have_flags_text_without_words_waits_for_them() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 0.1, 0.2, final=True)), {"id": 1, "text": "two", "words": []}))
    life.later(10)
    assert life.words == ["one"]
    life.says(update(segment(1, word("two", 0.3, 0.4, final=True))))
    assert life.words == ["one", "two"]


@pytest.mark.requirement("STT-05")
def test_a_session_tells_its_whole_way() -> None:
    life = Life(request(idle_timeout_s=3600)).opened()
    life.speak(5)
    life.feed(acts.AudioMissing(16_000))
    life.says(update(segment(0, word("one", 0.5, 0.7)), segment(1, word("to", 0.8, 0.9))))
    life.says(update(segment(0, word("one", 0.5, 0.7, final=True))))
    life.later(1)
    life.loses(1006)
    life.retries()
    life.opened()
    life.control(type="end")
    life.says({"checkpoint_id": "final"})
    told = [each for each in life.types if each.startswith("stt.")]
    assert told == [
        "stt.connected", "stt.gap", "stt.start_of_speech", "stt.interim", "stt.retracted",
        "stt.final", "stt.end_of_speech", "stt.lost", "stt.reconnecting", "stt.connected", "stt.repeat",
        "stt.usage", "stt.closed",
    ]  # fmt: skip
    check(life)


# -- the beginning and the end of speech -------------------------------------------------------------------------------


@pytest.mark.requirement("STT-05")
def test_speech_ends_when_nothing_follows_a_final_for_the_text_timeout() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 0.5, 0.7))))
    life.later(5)
    assert "stt.end_of_speech" not in life.types
    life.says(update(segment(0, word("one", 0.5, 0.7, final=True))))
    life.later(0.5)
    life.says(update(segment(0, word("one", 0.5, 0.7, final=True)), segment(1, word("two", 1.0, 1.2, final=True))))
    life.later(0.9)
    assert "stt.end_of_speech" not in life.types
    life.later(0.2)
    assert life.told(stt.SttEndOfSpeech)[0].end == 1.2
    life.says(update(segment(2, word("three", 4.0, 4.2))))
    assert [each.start for each in life.told(stt.SttStartOfSpeech)] == [0.5, 4.0]
    check(life)


def test_speech_that_was_withdrawn_ends_where_it_began() -> None:
    life = listening()
    life.says(update(segment(0, word("hm", 0.5, 0.7))), update(segment(0)))
    life.later(1.1)
    assert life.told(stt.SttEndOfSpeech)[0].end == 0.5


# -- flush -------------------------------------------------------------------------------------------------------------


def test_a_flush_sends_what_is_held_and_asks_how_far_the_provider_is() -> None:
    life = Life().opened()
    life.speak(pcm=sound(0.06))
    assert life.sent() == b""
    life.control(type="flush")
    assert life.sent() == sound(0.06)
    assert life.done(acts.SendText)[-1].message["object"] == "stt.input.trace"
    life.control(type="flush")
    assert len(life.done(acts.SendText)) == 1, "there is nothing new to ask about"


def test_the_clock_goes_on_rightly_after_a_frame_that_was_filled_up() -> None:
    life = Life().opened()
    life.speak(pcm=sound(0.02))
    life.control(type="flush")
    assert len(life.sent()) == 1_600, "50 ms, the least that is documented"
    life.speak(1.0)
    life.says(update(segment(0, word("one", 0.53, 0.63, final=True))))
    final = life.told(stt.SttFinal)[0]
    assert (final.start, final.end) == (0.5, 0.6), "30 ms of what was sent were not the speaker's"


def test_no_word_lies_in_the_silence_that_filled_a_frame() -> None:
    life = Life().opened()
    life.speak(pcm=sound(0.02))
    life.control(type="flush")
    life.says(update(segment(0, word("one", 0.0, 0.04, final=True))))
    assert life.told(stt.SttFinal)[0].end == 0.02
