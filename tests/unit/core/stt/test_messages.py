"""What the provider says, read without trust."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.stt.playing import segment, update, word
from workers.core.stt.messages import error_in, segments_in, shown_in
from workers.core.text import storable

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                (
                    "segments", "words", "word", "id", "text", "start", "end", "is_final", "language", "error",
                    "checkpoint_id", "object", "trace_id", "message", "code", "probability",
                )
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)  # fmt: skip


def read(message: dict[str, Any]) -> list[tuple[int, list[str]]] | None:
    segments = segments_in(message)
    return None if segments is None else [(each.id, [each.text for each in each.words]) for each in segments]


@pytest.mark.parametrize("number", [10, "10", " 10 ", 10.0])
@pytest.mark.requirement("STT-06")
def test_ids_may_be_numbers_or_strings(number: Any) -> None:
    assert read(update(segment(number, word("hi")))) == [(10, ["hi"])]


@pytest.mark.parametrize("number", [None, True, -1, 1.5, "a", "", "²", float("nan"), float("inf"), [], 10**20])
def test_a_segment_without_a_sensible_id_is_passed_over(number: Any) -> None:
    assert read(update(segment(number, word("hi")))) is None
    assert read(update(segment(number, word("hi")), segment(1, word("you")))) == [(1, ["you"])]


def test_a_word_carries_all_that_is_told_of_it() -> None:
    [said] = segments_in(update(segment(3, word("hi", 0.5, 0.75, final=True)))) or []
    [heard] = said.words
    assert (heard.start, heard.end, heard.final) == (0.5, 0.75, True)
    assert (heard.probability, heard.hallucination_score, heard.language) == (0.9, 0.1, "en")


@pytest.mark.parametrize(
    ("start", "end"), [(1.0, 0.5), (-0.1, 1), ("0", "1"), (float("nan"), 1), (0, float("inf")), (None, 1), (0, 1e9)]
)
def test_times_that_make_no_sense_are_no_times(start: Any, end: Any) -> None:
    [said] = segments_in(update(segment(0, word("hi", start, end)))) or []
    assert (said.words[0].start, said.words[0].end) == (None, None)


@pytest.mark.requirement("STT-07")
@pytest.mark.parametrize("words", [{}, {"words": None}, {"words": []}, {"words": [{"word": " "}, 7, None]}])
def test_a_segment_without_words_is_read_from_its_text(words: dict[str, Any]) -> None:
    message = {"segments": [{"id": 0, "text": "good  morning, you", **words}]}
    [said] = segments_in(message) or []
    assert [each.text for each in said.words] == ["good", "morning,", "you"]
    assert all(each.final is None and each.start is None for each in said.words)


def test_text_without_spaces_is_read_by_the_character() -> None:
    assert read({"segments": [{"id": 0, "text": "你好 ok世界"}]}) == [(0, ["你", "好", "ok", "世", "界"])]


def test_words_that_stand_beside_the_segments_are_dealt_out() -> None:
    loose = [word("good"), word("morning"), word("you")]
    segments = [{"id": 4, "text": "good morning"}, {"id": 5, "text": "you"}]
    assert read({"segments": segments, "words": loose}) == [(4, ["good", "morning"]), (5, ["you"])]
    assert read({"segments": segments[::-1], "words": loose}) == [(4, ["good", "morning"]), (5, ["you"])]
    segments[0]["text"] = "good"
    assert read({"segments": segments, "words": loose}) == [(4, ["good", "morning", "you"]), (5, ["you"])]


def test_an_update_without_segments_counts_as_one() -> None:
    assert read({"text": "good morning"}) == [(0, ["good", "morning"])]
    assert read({"text": "good", "words": [word("good")], "segments": None}) == [(0, ["good"])]
    assert read({"text": "good", "words": [word("good")], "segments": []}) == [(0, ["good"])]
    assert read({"segments": []}) == []


@pytest.mark.parametrize("message", [{}, {"object": "stt.output.trace"}, {"text": None}, {"segments": [1, None]}])
def test_other_messages_are_no_updates(message: dict[str, Any]) -> None:
    assert segments_in(message) is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("bad audio", "bad audio"),
        ({"message": "bad audio", "code": 400}, "bad audio"),
        ({"code": 400}, "400"),
        ({}, "no message"),
        (["x"], "no message"),
        ("", ""),
        ("x" * 500, "x" * 200),
        ("\ud800", "?"),
    ],
)
@pytest.mark.requirement("STT-16")
def test_an_error_may_be_text_or_an_object(error: Any, said: str) -> None:
    assert error_in({"error": error}) == said


def test_a_message_whose_error_is_null_is_no_error() -> None:
    assert error_in({"error": None}) is None
    assert error_in({}) is None


@pytest.mark.parametrize(
    ("text", "words", "shown"),
    [
        ("Hello, world.", ["Hello", "world"], [" Hello,", " world."]),
        ("你好世界。", ["你好", "世界"], [" 你好", "世界。"]),
        ("it's (really) so", ["it's", "really", "so"], [" it's", " (really)", " so"]),
        ("something else", ["not", "this"], [" not", " this"]),
        ("", [], []),
        ("  lead", ["lead"], [" lead"]),
    ],
)
def test_words_are_shown_as_their_segment_shows_them(text: str, words: list[str], shown: list[str]) -> None:
    assert shown_in(text, words) == shown


def test_halves_of_characters_are_made_harmless() -> None:
    assert storable("a\ud83d b") == "a? b"
    assert storable("größer 😀") == "größer 😀"


@given(st.dictionaries(st.sampled_from(("segments", "words", "text", "error")), JSON, max_size=4))
def test_no_message_raises(message: dict[str, Any]) -> None:
    segments_in(message)
    error_in(message)
