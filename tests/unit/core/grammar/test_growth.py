"""Nothing blows up. Work is counted, not timed: it grows with the text and no faster. Depth and memory are bounded."""

import random
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest

from workers.core.grammar import Grammar, Matcher, TooAmbiguous, parse
from workers.core.grammar.engine import Engine
from workers.core.grammar.machine import build
from workers.core.grammar.syntax import read_program

_PROSE = "the quick brown fox jumps over the lazy dog "
_CITED = "The harbour keeps a pattern [1] [12]. "

# Every way to nest twelve brackets of two kinds, so no place in one is met in another.
_BRACKETS = "".join(
    (opened := f"{number:012b}".replace("0", "(").replace("1", "[")) + opened[::-1].replace("(", ")").replace("[", "]")
    for number in range(2**12)
    if number % 16 == 0
)


def _engine(text: str, **limits: Any) -> Grammar:
    """A grammar with limits of its own."""
    return Grammar(Engine(build(read_program(text)), **limits), "root")


def _steps(text: str, answer: str) -> int:
    """The work of matching an answer with a grammar that remembers nothing yet."""
    matcher = Matcher(parse(text))
    assert matcher.feed(answer)
    assert matcher.complete
    return matcher.steps


_LINEAR = {
    "words by a rule": ("root ::= word+\nword ::= [a-z ]+", _PROSE, ""),
    "nullable loops": ('root ::= (a* b*)*\na ::= " "*\nb ::= (a | [a-z])*', _PROSE, ""),
    "text or groups": (
        'root ::= (text | group)+\ntext ::= [^[]+\ngroup ::= id (" " id)*\nid ::= "[" ("1" | "2" | "12") "]"',
        _CITED,
        "",
    ),
    "text or groups, bounded": (
        'root ::= (text | group)+\ntext ::= [^[]{1,240}\ngroup ::= "[" [0-9]+ "]"',
        _CITED,
        "",
    ),
    "alternatives that look alike": (
        'root ::= (a | b | c)*\na ::= [a-z]+ " "?\nb ::= [a-m]+ " "\nc ::= "th" a? | a b | " "',
        _PROSE,
        "",
    ),
    "recursion on the right": ("root ::= item\nitem ::= [a-z ] item | [a-z ]", _PROSE, ""),
    "brackets side by side": ('root ::= n*\nn ::= "(" n* ")" | "x"', "((x)(x(x)))", ""),
    "nesting": ('root ::= n\nn ::= "(" n ")" | ""', "(", ")"),
    "nesting with a choice of ends": ('root ::= s\ns ::= "i" s | "i" s "e" s | "x"', "i", "ex"),
    "open ends that may close": ('root ::= s\ns ::= "a" s "b"? | ""', "a", "b"),
    "two ways to say the same": ('root ::= s\ns ::= "a" s s | ""', "a", ""),
    "an unmarked middle": ('root ::= p\np ::= [a-z] p [a-z] | ""', "abcd", ""),
}


@pytest.mark.parametrize("name", _LINEAR)
def test_the_work_grows_with_the_text_and_no_faster(name: str) -> None:
    text, before, after = _LINEAR[name]
    middle = "x" if name == "nesting with a choice of ends" else ""
    small, large = (_steps(text, before * times + middle + after * times) for times in (100, 1000))
    assert large < 13 * small
    assert large < 30 * 1000 * len(before + after)


def test_a_rule_is_entered_once_however_many_ways_lead_to_it() -> None:
    rules = "".join(f'r{i} ::= r{i + 1} "a" | r{i + 2} "b"\n' for i in range(40))
    assert _steps(f'root ::= r0\n{rules}r40 ::= "x"\nr41 ::= "y"\n', "x" + "a" * 40) < 10_000


def test_a_grammar_that_comes_back_to_where_it_was_costs_one_step_a_character() -> None:
    answer = _CITED * 2500
    matcher = Matcher(parse('root ::= (text | id)+\ntext ::= [^[]{1,40}\nid ::= "[" ("1" | "2" | "12") "]"'))
    assert matcher.feed(answer)
    assert len(answer) <= matcher.steps < 1.1 * len(answer)


@pytest.mark.long
def test_a_long_answer_matches_a_grammar_with_the_quotes_of_500_sources() -> None:
    rng = random.Random(7)
    sources = [" ".join(f"w{rng.randrange(1000)}" for _ in range(40)) for _ in range(500)]
    grammar = parse(
        'root ::= sentence (" " sentence)*\nsentence ::= content " " (cite | quote) "."\ncontent ::= [^[".]{1,240}\n'
        f'cite ::= "[" ({" | ".join(f"{_quoted(str(i))}" for i in range(1, 501))}) "]"\n'
        f"quote ::= {' | '.join(f'q-{i}' for i in range(1, 501))}\n"
        + "".join(f'q-{i} ::= "\\"{source}\\" [{i}]"\n' for i, source in enumerate(sources, 1))
    )
    assert grammar.size > 95_000
    sentences = [f'So it says "{sources[k - 1]}" [{k}].' for k in (rng.randint(1, 500) for _ in range(500))]
    answer = " ".join(sentences)
    assert len(answer) > 100_000
    matcher = Matcher(grammar)
    assert matcher.feed(answer)
    assert matcher.complete
    assert matcher.steps < 50 * len(answer)
    wrong = f'{answer} So it says "{sources[2][:-1]}?" [3].'
    assert grammar.mismatch(wrong) == len(wrong) - len('?" [3].')


def _quoted(text: str) -> str:
    return f'"{text}"'


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("root ::= " + "(" * 5_000 + '"a"' + ")" * 5_000, "a"),
        ("root ::= " + "(" * 5_000 + '"a"' + ")*" * 5_000, "aaa"),
        ("root ::= " + '("a" | ' * 5_000 + '"b"' + ")" * 5_000, "b"),
        ("root ::= " + '("a" ' * 5_000 + '"b"' + ")?" * 5_000, "a" * 5_000 + "b"),
        ("root ::= " + '"a"? ' * 3_000, "a" * 20),
        ("root ::= r0\n" + "".join(f"r{i} ::= r{i + 1}\n" for i in range(5_000)) + 'r5000 ::= "a"', "a"),
        ("root ::= r0\n" + "".join(f'r{i} ::= "(" r{i + 1} ")"\n' for i in range(5_000)) + 'r5000 ::= ""', "()"),
        ("root ::= " + " | ".join(f'"{i}"' for i in range(10_000)), "9999"),
        ("root ::= ((((((.?)*)+)?){0,9})*)+", "abc"),
    ],
)
def test_a_deep_or_wide_grammar_is_a_grammar(text: str, answer: str) -> None:
    answer = "(" * 5_000 + ")" * 5_000 if answer == "()" else answer
    assert parse(text).matches(answer)


@pytest.mark.long
def test_an_answer_may_nest_as_deep_as_it_is_long() -> None:
    grammar = parse('root ::= n\nn ::= "(" n ")" | ""')
    assert grammar.matches("(" * 10_000 + ")" * 10_000)
    assert grammar.mismatch("(" * 10_000 + ")" * 10_001) == 20_000
    assert grammar.mismatch("(" * 10_000) == 10_000


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('root ::= .{0,3000} "e" .{0,3000} "a" .{0,3000}', _PROSE * 200),
        ('root ::= s\ns ::= "a" s s | "b" s s "c" | "a" | "b"', "abbabaab" * 100),
    ],
)
def test_what_fits_in_too_many_ways_ends_with_an_error_instead_of_a_worker(text: str, answer: str) -> None:
    matcher = Matcher(_engine(text, budget=(20_000, 10)))
    with pytest.raises(TooAmbiguous, match="too many ways"):
        matcher.feed(answer)


def _peak(text: str, answer: str, remember: int) -> int:
    """Bytes at the most while an answer is matched."""
    matcher = Matcher(_engine(text, remember=remember))
    tracemalloc.start()
    try:
        assert matcher.feed(answer)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('root ::= [a-z ]{1,400} ("e" [a-z ]{1,400})*', _PROSE * 9),
        ('root ::= n*\nn ::= "(" n* ")" | "[" n* "]"', _BRACKETS),
    ],
)
def test_memory_does_not_grow_with_what_was_seen(text: str, answer: str) -> None:
    assert _peak(text, answer, remember=1_000) * 3 < _peak(text, answer, remember=10**9)


@pytest.mark.parametrize(("remember", "forgets"), [(10**9, False), (600, True)])
def test_what_is_remembered_is_counted(remember: int, forgets: bool) -> None:
    grammar = _engine('root ::= p\np ::= "a" p "a" | "b" p "b" | "a" p | ""', remember=remember)
    engine, stacks = grammar.engine, grammar.engine._stacks
    counts = []
    for length in range(1, 100):
        Matcher(grammar).feed(("ab" * length)[:length])
        held = sum(1 + len(place.states) + len(place.ways or ()) for place in engine._places.values())
        held += sum(1 + len(stack.entries) for stack in stacks._made.values()) + len(stacks._unions)
        counts.append(engine._remembered + stacks.remembered)
        assert held <= counts[-1] < remember + 200
    assert forgets == any(later < earlier for earlier, later in pairwise(counts))


def test_what_was_learnt_serves_the_next_answer() -> None:
    grammar: Grammar = parse('root ::= ("a" | "b" | [a-z] [b-e])*')
    first, second = Matcher(grammar), Matcher(grammar)
    first.feed("abcabdabe" * 10)
    second.feed("abcabdabe" * 10)
    assert second.steps == 90 < first.steps
