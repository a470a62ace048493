"""The grammar of an answer: what it accepts cites existing passages only, and the words ask for what it forces."""

import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.citations.texts import walk
from workers.core.citations import writing
from workers.core.citations.form import MOST_MARKS, Form
from workers.core.citations.sentences import sentences
from workers.core.grammar import compiled, parse

NUMBERS = (1, 2, 9, 10, 37, 100, 500, 999)
FIRST = [Form(policy, n, 4) for policy in ("required", "auto") for n in NUMBERS]
FORMS = [*FIRST, *(replace(form, sentences=8).tighter() for form in FIRST)]
REQUIRED, AUTO = Form("required", 5, 12), Form("auto", 5, 12)


def accepts(form: Form, text: str) -> bool:
    return compiled(form.grammar).matches(text)


# -- closed ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-03")
@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FORMS), st.integers(0, 2**32), st.integers(0, 160))
@pytest.mark.long
def test_whatever_the_grammar_accepts_cites_existing_passages_only(form: Form, seed: int, length: int) -> None:
    text = walk(compiled(form.grammar), Random(seed), length)
    cited = re.findall(r"\[([0-9]+)\]", text)
    assert text.count("[") == len(cited), "an opening bracket that opens no marker"
    assert all(1 <= int(number) <= form.numbers and str(int(number)) == number for number in cited)
    found = [marker.number for s in sentences(text) for group in s.groups for marker in group.markers]
    assert found == list(map(int, cited)), "what was read is not what stands there"
    assert not set(text) & set(writing.LOOKALIKES)


@pytest.mark.requirement("CITE-03", "CITE-05")
@settings(max_examples=100, deadline=None)
@given(st.sampled_from([f for f in FORMS if f.policy == "required"]), st.integers(0, 2**32), st.integers(0, 160))
@pytest.mark.long
def test_no_uncited_sentence_hides_in_what_required_accepts(form: Form, seed: int, length: int) -> None:
    text = walk(compiled(form.grammar), Random(seed), length)
    assert sentences(text)
    assert [text[s.start : s.end] for s in sentences(text) if not s.groups] == []


@pytest.mark.requirement("CITE-03")
@pytest.mark.parametrize("last", [1, 2, 9, 10, 11, 19, 20, 99, 100, 101, 110, 109, 499, 500, 501, 990, 998, 999])
def test_every_number_up_to_the_last_can_be_cited_and_no_other(last: int) -> None:
    number = parse(Form("auto", last, 1).grammar).rule("number")
    assert [n for n in range(1100) if number.matches(str(n))] == list(range(1, last + 1))
    assert not any(number.matches(wrong) for wrong in ("", "00", "01", "007", "-1", "1 ", "\u0661"))


@pytest.mark.requirement("CITE-03")
def test_the_grammar_keeps_to_the_documented_subset_and_stays_small() -> None:
    for form in FORMS:
        assert parse(form.grammar).beyond == ()
        assert re.findall(r"\\[^nxu\"]", form.grammar) == []
        names = re.findall(r"^(\S+) ::=", form.grammar, re.MULTILINE)
        assert [name for name in names if not re.fullmatch("[a-z]+(-[a-z]+)*", name)] == []
    largest = Form("required", 500, 60)
    assert len(largest.grammar.encode()) < 8_000
    assert len(Form("required", 500, 12).grammar) - len(Form("required", 9, 12).grammar) < 60, "numbers are a trie"


# -- REQUIRED ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-03", "CITE-06")
@pytest.mark.parametrize(
    "text",
    [
        "Water boils [1].",
        "Water boils. [1]",
        "Water boils.[1]",
        "Water boils [1][2]. It freezes [3]!",
        "Water boils [1] [2], and ice melts [3].",
        "It is 3.14 wide, see https://a.com/x.html?y=1&z=2 [1].",
        "The U.S. report by Dr. J. R. Smith et al. (2019), e.g. its No. 5, says so [4].",
        'He said "it boils [1]." Then it did [2].',
        'He said "it boils." [1] Then it did [2].',
        "It left at 5 p.m. on Monday (as v1.2.3 says [1]).",
        "- one item [1].\n- another item [2].\n\nThe end [3].",
        "1. One item [1].\n2. Another item [2].",
        "水在一百度沸腾[1]。冰会融化。[2]然后[3]。",
        "Why does it boil [1]?! Because [2]...",
    ],
)
def test_required_takes_prose_as_people_write_it(text: str) -> None:
    assert compiled(REQUIRED.grammar).mismatch(text) is None


@pytest.mark.requirement("CITE-03")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1].",
        " [1].",
        "Water boils.",
        "Water boils [6].",
        "Water boils [0].",
        "Water boils [01].",
        "Water boils [1-3].",
        "Water boils [1]\u2013[3].",
        "Water boils [ 1 ].",
        "Water boils [1]",
        "Water boils. It freezes [1].",
        "Water boils [1]. It freezes.",
        "Does it boil? It does [1].",
        "Water boils\nat 100 °C [1].",
        "It is hot etc. The rest is cold [1].",
        "水沸腾。冰融化[1]。",
        "Water  boils [1].",
        "Water boils [1].\n",
        "Water boils [1][2][3][4][5].",
        "Water [boils](x) [1].",
        "Water 【1】 [1].",
        "Water\u202eboils [1].",
    ],
)
def test_required_takes_nothing_without_its_marker(text: str) -> None:
    assert not accepts(REQUIRED, text)


@pytest.mark.requirement("CITE-03", "CITE-05")
@pytest.mark.parametrize("form", [REQUIRED, AUTO.tighter()])
def test_an_answer_cannot_ramble(form: Form) -> None:
    assert accepts(form, " ".join(["It boils [1]."] * form.sentences))
    assert not accepts(form, " ".join(["It boils [1]."] * (form.sentences + 1)))
    assert not accepts(AUTO, "It" + " " * 3 + "boils."), "white space does not repeat"
    assert not accepts(AUTO, "It boils " + "[1]" * (MOST_MARKS + 1))
    assert not accepts(AUTO, "It boils " + "[1] " * MOST_MARKS + "[1]")


# -- AUTO --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["Hello", "[1] says so.", "a[2]b", "## Title\n\nText. [1]\n  - item", "(a) {b} ^1 it's f(x)]", "… [3][4] …"]
)
def test_auto_takes_markers_anywhere(text: str) -> None:
    assert accepts(AUTO, text)


@pytest.mark.requirement("CITE-03")
@pytest.mark.parametrize("text", ["", " ", "[1]", "[1] [2]", "x [9]", "x [a]", "x [", "[99", "a [1", " a", "a "])
def test_auto_takes_no_other_brackets(text: str) -> None:
    assert not accepts(AUTO, text)


# -- the second try ----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-05")
@pytest.mark.parametrize("form", [REQUIRED, AUTO, Form("required", 5, 1)])
def test_the_tighter_form_wants_less_and_shorter_sentences(form: Form) -> None:
    tight = form.tighter()
    assert tight.sentences == (form.sentences + 1) // 2
    assert accepts(tight, "word " * 39 + "word [1].")
    assert not accepts(tight, "word " * 40 + "word [1].")
    assert accepts(tight, "8" * 40 + " [1].")
    assert not accepts(tight, "8" * 41 + " [1].")
    assert not accepts(tight, "3." * 40 + "3 [1].")
    assert tight.grammar != form.grammar
    assert tight.digest != form.digest
    assert f"at most {tight.words} words" in tight.instruction


@pytest.mark.requirement("CITE-05")
@settings(max_examples=40, deadline=None)
@given(st.sampled_from([form for form in FORMS if form.words]), st.integers(0, 2**32), st.integers(0, 120))
@pytest.mark.long
def test_what_the_tighter_form_accepts_the_first_accepts_too(tight: Form, seed: int, length: int) -> None:
    first = Form(tight.policy, tight.numbers, 8)
    assert accepts(first, walk(compiled(tight.grammar), Random(seed), length))


# -- the words ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-04")
@pytest.mark.parametrize("form", [*FORMS, REQUIRED, AUTO])
def test_the_words_ask_for_what_the_grammar_forces(form: Form) -> None:
    examples = re.findall(r"^Example: (.*)$", form.instruction, re.MULTILINE)
    assert examples == list(form.examples)
    for example in examples:
        assert compiled(form.grammar).mismatch(example) is None
    assert f"at most {form.sentences} complete sentences" in form.instruction
    assert (f"1 to {form.numbers};" if form.numbers > 1 else "numbers are 1;") in form.instruction
    assert f"at most {MOST_MARKS} stand together" in form.instruction
    assert ("A sentence without them is not allowed" in form.instruction) == (form.policy == "required")


def test_the_digest_names_the_grammar() -> None:
    assert re.fullmatch("[0-9a-f]{32}", REQUIRED.digest)
    assert REQUIRED.digest == Form("required", 5, 12).digest != Form("required", 6, 12).digest
