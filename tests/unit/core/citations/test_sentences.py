"""Where sentences end, and which markers are theirs."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.citations.texts import PIECES, SPACES
from workers.core.citations.sentences import quoted, sentences


def read(text: str) -> list[tuple[str, list[int]]]:
    return [(text[s.start : s.end], [m.number for g in s.groups for m in g.markers]) for s in sentences(text)]


@pytest.mark.requirement("CITE-06")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Alpha [1]. Beta [2].", [("Alpha [1].", [1]), ("Beta [2].", [2])]),
        ("Alpha. [1] Beta. [2]", [("Alpha. [1]", [1]), ("Beta. [2]", [2])]),
        ("Alpha.[1] Beta.[2]", [("Alpha.[1]", [1]), ("Beta.[2]", [2])]),
        ("Alpha. [1] Beta [2].", [("Alpha. [1]", [1]), ("Beta [2].", [2])]),
        ("Alpha. [1] beta. [2]", [("Alpha. [1]", [1]), ("beta. [2]", [2])]),
        ("Alpha [1]. beta [2].", [("Alpha [1].", [1]), ("beta [2].", [2])]),
        ("(Alpha [1]). beta [2].", [("(Alpha [1]).", [1]), ("beta [2].", [2])]),
        ("Alpha.\n[1]\nBeta.", [("Alpha.\n[1]", [1]), ("Beta.", [])]),
        ("He said “it boils.” [1] Then it did.", [("He said “it boils.” [1]", [1]), ("Then it did.", [])]),
        ("水沸腾。[1]冰融化[2]。", [("水沸腾。[1]", [1]), ("冰融化[2]。", [2])]),
        ("Alpha [1][2]. Beta [3] and gamma [1].", [("Alpha [1][2].", [1, 2]), ("Beta [3] and gamma [1].", [3, 1])]),
        ("Is it [1]?! Yes [2]...", [("Is it [1]?!", [1]), ("Yes [2]...", [2])]),
        ("(Alpha [1].) Beta.", [("(Alpha [1].)", [1]), ("Beta.", [])]),
    ],
)
def test_a_marker_after_the_full_stop_belongs_to_the_sentence_before_it(
    text: str, found: list[tuple[str, list[int]]]
) -> None:
    assert read(text) == found


@pytest.mark.requirement("CITE-06")
@pytest.mark.parametrize(
    "sentence",
    [
        "It is 3.14 wide [1].",
        "See https://a.com/x.html?y=1 or v1.2.3 [1].",
        "The U.S. report by Dr. J. R. Smith says so [1].",
        "Smith et al. [1] found it.",
        "Smith et al. (2019) found it, e.g. Paris, i.e. France [1].",
        "It left at 5 p.m. on Jan. 5 with no. 7 of Foo Inc. in it [1].",
        "1. One item [1].",
        'He said "Alpha. Beta." and left [1].',
        "He said “Alpha! Beta” [1] and left.",
        "It went ... on and on [1].",
        "Fragen? ja, viele [1].",
        "He asked etc., [1] and so on.",
        "Foo etc. [1].",
    ],
)
def test_a_full_stop_inside_a_sentence_does_not_break_it(sentence: str) -> None:
    assert [text for text, _ in read(f"Before. {sentence} After.")] == ["Before.", sentence, "After."]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It was 1999. Then it ended.", ["It was 1999.", "Then it ended."]),
        ("Apples, pears, etc. The rest is bad.", ["Apples, pears, etc.", "The rest is bad."]),
        ("Alpha!Beta? Gamma", ["Alpha!Beta?", "Gamma"]),
        ("Title\nText.", ["Title", "Text."]),
        ("- one\n- two", ["- one", "- two"]),
        ("One.\n\n---\n\nTwo.", ["One.", "Two."]),
        ('It is 5" wide. It is 6" high.', ['It is 5" wide.', 'It is 6" high.']),
        ("नमस्ते।फिर", ["नमस्ते।", "फिर"]),
        ("  Alpha.  Beta.  ", ["Alpha.", "Beta."]),
        ("", []),
        (" .\n? ", []),
        ("[1] says so.", ["[1] says so."]),
        ("[1] [2]", ["[1] [2]"]),
        ("\n[1]\nAlpha", ["[1]", "Alpha"]),
    ],
)
def test_sentences_end_where_people_end_them(text: str, found: list[str]) -> None:
    assert [sentence for sentence, _ in read(text)] == found


@pytest.mark.requirement("CITE-06")
def test_spans_count_code_points() -> None:
    text = "🦊 says “naïve” [1]. Zwölf [2]."
    first, second = sentences(text)
    assert text[first.start : first.end] == "🦊 says “naïve” [1]."
    marker = second.groups[0].markers[0]
    assert text[marker.start : marker.end] == "[2]"


anything = st.lists(st.tuples(st.sampled_from(SPACES), st.sampled_from(PIECES)), max_size=40).map(
    lambda pairs: "".join(space + piece for space, piece in pairs)
)


@pytest.mark.requirement("CITE-06")
@settings(max_examples=300)
@given(anything | st.text())
def test_of_any_text_sentences_are_in_order_and_hold_every_marker_once(text: str) -> None:
    found = sentences(text)
    markers = [marker for sentence in found for group in sentence.groups for marker in group.markers]
    assert [text[m.start : m.end] for m in markers] == [f"[{m.number}]" for m in markers]
    assert len({m.start for m in markers}) == len(markers)
    for sentence in found:
        span = text[sentence.start : sentence.end]
        assert span == span.strip() != ""
        assert all(sentence.start <= g.start < g.end <= sentence.end for g in sentence.groups)
    assert all(one.end <= other.start for one, other in pairwise(found))
    outside = text
    for sentence in reversed(found):
        outside = outside[: sentence.start] + outside[sentence.end :]
    assert not any(character.isalnum() for character in outside)
    assert "[1]" not in outside


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('He said "it boils" and “it melts”.', ["it boils", "it melts"]),
        ("«il bout» „es kocht“ 「沸」", ["il bout", "es kocht", "沸"]),
        ('"All of it"', ["All of it"]),
        ('(as "one" says) " spaced "', ["one", "spaced"]),
        ('5" and 6" wide', []),
        ("it's the dogs' 'life'", []),
        ('"over\na line"', []),
        ('"" “ ” "..."', []),
        ('an "open quote', []),
    ],
)
def test_words_in_quotation_marks_are_found(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in quoted(text)] == words
