"""Sources to passages: nothing is lost, everything fits, and each passage knows where it stands."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_contracts.citations import CiteRequest
from workers.core.citations.passages import MOST_NUMBERS, Shown, block, cuts, shown
from workers.core.citations.tokens import token_estimate


def request(*contents: str, question: str = "what?", **fields: Any) -> CiteRequest:
    sources = [{"id": f"s{n}", "content": content} for n, content in enumerate(contents, 1)]
    return CiteRequest.model_validate({"model": "m", "question": question, "sources": sources} | fields)


def ids(made: Shown) -> list[str]:
    return [piece.source.id for piece in made.pieces]


def sentence(word: str, times: int) -> str:
    return " ".join([word] * times) + ". "


# -- the estimate ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-01")
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("word", 2),
        ("The quick brown fox jumps over the lazy dog.", 16),  # 10 of a common tokenizer
        ("1234567890", 10),  # 4 of a tokenizer that takes digits by three, 10 of one that takes each
        ("{}[]()", 6),
        ("Привет", 6),
        ("水在沸腾", 6),
        ("🦊", 2),
    ],
)
def test_tokens_are_counted_rather_too_high(text: str, tokens: int) -> None:
    assert token_estimate(text) == tokens


@given(st.text(), st.text())
def test_a_longer_text_has_no_fewer_tokens(one: str, two: str) -> None:
    assert max(token_estimate(one), token_estimate(two)) <= token_estimate(one + two)
    assert token_estimate(one + two) <= token_estimate(one) + token_estimate(two)


# -- cuts --------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-01")
@settings(max_examples=200)
@given(st.text(alphabet="ab1 .\n水é!") | st.text(max_size=300), st.integers(50, 90))
def test_every_word_of_a_source_is_in_exactly_one_passage(text: str, budget: int) -> None:
    text *= 8
    spans = list(cuts(text, budget))
    assert "".join("".join(text[a:b] for a, b in spans).split()) == "".join(text.split())
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    for start, end in spans:
        assert 0 < token_estimate(text[start:end]) <= budget
        assert text[start:end] == text[start:end].strip()


@pytest.mark.requirement("CITE-01")
def test_a_source_is_cut_where_it_hurts_least() -> None:
    paragraphs = f"{sentence('alpha', 20)}\n\n{sentence('beta', 40)}"
    assert [paragraphs[a:b][:5] for a, b in cuts(paragraphs, 70)] == ["alpha", "beta "]
    flowing = sentence("alpha", 20) + sentence("beta", 20) + sentence("gamma", 20)
    assert [flowing[a:b][-6:] for a, b in cuts(flowing, 60)] == ["alpha.", " beta.", "gamma."]
    words = "alpha " * 60
    assert {words[a:b][-5:] for a, b in cuts(words, 50)} == {"alpha"}
    block_of_signs = "水" * 200
    assert [b - a for a, b in cuts(block_of_signs, 50)] == [33, 33, 33, 33, 33, 33, 2]


# -- which are shown ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-01")
def test_short_sources_are_numbered_as_they_come() -> None:
    made = shown(request("One.", "  Two.\n", "Three."))
    assert [(p.place, p.source.id, p.text) for p in made.pieces] == [
        (1, "s1", "One."), (2, "s2", "Two."), (3, "s3", "Three."),
    ]  # fmt: skip
    assert (made.left_out, made.unread) == (0, ())


@pytest.mark.requirement("CITE-01")
def test_a_long_source_is_several_passages_that_map_back() -> None:
    long = sentence("alpha", 60) + sentence("beta", 60)
    made = shown(request("One.", long, passage_tokens=100))
    assert ids(made) == ["s1", "s2", "s2", "s2"]
    assert [piece.place for piece in made.pieces] == [1, 2, 2, 2]
    for piece in made.pieces[1:]:
        assert piece.text == long[piece.start : piece.end]


@pytest.mark.requirement("CITE-01")
def test_when_not_everything_fits_what_is_near_the_question_is_taken() -> None:
    filler = [sentence(word, 60) for word in ("alpha", "beta", "gamma", "delta")]
    asked = request(*filler, question="Tell me about Gamma!", prompt_tokens=300, passage_tokens=200)
    made = shown(asked)
    assert "s3" in ids(made)
    assert made.left_out == 4 - len(made.pieces) > 0
    assert set(made.unread) == {"s1", "s2", "s3", "s4"} - set(ids(made))
    assert sum(token_estimate(block(n, p)) for n, p in enumerate(made.pieces, 1)) <= 300
    assert [piece.place for piece in made.pieces] == sorted(piece.place for piece in made.pieces)


def test_a_question_that_is_near_nothing_gets_the_beginnings() -> None:
    long = [sentence(word, 300) for word in ("alpha", "beta")]
    made = shown(request(*long, question="zeta?", passage_tokens=100, prompt_tokens=260))
    assert {("s1", 0), ("s2", 0)} <= {(piece.source.id, piece.start) for piece in made.pieces}
    assert made.unread == ("s1", "s2"), "neither was shown whole"


def test_at_least_one_passage_is_shown() -> None:
    asked = request("水" * 130, passage_tokens=200, prompt_tokens=200)
    asked.sources[0].metadata["title"] = "x" * 200
    assert [piece.text for piece in shown(asked).pieces] == ["水" * 130]


def test_there_are_no_more_numbers_than_a_model_can_handle() -> None:
    made = shown(request("a. " * 300_000, passage_tokens=50, prompt_tokens=1_000_000))
    assert len(made.pieces) == MOST_NUMBERS
    assert made.unread == ("s1",)


def test_a_passage_says_what_it_is_from() -> None:
    asked = request("One.")
    asked.sources[0].metadata.update(title='On "Water"', issued={"date-parts": [[1742, 4]]})
    assert block(7, shown(asked).pieces[0]) == '<passage number="7" source="On \'Water\', 1742">\nOne.\n</passage>'
    assert block(7, shown(request("One.")).pieces[0]) == '<passage number="7">\nOne.\n</passage>'
