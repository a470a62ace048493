"""Requests with a grammar, from the body to the answer (WIRE 4.3)."""

from random import Random
from typing import Any

import pytest

from tests.unit.emulator.making import NEW, REASONING, WEATHER, chat, dialogue, message_of, take
from workers.core.grammar import Grammar, parse
from workers.core.grammar.engine import Engine
from workers.core.grammar.machine import build
from workers.core.grammar.syntax import read_program
from workers.emulator.config import EmulatorConfig
from workers.emulator.errors import Refused
from workers.emulator.sampler import Speech, held_to, improvise
from workers.emulator.scenes import Reply, Rule, Scene, ScriptedCall

pytestmark = pytest.mark.requirement("EMU-03")

VERDICT = 'root ::= "yes" | "no" | "unsure"'
CITED = (
    'root ::= sentence (" " sentence)*\nsentence ::= content " " cite [.!?]\n'
    'content ::= [^[.!?]{1, 240}\ncite ::= "[" ("1" | "2" | "3") "]"'
)


def _under(grammar: Any, text: str = "Well?", **fields: Any) -> dict[str, Any]:
    return chat(text, response_format={"type": "grammar", "grammar": grammar}, **fields)


def _scripted(**reply: Any) -> EmulatorConfig:
    return EmulatorConfig(scene=Scene(rules=(Rule(reply=Reply(**reply)),)))


@pytest.mark.parametrize("model", [chat()["model"], NEW, REASONING])
@pytest.mark.parametrize("grammar", [VERDICT, CITED, 'root ::= "[" [0-9]{2} "]"'])
def test_an_answer_under_a_grammar_matches_it(grammar: str, model: str) -> None:
    completion = take(_under(grammar, model=model)).completions[0]
    assert parse(grammar).matches(completion.content or "")
    assert completion.finish_reason == "stop"


def test_the_seed_decides_what_is_said_and_every_choice_says_its_own() -> None:
    first, again = (take(_under(CITED), config=EmulatorConfig(seed=1)) for _ in range(2))
    other = take(_under(CITED), config=EmulatorConfig(seed=2))
    assert first.completions == again.completions
    assert first.completions != other.completions
    assert take(_under(CITED, stream=True), config=EmulatorConfig(seed=1)).completions == first.completions
    choices = take(_under(CITED, n=3)).completions
    assert len({choice.content for choice in choices}) == 3
    assert all(parse(CITED).matches(choice.content or "") for choice in choices)


def test_the_limit_cuts_the_same_text_and_says_so() -> None:
    whole = take(_under(CITED)).completions[0]
    cut = take(_under(CITED, max_tokens=5)).completions[0]
    assert cut.finish_reason == "length"
    assert cut.tokens == 5
    assert (whole.content or "").startswith(cut.content or "-")


@pytest.mark.long
def test_a_grammar_whose_shortest_text_is_long_is_cut_or_completed() -> None:
    grammar = 'root ::= "word "{2000} "."'
    assert take(_under(grammar, max_tokens=100)).completions[0].finish_reason == "length"
    completion = take(_under(grammar, max_tokens=9000, stream=True)).completions[0]
    assert completion.finish_reason == "stop"
    assert completion.content == "word " * 2000 + "."


def test_usage_counts_an_answer_under_a_grammar_like_any_other() -> None:
    answer = take(_under(CITED))
    usage = answer.envelope.usage
    assert usage["completion_tokens"] == answer.completions[0].tokens > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("It is cold [2].", "It is cold [2]."),
        ("It is cold [99].", "It is cold [1]."),
        ("It is cold.", "It is cold [1]."),
        ("{user} is cold [3].", "Oslo is cold [3]."),
    ],
)
def test_a_script_is_held_to_the_grammar(script: str, said: str) -> None:
    config = _scripted(text=script)
    assert take(_under(CITED, "Oslo"), config=config).completions[0].content == said
    assert take(chat("Oslo"), config=config).completions[0].content == script.replace("{user}", "Oslo")


def test_scripted_reasoning_stays_and_none_is_made_up() -> None:
    completion = take(_under(VERDICT, model=REASONING), config=_scripted(text="yes!", reasoning="Hm.")).completions[0]
    assert (completion.content, completion.reasoning) == ("yes", "Hm.")
    assert take(_under(VERDICT, model=REASONING)).completions[0].reasoning is None


def test_a_script_without_text_is_left_alone() -> None:
    silent = take(_under(VERDICT), config=_scripted(reasoning="")).completions[0]
    assert (silent.content, silent.finish_reason) == (None, "stop")
    calls = _scripted(tool_calls=(ScriptedCall(name="get_weather", arguments={"city": "Oslo"}),))
    calling = take(_under(VERDICT, tools=[WEATHER]), config=calls).completions[0]
    assert (calling.content, calling.finish_reason) == (None, "tool_calls")


def test_faults_come_after_the_grammar() -> None:
    config = _scripted(text="yes", reasoning="Hm.")
    broken = take(_under(VERDICT), "think_in_content", config=config).completions[0]
    assert broken.content == "<think>Hm.</think>\nyes"


@pytest.mark.parametrize(
    ("grammar", "needle"),
    [
        (None, "Field required, field: 'response_format.grammar'"),
        ("", "Invalid grammar: line 1, column 1: there is no rule named 'root', field: 'response_format.grammar'"),
        ('root ::= "a"\n  other', "Invalid grammar: line 2, column 8: '::=' is expected after 'other'"),
        ("root ::= missing", "unknown rule 'missing'"),
        ('root ::= root "a" | "b"', "left recursion"),
        ('root ::= "a"{1000000}', "too large"),
        (7, "field: 'response_format.grammar'"),
    ],
)
def test_a_bad_grammar_is_refused(grammar: Any, needle: str) -> None:
    assert needle in message_of(_under(grammar))


def test_a_grammar_that_cannot_be_sampled_is_refused_too() -> None:
    engine = Engine(build(read_program('root ::= .{0,50} "a" .{0,50}')), budget=(100, 0))
    grammar = Grammar(engine, "root")
    with pytest.raises(Refused, match="too many ways") as refused:
        improvise(dialogue(chat()), grammar, Random(1))
    assert refused.value.reply.status == 400
    with pytest.raises(Refused, match="too many ways"):
        held_to(grammar, Speech("a long text"))
