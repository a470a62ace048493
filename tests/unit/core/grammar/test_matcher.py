"""Matching as text comes: streams, choices, ways out."""

import pytest

from workers.core.grammar import Matcher, parse

_VERDICT = parse('root ::= "yes" | "no" | "no" "t sure"')
_CITED = parse('root ::= text+ "."\ntext ::= [^[.]+ | "[" ("1" | "2" | "12") "]"')


def test_a_matcher_follows_a_stream_piece_by_piece() -> None:
    matcher = Matcher(_VERDICT)
    assert matcher.feed("n")
    assert not matcher.complete
    assert matcher.feed("")
    assert matcher.feed("o")
    assert matcher.complete
    assert matcher.feed("t s")
    assert not matcher.complete
    assert matcher.feed("ure")
    assert matcher.complete
    assert matcher.choices() == ()


def test_what_nothing_accepts_is_dead_for_ever() -> None:
    matcher = Matcher(_VERDICT)
    assert not matcher.feed("yex")
    assert not matcher.alive
    assert not matcher.feed("")
    assert not matcher.feed("s")
    assert not matcher.complete
    assert matcher.choices() == ()
    assert matcher.classes() == ()
    assert matcher.way_out() == ()


def test_following_takes_what_is_allowed_and_goes_on_from_there() -> None:
    matcher = Matcher(_VERDICT)
    assert matcher.follow("nobody") == 2
    assert matcher.alive
    assert matcher.complete
    assert matcher.follow("") == 0
    assert matcher.follow("t sure, no") == 6
    assert matcher.complete


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("yes", None),
        ("no", None),
        ("not sure", None),
        ("", 0),
        ("ye", 2),
        ("not", 3),
        ("yet", 2),
        ("yesno", 3),
        ("x", 0),
    ],
)
def test_a_mismatch_tells_a_wrong_character_from_a_text_that_breaks_off(text: str, index: int | None) -> None:
    assert _VERDICT.mismatch(text) == index


def test_choices_are_ranges_that_do_not_touch() -> None:
    matcher = Matcher(parse('root ::= [b-d] | "a" | [x-z] | "e"{2} | [^\\x00-\\U0010FFFE]'))
    assert matcher.choices() == (("a", "e"), ("x", "z"), ("\U0010ffff", "\U0010ffff"))
    assert matcher.feed("e")
    assert matcher.choices() == (("e", "e"),)


def test_a_negated_class_is_everything_but_itself_and_the_surrogates() -> None:
    ranges = Matcher(parse("root ::= [^a-z]")).choices()
    assert ranges == (("\x00", "`"), ("{", "\ud7ff"), ("\ue000", "\U0010ffff"))


def test_classes_keep_apart_what_the_grammar_spells_apart() -> None:
    matcher = Matcher(_CITED)
    matcher.feed("a")
    prose = (("\x00", "-"), ("/", "Z"), ("\\", "\ud7ff"), ("\ue000", "\U0010ffff"))
    assert set(matcher.classes()) == {prose, (("[", "["),), ((".", "."),)}
    assert matcher.choices() == (("\x00", "\ud7ff"), ("\ue000", "\U0010ffff"))


def test_the_way_out_leads_to_the_nearest_end() -> None:
    matcher = Matcher(_CITED)
    matcher.feed("[")
    assert matcher.shortest == 3
    assert matcher.way_out() == (("1", "2"),)
    matcher.feed("1")
    assert matcher.shortest == 2
    assert matcher.way_out() == (("]", "]"),)
    matcher.feed("].")
    assert matcher.shortest == 0
    assert matcher.complete
    assert matcher.way_out() == ()


def test_a_copy_goes_its_own_way() -> None:
    matcher = Matcher(_VERDICT)
    matcher.feed("n")
    twin = matcher.copy()
    assert not twin.feed("x")
    assert matcher.feed("o")
    assert matcher.complete
    assert not twin.alive


def test_matchers_with_the_same_texts_before_them_are_at_the_same_place() -> None:
    one, other = Matcher(_CITED), Matcher(_CITED)
    one.feed("abc [1]")
    other.feed("x [12]")
    assert one.place == other.place
    other.feed(".")
    assert one.place != other.place


def test_matchers_of_one_grammar_do_not_disturb_each_other() -> None:
    grammar = parse('root ::= "(" root ")" | [a-z]+')
    matchers = [Matcher(grammar) for _ in range(3)]
    texts = ["((a))", "(bc)", "((d)"]
    for step in range(5):
        for matcher, text in zip(matchers, texts, strict=True):
            matcher.feed(text[step : step + 1])
    assert [matcher.complete for matcher in matchers] == [True, True, False]
