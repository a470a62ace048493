"""What an answer is worth: faults, citations with their verdicts, what is uncited, the references."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_contracts.citations import Citation, Reason, Source, Style, Verdict
from tests.unit.core.citations.texts import PIECES, SPACES
from workers.core.citations.check import Checked, Fault, checked, failure_of, fault_of
from workers.core.citations.form import Form
from workers.core.citations.passages import Piece
from workers.core.citations.quotes import find_quote
from workers.core.citations.references import references_of
from workers.core.grammar import compiled

WATER = "Water boils at 100 °C.\nIt  is\nwet. Ice melts."
FIRE = "Fire is hot; it needs air. Fire needs air."


def piece(place: int, id_: str, content: str, start: int = 0, end: int | None = None, **metadata: Any) -> Piece:
    return Piece(place, Source(id=id_, content=content, metadata=metadata), start, len(content) if end is None else end)


PIECES_OF = [piece(1, "water", WATER, 0, 22), piece(1, "water", WATER, 23), piece(2, "fire", FIRE)]


def check(text: str) -> Checked:
    return checked(text, PIECES_OF, ["existence", "verbatim"])


def quotes(text: str) -> list[Verdict]:
    return [v for citation in check(text).citations for v in citation.verdicts if v.tier == "verbatim"]


# -- faults ------------------------------------------------------------------------------------------------------------

GRAMMAR = compiled(Form("required", 3, 4).grammar)


@pytest.mark.requirement("CITE-05")
@pytest.mark.parametrize(
    ("text", "finish", "reason", "detail"),
    [
        ("Water boils [1].", "length", "truncated", "max_tokens"),
        ("Water boils [1].", "content_filter", "filtered", "filtered"),
        ("", "stop", "empty", "no words"),
        ("[1] [2]", "stop", "empty", "no words"),
        ("… [1].", "stop", "empty", "no words"),
        ("Water boils [4].", "stop", "mismatch", "does not allow character 13 of 16"),
        ("Water boils", "stop", "mismatch", "breaks off at character 11"),
        ("Water \ud800 [1].", "stop", "mismatch", "does not allow character 6"),
        ("{\"text\": 1}", "stop", "mismatch", ""),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_hold_says_why(text: str, finish: str, reason: str, detail: str) -> None:
    fault = fault_of(text, finish, GRAMMAR)
    assert fault is not None
    assert fault.reason == reason
    assert detail in fault.detail


@pytest.mark.requirement("CITE-05")
def test_an_answer_that_holds_has_no_fault() -> None:
    assert fault_of("Water boils [1].", "stop", GRAMMAR) is None


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_fault_is_a_failure_without_content(reason: Reason) -> None:
    failure = failure_of(Fault(reason, "character 7"), "req-1")
    assert failure.code.startswith("answer_")
    assert failure.message.endswith("; character 7")
    assert failure.provider_request_id == "req-1"
    assert (failure.at_fault == "caller") == (reason == "truncated") == (not failure.retryable)


# -- citations ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-01", "CITE-06")
def test_a_citation_maps_back_to_sources_and_the_sentence_it_supports() -> None:
    text = "🜂 Fire is hot. [3][3] Water boils [1] [2]."
    first, second = check(text).citations
    assert text[first.start : first.end] == "🜂 Fire is hot. [3][3]"
    assert (first.numbers, first.source_ids) == ([3], ["fire"])
    assert text[second.start : second.end] == "Water boils [1] [2]."
    assert (second.numbers, second.source_ids) == ([1, 2], ["water"])
    assert [(text[m.start : m.end], m.number, m.source_id) for m in second.marks] == [
        ("[1]", 1, "water"), ("[2]", 2, "water"),
    ]  # fmt: skip


@pytest.mark.requirement("CITE-08")
def test_each_occurrence_has_verdicts_of_its_own() -> None:
    found = check('He says "Fire is hot" [3]. She says "Fire is cold" [3]. It burns [3].').citations
    assert [[v.verdict for v in citation.verdicts] for citation in found] == [
        ["exists", "verbatim"], ["exists", "not_found"], ["exists"],
    ]  # fmt: skip
    assert [citation.quote for citation in found] == ["Fire is hot", "Fire is cold", None]


def test_only_the_tiers_that_were_asked_for_are_checked() -> None:
    text = 'He says "Fire is hot" [3].'
    assert checked(text, PIECES_OF, []).citations[0].verdicts == []
    assert [v.tier for v in checked(text, PIECES_OF, ["verbatim"]).citations[0].verdicts] == ["verbatim"]


@pytest.mark.requirement("CITE-06")
def test_several_citations_of_a_sentence_share_its_span_and_split_its_quotes() -> None:
    text = 'It says "boils at 100 °C" [1], and "it needs air" [3] or "wet".'
    one, other = check(text).citations
    assert (one.start, one.end) == (other.start, other.end) == (0, len(text))
    assert (one.quote, other.quote) == ("boils at 100 °C", "it needs air")
    assert [v.verdict for v in other.verdicts] == ["exists", "verbatim", "not_found"], "the last one has no other"


# -- quotes ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-08")
@pytest.mark.parametrize(
    ("text", "source_id", "words"),
    [
        ('"Water boils at 100 °C" [1].', "water", "Water boils at 100 °C"),
        ('"It is wet" [2].', "water", "It  is\nwet"),
        ("“Ice melts” [1].", "water", "Ice melts"),
        ('"Ice melts!" [2].', "water", "Ice melts"),
        ('He called it "hot," too [3].', "fire", "hot"),
        ('"needs air" [1][3].', "fire", "needs air"),
        ('"Fire [3] is hot" [3].', "fire", "Fire is hot"),
        ('"needs air." [3]', "fire", "needs air."),
    ],
)
def test_a_quote_is_found_in_a_cited_source_and_says_where(text: str, source_id: str, words: str) -> None:
    (verdict,) = quotes(text)
    content = {"water": WATER, "fire": FIRE}[source_id]
    assert (verdict.verdict, verdict.source_id) == ("verbatim", source_id)
    assert content[verdict.source_start : verdict.source_end] == words
    assert verdict.quote is not None
    assert text[verdict.quote.start - 1] in '"“'
    assert text[verdict.quote.end] in '"”'


@pytest.mark.requirement("CITE-08")
@pytest.mark.parametrize(
    "text",
    [
        '"Fire is hot" [1].',
        '"water boils" [1].',
        '"Fire is … air" [3].',
        '"Fire hot" [3].',
        '"Waterboils" [1].',
        '"oils at" [1].',
        '"ire is hot" [3].',
        '"Fire is ho" [3].',
        '"Water boils at 100 °C. Ice melts" [1].',
    ],
)
def test_a_quote_that_is_not_there_word_for_word_is_not_found(text: str) -> None:
    (verdict,) = quotes(text)
    assert (verdict.verdict, verdict.source_id, verdict.source_start) == ("not_found", None, None)


def test_scripts_without_spaces_are_quoted_in_the_middle() -> None:
    assert find_quote("在沸", "水在沸腾", 0, 4) == (1, 3)


def test_the_cited_passage_comes_before_the_rest_of_the_source() -> None:
    assert find_quote("needs air", FIRE, 27, len(FIRE)) == (32, 41)
    assert find_quote("needs air", FIRE, 0, 10) == (16, 25)


@pytest.mark.requirement("CITE-08")
@given(st.text(alphabet="ab .*+?()[]\\\n"), st.integers(0, 30), st.integers(0, 30))
def test_any_words_of_a_source_are_found_in_it(content: str, one: int, other: int) -> None:
    quote = content[min(one, other) : max(one, other)].strip()
    at = content.find(quote)
    whole = f" {content} "[at : at + len(quote) + 2]
    if "[" in quote or not quote or whole[0].isalnum() or whole[-1].isalnum():
        return  # a marker, nothing, or half a word
    found = find_quote(quote, content, 0, len(content))
    assert found is not None
    assert content[slice(*found)].split() == quote.split()


# -- coverage ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-05")
def test_no_citation_is_never_full_support() -> None:
    nothing = check("Water boils. Fire is hot.")
    assert (nothing.citations, nothing.coverage.share, len(nothing.uncited)) == ([], 0.0, 2)
    assert checked("", PIECES_OF, []).coverage.share == 0.0
    text = "Water boils [1]. Fire is hot. It melts. [2]"
    some = check(text)
    assert [text[span.start : span.end] for span in some.uncited] == ["Fire is hot."]
    assert some.coverage.model_dump() == {"sentences": 3, "cited": 2, "share": 0.6667}


KNOWN = [piece for piece in PIECES if not set(piece) & set("[79") or piece in ("[1]", "[2]", "[3][1]")]


@pytest.mark.requirement("CITE-05", "CITE-06")
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SPACES), st.sampled_from(KNOWN))))
@pytest.mark.long
def test_full_support_has_citations_and_every_span_is_in_the_text(pieces: list[tuple[str, str]]) -> None:
    text = "".join(space + word for space, word in pieces)
    found = check(text)
    assert found.citations or found.coverage.share == 0.0
    assert (found.coverage.share == 1.0) == (found.uncited == [] and found.citations != [])
    for citation in found.citations:
        assert 0 <= citation.start < citation.end <= len(text)
        assert [text[m.start : m.end] for m in citation.marks] == [f"[{m.number}]" for m in citation.marks]


# -- references --------------------------------------------------------------------------------------------------------


def plainly(items: Sequence[Mapping[str, Any]], style: Style) -> list[str]:
    return [f"{item['title']} ({style}, {item['type']})" for item in items]


def cited(*groups: list[int]) -> list[Citation]:
    return [Citation(start=0, end=1, numbers=numbers, source_ids=[], marks=[]) for numbers in groups]


@pytest.mark.requirement("CITE-07")
def test_references_are_numbered_as_in_the_text() -> None:
    pieces = [
        piece(1, "a", "x", title="Alpha", type="book"), piece(2, "b", "xy", 0, 1), piece(2, "b", "xy", 1, 2),
        piece(3, "c", "z", title=" "),
    ]  # fmt: skip
    made = references_of(cited([4], [3, 1], [2, 3]), pieces, "ieee", plainly)
    assert [reference.text for reference in made] == [
        "[1] Alpha (ieee, book)", "[2], [3] b (ieee, document)", "[4] c (ieee, document)",
    ]  # fmt: skip
    assert [(r.source_id, r.numbers) for r in made] == [("a", [1]), ("b", [2, 3]), ("c", [4])]
    assert [p.model_dump() for p in made[1].passages] == [
        {"number": 2, "start": 0, "end": 1}, {"number": 3, "start": 1, "end": 2},
    ]  # fmt: skip


def test_references_come_by_their_numbers() -> None:
    pieces = [piece(n, f"s{n}", "x") for n in range(1, 10)]
    made = references_of(cited([9], [8, 1]), pieces, "ieee", plainly)
    assert [reference.numbers for reference in made] == [[1], [8], [9]]


def test_only_what_is_cited_is_referenced() -> None:
    assert references_of([], PIECES_OF, "ieee", plainly) == []
    assert [r.source_id for r in references_of(cited([3]), PIECES_OF, "ieee", plainly)] == ["fire"]
