"""Text under a grammar: what is made up matches, what is scripted is held to it."""

from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.core.grammar.naive import Rules, is_refused, written
from tests.unit.core.grammar.test_properties import RULES
from workers.core.grammar import Grammar, parse
from workers.emulator.grammar_sampler import compose, force

pytestmark = pytest.mark.requirement("EMU-03")

VERDICT = 'root ::= "yes" | "no" | "unsure"'
CITED = (
    'root ::= sentence (" " sentence)*\nsentence ::= content " " cite+ [.!?]\n'
    'content ::= [^[.!?]{1, 240}\ncite ::= "[" ("1" | "2" | "3") "]"'
)
FREE = 'root ::= (text | cite)+\ntext ::= [^[]+\ncite ::= "[" ("1" | "2" | "12") "]"'
NESTED = 'root ::= "[" (root ("," root)*)? "]" | [0-9]+ | "\\"" [^"\\\\]* "\\""'


@settings(max_examples=60)
@given(rules=RULES, seed=st.integers(0, 2**32), script=st.text("ab[é\nz ", max_size=12))
@pytest.mark.long
def test_what_is_said_always_matches(rules: Rules, seed: int, script: str) -> None:
    assume(not is_refused(rules))
    grammar = parse(written(rules))
    assert grammar.matches(compose(grammar, Random(seed)))
    forced = force(grammar, script)
    assert grammar.matches(forced)
    if grammar.matches(script):
        assert forced == script


@pytest.mark.parametrize("text", [VERDICT, CITED, FREE, NESTED, "root ::= .*", "root ::= [^a-z]{3}", 'root ::= ""'])
def test_the_same_generator_says_the_same_and_others_say_others(text: str) -> None:
    grammar = parse(text)
    said = [compose(grammar, Random(seed)) for seed in range(20)]
    assert said == [compose(parse(text), Random(seed)) for seed in range(20)]
    assert all(grammar.matches(each) for each in said)
    assert len(set(said)) >= (3 if "" not in said[:1] else 1)
    assert max(len(each) for each in said) < 700


def test_every_alternative_is_said_sometimes() -> None:
    grammar = parse(VERDICT)
    assert {compose(grammar, Random(seed)) for seed in range(40)} == {"yes", "no", "unsure"}


def test_prose_flows_where_the_grammar_lets_it() -> None:
    said = [compose(parse(FREE), Random(seed)) for seed in range(20)]
    assert any(". " in each for each in said)
    assert any("[" in each for each in said)
    assert sum(len(each) for each in said) / 20 > 60


@pytest.mark.parametrize(
    "text",
    [
        f'root ::= "{"long " * 1000}"',
        'root ::= "a"{5000}',
        'root ::= "<" [a-z]{2000,} ">"',
        'root ::= "(" root ")" | "x"{500}',
        'root ::= "[" root "]" | "{" root "}" | "."',
        'root ::= "(" n n n n n ")"\nn ::= root | "x"',  # left to chance, it grows faster than it closes
    ],
)
def test_a_long_shortest_text_is_said_to_its_end(text: str) -> None:
    grammar = parse(text)
    for seed in range(2):
        said = compose(grammar, Random(seed))
        assert grammar.matches(said)
        assert len(said) < grammar.shortest + 1_500


@pytest.mark.parametrize(
    ("text", "script", "forced"),
    [
        # What matches is left alone.
        (CITED, "Oslo is the capital [2]. It is cold [1][3]!", "Oslo is the capital [2]. It is cold [1][3]!"),
        (VERDICT, "unsure", "unsure"),
        # A source that does not exist cannot be cited.
        (CITED, "Oslo is the capital [99].", "Oslo is the capital [1]."),
        (CITED, "Oslo [4]. Cold [2].", "Oslo [1]. Cold [2]."),
        (FREE, "Oslo [99]. And [7] or [12] yes.", "Oslo [1]. And [1] or [12] yes."),
        (FREE, "Oslo [122].", "Oslo [12]."),
        # A claim without a citation gets one, where the end is near enough for it to be the smaller change.
        (CITED, "Oslo is the capital.", "Oslo is the capital [1]."),
        (CITED, "Oslo is big. It is a cold place [2].", "Oslo is big It is a cold place [2]."),
        # A script that breaks off is finished, one that goes on too long is cut.
        (CITED, "Oslo is the capital [", "Oslo is the capital [1]."),
        (VERDICT, "yesterday", "yes"),
        (VERDICT, "", "no"),
        # A script about something else.
        (VERDICT, "I am not sure", "unsure"),
        (VERDICT, "maybe", "yes"),
        (VERDICT, "x yes " + "x" * 400, "yes"),
        ("root ::= [0-9]+", "abc 12 def 34", "1234"),
        (NESTED, "[1,2,[3]", "[1,2,[3]]"),
        (NESTED, "[1,,2]", "[1,2]"),
        (NESTED, '[12"a"]', '[12,"a"]'),
        ("root ::= [0-9]+", "no digits at all", "9"),
    ],
)
def test_a_script_is_followed_as_far_as_the_grammar_allows(text: str, script: str, forced: str) -> None:
    assert force(parse(text), script) == forced


def test_a_long_script_that_fits_nowhere_is_given_up_in_bounded_time() -> None:
    grammar = parse(CITED)
    said = force(grammar, "[9] [x. " * 5_000)
    assert grammar.matches(said)


def test_a_long_script_is_followed_over_many_mistakes() -> None:
    script = " ".join(f"Claim {number} is true [{number % 5}]." for number in range(100))
    said = force(parse(CITED), script)
    assert said.count("[") == 100
    assert said.count("Claim") == 100


@settings(max_examples=40)
@given(place=st.integers(0, 40), wrong=st.sampled_from("[]!xé0"), data=st.data())
def test_one_wrong_character_changes_little(place: int, wrong: str, data: Any) -> None:
    right = "It rains a lot in Bergen [2]. Oslo is drier [1]."
    script = right[:place] + wrong + right[place + 1 :]
    grammar: Grammar = parse(CITED)
    said = force(grammar, script)
    assert grammar.matches(said)
    assert abs(len(said) - len(script)) <= 5
    assert said[-12:] == script[-12:] or place > 30
