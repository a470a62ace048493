"""What other bridges to this provider got wrong: one test each, in the order of FEAT A2.5."""

import re
from pathlib import Path

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import ECHO, OVERLAP_S, RATE, Life, check, kinds, request, segment, sound, update, word
from tests.unit.core.stt.recogniser import Recogniser, Ways, speech
from workers.core.stt import acts
from workers.core.stt.messages import segments_in
from workers.core.stt.segments import SegmentMap

ROOT = Path(__file__).resolve().parents[4]


def listening(seconds: float = 10.0) -> Life:
    life = Life().opened()
    life.speak(seconds)
    return life


@pytest.mark.requirement("STT-06")
def test_1_ids_that_are_strings_are_understood() -> None:
    life = listening()
    life.says(update(segment("0", word("one", 0.1, 0.2, final=True))), update(segment("11", word("two", 0.3, 0.4))))
    assert (life.finals, life.interims) == (["one"], ["two"])


@pytest.mark.requirement("STT-09")
def test_2_a_new_connection_starts_without_the_old_ones_numbers() -> None:
    life = listening()
    for number in range(3):
        words = [
            word(f"{number}{place}", number + place / 4, number + place / 4 + 0.2, final=True) for place in range(2)
        ]
        life.says(update(segment(number, *words)))
    life.loses()
    life.retries()
    life.opened()
    start = life.told(stt.SttConnected)[-1].start_at / RATE
    for number in range(3):
        at = 4 + number - start
        life.says(update(segment(number, word(f"new{number}", at, at + 0.2, final=True))))
    assert life.words == ["00", "01", "10", "11", "20", "21", "new0", "new1", "new2"]


@pytest.mark.requirement("STT-09")
def test_2_what_was_counted_of_a_segment_is_counted_of_that_connection() -> None:
    """Words without times are told apart by their number alone."""
    life = listening()
    life.says(update(segment(0, word("one", final=True), word("two", final=True))))
    life.loses()
    life.retries()
    life.opened()
    life.says(update(segment(0, word("three", final=True), word("four", final=True))))
    assert life.words == ["one", "two", "three", "four"]


@pytest.mark.requirement("STT-02")
def test_3_vad_options_reach_the_wire_with_their_values() -> None:
    life = Life(request(vad={"skip": True, "threshold": 0.15})).begin()
    query = dict(life.done(acts.Connect)[0].query)
    assert (query["vad_kwargs"], query["skip_vad"]) == ('{"threshold":0.15}', "true")


@pytest.mark.requirement("STT-02")
def test_4_the_language_of_the_session_reaches_the_wire() -> None:
    life = Life(request(language="pt")).begin()
    assert dict(life.done(acts.Connect)[0].query)["language"] == "pt"


@pytest.mark.requirement("STT-09")
@pytest.mark.parametrize("code", [None, 503])
def test_5_a_connection_that_fails_to_open_is_tried_again_at_the_start_too(code: int | None) -> None:
    life = Life().begin()
    life.loses(code)
    life.retries()
    assert [each.conn for each in life.done(acts.Connect)] == [1, 2]


@pytest.mark.requirement("STT-09")
def test_6_a_socket_that_dies_under_a_send_costs_nothing() -> None:
    life = Life().opened()
    life.speak(0.1)
    life.speak(0.1)
    life.loses(None)  # the second frame never left
    life.speak(0.1)
    life.retries()
    life.opened()
    assert life.sent(2) == sound(0.3)


@pytest.mark.requirement("STT-08")
def test_7_the_echo_ends_the_session_without_any_wait() -> None:
    life = listening()
    life.control(type="end")
    assert kinds(life.says(ECHO))[-1] == "Finish"


@pytest.mark.requirement("STT-08")
def test_8_a_provider_that_takes_its_time_after_the_checkpoint_loses_no_tail() -> None:
    life = listening(3)
    life.control(type="end")
    life.later(20)
    life.says(update(segment(0, word("one", 0.1, 0.4))))
    life.later(20)
    life.says(update(segment(0, word("one", 0.1, 0.4), word("two", 0.5, 0.7))))
    life.later(20)
    life.says(ECHO)
    assert life.words == ["one", "two"]


@pytest.mark.requirement("STT-08")
def test_9_the_last_interim_becomes_final_at_the_close() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 0.1, 0.4))))
    life.control(type="end")
    life.says(ECHO)
    assert (life.interims, life.words) == (["one"], ["one"])


@pytest.mark.requirement("STT-07")
def test_10_text_without_words_becomes_final() -> None:
    life = listening()
    life.says({"task": "transcribe", "language": "en", "text": "hi", "segments": [{"id": 0, "text": "hi"}]})
    life.later(1)
    assert life.words == ["hi"]


@pytest.mark.requirement("STT-07")
def test_11_a_final_segment_that_is_revised_to_fewer_words_loses_no_new_one() -> None:
    life = listening()
    said = [word("I", 0.0, 0.2, final=True), word("am", 0.2, 0.4, final=True), word("fine", 0.4, 0.8, final=True)]
    life.says(update(segment(0, *said)))
    revised = [
        word("I'm", 0.0, 0.4, final=True),
        word("fine", 0.4, 0.8, final=True),
        word("thanks", 0.9, 1.3, final=True),
    ]
    life.says(update(segment(0, *revised)))
    assert life.words == ["I", "am", "fine", "thanks"]


@pytest.mark.requirement("STT-07")
def test_12_a_newest_segment_without_words_holds_up_no_earlier_one() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 0.1, 0.4, final=True)), segment(1), {"id": 2, "text": "", "words": None}))
    assert life.words == ["one"]


@pytest.mark.requirement("STT-07")
def test_13_a_final_last_word_makes_no_earlier_word_final() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 0.1, 0.4)), segment(1, word("two", 0.5, 0.9, final=True))))
    assert life.words == []


@pytest.mark.requirement("STT-04", "STT-09")
def test_14_audio_that_is_not_final_and_half_a_frame_outlive_a_connection() -> None:
    said = speech([(4_000, 0), (4_000, 100)])
    life = Life().opened()
    for at in range(0, len(said), 777):
        life.speak(pcm=said[at : at + 777])
    life.loses()
    life.retries()
    life.opened()
    life.control(type="end")
    assert life.sent(2)[: len(said)] == said


@pytest.mark.requirement("STT-14")
def test_15_audio_that_was_never_sent_is_on_no_meter() -> None:
    life = Life().begin()
    life.speak(5)
    life.loses(403)
    meters = life.result.audio
    assert (meters.sent_s, meters.acked_s, meters.billable_s) == (0, 0, 0)


@pytest.mark.requirement("STT-05", "STT-09")
def test_16_words_keep_their_times_on_one_timeline_and_all_that_is_known_of_them() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 6.0, 6.4, final=True, probability=0.7, hallucination_score=0.3))))
    life.loses()
    life.retries()
    life.opened()
    life.says(update(segment(0, word("two", OVERLAP_S + 1.0, OVERLAP_S + 1.5, final=True, language="fr"))))
    one, two = life.told(stt.SttFinal)
    assert (one.words[0].probability, one.words[0].hallucination_score) == (0.7, 0.3)
    assert (two.start, two.end, two.language) == pytest.approx((7.4, 7.9, "fr"))
    check(life)


def test_17_what_is_final_is_let_go() -> None:
    segments = SegmentMap(lambda seconds: round(seconds * RATE))
    server = Recogniser(Ways(final_delays=(0,), words_a_segment=1))
    upto = most = 0
    for _ in range(200):
        for message in server.audio(speech([(1_600, 1_600)])):
            segments.apply(segments_in(message) or [], 0.0, server.heard)
            final = [each for each in segments.pending(upto) if each.said.final]
            upto = final[-1].end if final else upto
            segments.settle(final, upto)
            most = max(most, len(segments))
    assert most <= 3


def test_the_table_of_defects_has_a_row_and_tests_for_each() -> None:
    """`docs/speech-defects.md` names tests that are there."""
    table = (ROOT / "docs/speech-defects.md").read_text()
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    code = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)", code))
    assert [int(row[1]) for row in rows] == list(range(1, 18))
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row[4])
        assert named[0].startswith(f"test_{int(row[1])}_")
        assert there.issuperset(named), row[1]
