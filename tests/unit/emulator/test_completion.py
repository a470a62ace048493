"""Where generation ends: the token limit, stop sequences, the end of what there is to say."""

import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.emulator.making import ADD, REASONING, WEATHER, accepted, chat, director, take
from workers.emulator.completion import Completion, Limits, complete
from workers.emulator.direction import Ask
from workers.emulator.sampler import Speech
from workers.emulator.tokens import count as token_count
from workers.emulator.tokens import pieces

pytestmark = pytest.mark.requirement("EMU-01")


def _complete(speech: Speech, tokens: int = 1000, **limits: object) -> Completion:
    return complete(speech, Limits(tokens=tokens, **limits), (f"call_{number}" for number in count()))


@given(st.text())
def test_tokens_join_back_to_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert token_count(text) == len(pieces(text))


def test_speech_that_ends_by_itself_stops() -> None:
    completion = _complete(Speech("One two three."))
    assert (completion.content, completion.finish_reason) == ("One two three.", "stop")


def test_the_limit_cuts_and_says_so() -> None:
    completion = _complete(Speech("One two three."), tokens=2)
    assert (completion.content, completion.finish_reason, completion.tokens) == ("One two", "length", 2)


def test_a_limit_that_just_fits_is_no_cut() -> None:
    assert _complete(Speech("One two"), tokens=2).finish_reason == "stop"


def test_reasoning_counts_towards_the_limit() -> None:
    completion = _complete(Speech("One two", reasoning="Hm hm hm"), tokens=4)
    assert (completion.reasoning, completion.content, completion.reasoning_tokens) == ("Hm hm hm", "One", 3)


@pytest.mark.parametrize(
    ("stops", "content"),
    [((" three",), "One two"), (("three", "two"), "One "), (("nothing",), "One two three."), (("One",), None)],
)
def test_the_first_stop_sequence_ends_the_text_and_is_not_returned(stops: tuple[str, ...], content: str | None) -> None:
    completion = _complete(Speech("One two three."), stops=stops)
    assert (completion.content, completion.finish_reason) == (content, "stop")


def test_after_a_stop_sequence_nothing_follows() -> None:
    completion = _complete(Speech("One two", (("f", "{}"),)), stops=("two",), padding=(" more",))
    assert (completion.content, completion.calls, completion.finish_reason) == ("One ", (), "stop")


def test_the_limit_inside_arguments_leaves_them_open() -> None:
    completion = _complete(Speech(None, (("f", '{"a": 1}'), ("g", "{}"))), tokens=4)
    assert [call.name for call in completion.calls] == ["f"]
    assert completion.arguments(0) == '{"a'
    assert completion.finish_reason == "length"


def test_parallel_calls_follow_each_other_or_take_turns() -> None:
    calls = (("f", "[1]"), ("g", "[2]"))
    assert [piece.call for piece in _complete(Speech(None, calls)).pieces] == [0, 0, 0, 0, 1, 1, 1, 1]
    turns = _complete(Speech(None, calls, interleave=True))
    assert [piece.call for piece in turns.pieces] == [0, 1, 0, 1, 0, 1, 0, 1]
    assert (turns.arguments(0), turns.arguments(1)) == ("[1]", "[2]")


def test_a_request_that_ignores_the_end_gets_all_its_tokens() -> None:
    completion = take(chat(ignore_eos=True, max_tokens=700)).completions[0]
    assert (completion.tokens, completion.finish_reason) == (700, "length")


def test_a_stop_sequence_ends_even_what_ignores_the_end() -> None:
    completion = take(chat(ignore_eos=True, max_tokens=4000, stop=["harbour"])).completions[0]
    assert completion.finish_reason == "stop"
    assert "harbour" not in (completion.content or "")


def test_bad_tool_json_does_not_parse() -> None:
    completion = take(chat("add 2 and 3", tools=[ADD]), "bad_tool_json").completions[0]
    with pytest.raises(json.JSONDecodeError):
        json.loads(completion.arguments(0))


def test_arguments_can_be_empty() -> None:
    assert take(chat("add 2 and 3", tools=[ADD]), "empty_arguments").completions[0].arguments(0) == ""


def test_a_call_can_arrive_as_content() -> None:
    completion = take(chat("weather in Oslo", tools=[WEATHER]), "call_as_content").completions[0]
    assert completion.calls == ()
    assert json.loads(completion.content or "") == {
        "type": "function",
        "name": "get_weather",
        "parameters": {"city": "Oslo"},
    }


@pytest.mark.requirement("EMU-04")
def test_words_can_come_before_a_call_and_a_call_can_name_what_nobody_offered() -> None:
    completion = take(chat("weather in Oslo", tools=[WEATHER]), "text_and_call", "unknown_tool").completions[0]
    assert completion.content
    assert [call.name for call in completion.calls] == ["get_weather_of_nobody"]


def test_reasoning_can_arrive_in_the_content() -> None:
    completion = take(chat(model=REASONING), "think_in_content").completions[0]
    assert completion.reasoning is None
    assert (completion.content or "").startswith("<think>The user says")


def test_a_prompt_seen_before_is_cached_up_to_its_last_token() -> None:
    stage = director()
    first, longer = chat("A long question " * 10), chat("A long question " * 10)
    longer["messages"] += [{"role": "assistant", "content": "Yes"}, {"role": "user", "content": "And?"}]

    def cached(body: dict, isolation: str | None = None) -> int:
        usage = stage.direct(accepted(body), Ask("r", 0.0, (), isolation)).envelope.usage
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached(first) == 0
    assert cached(longer) == accepted(first).prompt_tokens
    assert cached(longer) == accepted(longer).prompt_tokens - 1
    assert cached(longer, "another tenant") == 0
    assert cached(longer | {"prompt_cache_isolation_key": "a third"}) == 0
    assert cached(longer | {"prompt_cache_max_len": 0}) == 0
