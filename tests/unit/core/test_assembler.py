"""One answer from its chunks: the traps of WIRE 7 and FEAT A1.5, B1, one sentence each."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.chat import Message, Usage
from api_contracts.failure import Failure
from tests.unit.adapters.fireworks.wire import call, chunk, usage_only
from tests.unit.core.answers import CALLS_END, STOP, answer_of, calls_of, failure_of, fragments
from workers.core.chat.assembler import Answer, DeltaAssembler, Piece

# -- text and reasoning --------------------------------------------------------------------------------------------


def test_text_is_joined_and_each_piece_is_reported() -> None:
    assembler = DeltaAssembler()
    pieces = [assembler.feed(chunk(delta)) for delta in ({"role": "assistant"}, {"content": "He"}, {"content": "y"})]
    assert pieces == [None, Piece("He", ""), Piece("y", "")]
    assembler.feed(STOP)
    answer = assembler.finish()
    assert isinstance(answer, Answer)
    assert answer.message == {"role": "assistant", "content": "Hey"}
    assert (answer.finish_reason, answer.provider_request_id, answer.model) == (
        "stop",
        "chatcmpl-1",
        "accounts/a/models/m",
    )


@pytest.mark.requirement("CHAT-06")
def test_reasoning_is_kept_apart_from_the_answer() -> None:
    assembler = DeltaAssembler()
    assert assembler.feed(chunk({"reasoning_content": "Hm"})) == Piece("", "Hm")
    assert assembler.feed(chunk({"reasoning_content": "m", "content": "Yes"})) == Piece("Yes", "m")
    assembler.feed(STOP)
    answer = assembler.finish()
    assert isinstance(answer, Answer)
    assert answer.reasoning == "Hmm"
    assert answer.message == {"role": "assistant", "content": "Yes"}


def test_an_empty_answer_is_an_answer_with_empty_content() -> None:
    answer = answer_of(chunk({"role": "assistant", "content": ""}), STOP)
    assert answer.message == {"role": "assistant", "content": ""}
    assert (answer.reasoning, answer.has_output, answer.calls) == (None, False, ())


@pytest.mark.requirement("CHAT-04")
@pytest.mark.parametrize(
    "odd",
    [
        {"choices": []},
        {"choices": None},
        {},
        {"choices": [None, 3]},
        {"choices": {"index": 0}},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [{"index": 0}]},
        {"choices": [{"index": 0, "delta": {"content": None, "reasoning_content": None, "tool_calls": None}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [None, 7], "function_call": None, "news": {}}}], "more": 1},
        {"choices": [{"index": 1, "delta": {"content": "another answer"}, "finish_reason": "length"}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]},
        {"usage": None},
        {"usage": []},
    ],
)
def test_chunks_without_anything_of_ours_change_nothing(odd: dict[str, Any]) -> None:
    answer = answer_of(odd, chunk({"content": "a"}), odd, STOP, odd)
    assert answer.message["content"] == "a"
    assert answer.finish_reason == "stop"


def test_a_choice_without_an_index_is_the_first() -> None:
    answer = answer_of({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]})
    assert answer.message["content"] == "a"
    assert (answer.provider_request_id, answer.model) == (None, None)


def test_content_as_a_list_of_parts_is_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "image_url"}]
    assert answer_of(chunk({"content": parts}), STOP).message["content"] == "ab"


def test_whether_anything_was_said_is_known_before_the_end() -> None:
    for delta in ({"content": "a"}, {"reasoning_content": "a"}, {"tool_calls": [call(0, name="f")]}):
        assembler = DeltaAssembler()
        assembler.feed(chunk({"role": "assistant", "content": ""}))
        assert not assembler.has_output
        assembler.feed(chunk(delta))
        assert assembler.has_output


# -- the message ---------------------------------------------------------------------------------------------------


def test_the_message_has_the_providers_closed_form() -> None:
    answer = answer_of(
        chunk({"content": "Wait"}), *fragments([call(0, call_id="a", name="f", arguments="{}")]), CALLS_END
    )
    assert answer.message == {
        "role": "assistant",
        "content": "Wait",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    assert Message.model_validate(answer.message).model_dump(exclude_none=True) == answer.message


def test_a_message_of_calls_alone_has_no_content() -> None:
    answer = answer_of(*fragments([call(0, call_id="a", name="f")]), CALLS_END)
    assert answer.message["content"] is None
    assert answer.has_output


# -- finish reasons ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-05")
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_each_reason_to_end_is_told(reason: str) -> None:
    assert answer_of(chunk({"content": "a"}), chunk({}, reason)).finish_reason == reason


@pytest.mark.requirement("CHAT-05")
@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call"])
def test_an_answer_with_calls_ends_with_calls_whatever_the_provider_says(reason: str) -> None:
    answer = answer_of(*fragments([call(0, call_id="a", name="f")]), chunk({}, reason))
    assert (answer.finish_reason, len(answer.calls)) == ("tool_calls", 1)


@pytest.mark.requirement("CHAT-05")
def test_the_old_form_of_a_call_is_a_call() -> None:
    deltas = ({"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}})
    answer = answer_of(*map(chunk, deltas), chunk({}, "function_call"))
    assert [(c.name, c.arguments) for c in answer.calls] == [("f", "{}")]
    assert answer.finish_reason == "tool_calls"


@pytest.mark.requirement("CHAT-05")
@pytest.mark.parametrize("reason", ["error", "abort", "7", "x" * 5000])
def test_an_unknown_reason_is_a_retryable_failure(reason: str) -> None:
    failure = failure_of(chunk({"content": "a"}), chunk({}, reason))
    assert (failure.code, failure.retryable, failure.at_fault) == ("provider_unknown_finish", True, "provider")


@pytest.mark.requirement("CHAT-05")
@pytest.mark.parametrize("chunks", [[], [chunk({"content": "a"})], fragments([call(0, name="f", arguments="{}")]),
                                    [usage_only(prompt_tokens=1)]])  # fmt: skip
def test_a_stream_without_a_reason_was_cut(chunks: list[dict[str, Any]]) -> None:
    failure = failure_of(*chunks)
    assert (failure.code, failure.retryable, failure.at_fault) == ("provider_stream_cut", True, "provider")


@pytest.mark.requirement("CHAT-05")
@pytest.mark.parametrize("arguments", [None, '{"a":', "{}"])
def test_a_token_limit_inside_a_call_is_a_failure_that_is_not_retried(arguments: str | None) -> None:
    failure = failure_of(*fragments([call(0, call_id="a", name="f", arguments=arguments)]), chunk({}, "length"))
    assert (failure.code, failure.category, failure.retryable) == ("tool_call_truncated", "limit", False)


@pytest.mark.requirement("CHAT-05")
def test_calls_of_a_filtered_answer_are_dropped() -> None:
    answer = answer_of(*fragments([call(0, call_id="a", name="f")]), chunk({}, "content_filter"))
    assert (answer.calls, answer.message) == ((), {"role": "assistant", "content": ""})


def test_a_call_without_a_name_is_a_failure() -> None:
    failure = failure_of(*fragments([call(0, call_id="a", arguments="{}")]), CALLS_END)
    assert (failure.code, failure.retryable) == ("tool_call_without_name", True)


def test_a_fragment_without_content_is_no_call() -> None:
    assert calls_of([call(0, call_id="a", name="f")], [call(1)]) == [("a", "f", "{}")]
    assert answer_of(chunk({"content": "a"}), *fragments([call(0)]), STOP).finish_reason == "stop"


def test_calls_that_are_announced_and_missing_are_a_failure_unless_there_is_text() -> None:
    assert failure_of(CALLS_END).code == "tool_call_missing"
    assert answer_of(chunk({"content": '{"name": "f"}'}), CALLS_END).finish_reason == "stop"


# -- usage ---------------------------------------------------------------------------------------------------------

_TOLD = {
    "prompt_tokens": 70,
    "completion_tokens": 18,
    "total_tokens": 88,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
_USAGE = Usage(prompt_tokens=70, completion_tokens=18, cached_tokens=64, reasoning_tokens=5)


@pytest.mark.requirement("CHAT-03")
def test_usage_is_read_from_the_chunk_that_ends_the_answer() -> None:
    assert answer_of(chunk({"content": "a"}, usage=None), chunk({}, "stop", usage=_TOLD)).usage == _USAGE


@pytest.mark.requirement("CHAT-03")
def test_usage_is_read_from_a_last_chunk_without_choices() -> None:
    assert answer_of(chunk({"content": "a"}), STOP, usage_only(**_TOLD)).usage == _USAGE


@pytest.mark.requirement("CHAT-03")
def test_of_several_usages_the_last_one_counts() -> None:
    early = {"prompt_tokens": 70, "completion_tokens": 1}
    assert answer_of(chunk({"content": "a"}, usage=early), chunk({}, "stop", usage=_TOLD)).usage == _USAGE
    assert answer_of(chunk({}, "stop", usage=early), usage_only(**_TOLD), chunk({}, usage=None)).usage == _USAGE


@pytest.mark.requirement("CHAT-03")
@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"prompt_tokens": 5, "total_tokens": 8}, Usage(prompt_tokens=5, completion_tokens=3)),
        ({"prompt_tokens": 5, "completion_tokens": None, "total_tokens": 5}, Usage(prompt_tokens=5)),
        ({"prompt_tokens": 5, "prompt_tokens_details": None, "completion_tokens_details": 3}, Usage(prompt_tokens=5)),
        ({"prompt_tokens": "many", "completion_tokens": -4, "extra": {}}, Usage()),
    ],
)
def test_an_incomplete_usage_is_read_as_far_as_it_goes(told: dict[str, Any], usage: Usage) -> None:
    assert answer_of(STOP, usage_only(**told)).usage == usage


@pytest.mark.requirement("CHAT-03")
def test_without_a_usage_it_is_estimated_and_says_so() -> None:
    deltas = (chunk({"reasoning_content": "x" * 9}), chunk({"content": "y" * 31}))
    calls = fragments([call(0, call_id="a", name="f", arguments='{"a":1}')])
    assert answer_of(*deltas, *calls, CALLS_END, prompt_chars=401).usage == Usage(
        prompt_tokens=101, completion_tokens=12, reasoning_tokens=3, estimated=True
    )


@pytest.mark.requirement("CHAT-03")
def test_the_tokens_of_an_answer_that_was_cut_are_known() -> None:
    assembler = DeltaAssembler(prompt_chars=40)
    assembler.feed(chunk({"content": "x" * 80}))
    assert assembler.usage == Usage(prompt_tokens=10, completion_tokens=20, estimated=True)
    assembler.feed(usage_only(**_TOLD))
    assert assembler.usage == _USAGE


# -- anything ------------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(
    ["choices", "index", "delta", "content", "reasoning_content", "tool_calls", "function_call", "function", "id",
     "name", "arguments", "finish_reason", "usage", "prompt_tokens", "prompt_tokens_details", "cached_tokens", "stop"]
)  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | _NAMES | st.floats(-3, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5),
    max_leaves=25,
)
_CHOICE = st.fixed_dictionaries(
    {"delta": st.dictionaries(_NAMES, _JSON, max_size=5)}, optional={"finish_reason": _JSON}
)
_CHUNK = st.dictionaries(_NAMES, _JSON, max_size=4) | st.fixed_dictionaries({"choices": st.lists(_CHOICE, max_size=2)})


@pytest.mark.long
@given(st.lists(_CHUNK, max_size=5))
def test_no_chunks_make_the_assembler_raise(chunks: list[dict[str, Any]]) -> None:
    assembler = DeltaAssembler()
    pieces = [piece for each in chunks if (piece := assembler.feed(each))]
    found = assembler.finish()
    if isinstance(found, Answer) and not found.calls:
        assert found.message["content"] == "".join(piece.text for piece in pieces)


# -- several answers, and what else is told of one ---------------------------------------------------------------------


def part(index: int, text: str = "", reason: str | None = None, **told: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason, **told}]}


@pytest.mark.requirement("CHAT-22")
def test_of_several_answers_the_first_is_shown_as_it_comes_and_all_come_back() -> None:
    assembler = DeltaAssembler(n=3)
    chunks = [part(0, "a"), part(2, "c"), part(1, "b"), part(0, "A", "stop"), part(1, "B", "length")]
    shown = [assembler.feed(each) for each in [*chunks, part(2, "C", "stop"), part(3, "never asked for", "stop")]]
    assert [piece.text for piece in shown if piece] == ["a", "A"]
    whole = assembler.finish()
    assert isinstance(whole, Answer)
    assert whole.message["content"] == "aA"
    assert [(each.message["content"], each.finish_reason) for each in whole.others] == [
        ("bB", "length"),
        ("cC", "stop"),
    ]


@pytest.mark.requirement("CHAT-22", "CHAT-05")
@pytest.mark.parametrize(("last", "code"), [(None, "provider_stream_cut"), ("bored", "provider_unknown_finish")])
def test_several_answers_are_whole_when_each_is(last: str | None, code: str) -> None:
    assembler = DeltaAssembler(n=2)
    for each in (part(0, "a", "stop"), part(1, "b", last)):
        assembler.feed(each)
    failure = assembler.finish()
    assert isinstance(failure, Failure)
    assert failure.code == code


@pytest.mark.requirement("CHAT-22")
def test_logprobs_and_tokens_are_put_together_in_order() -> None:
    assembler = DeltaAssembler()
    first, second = {"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -0.2}
    assembler.feed(part(0, "a", logprobs={"content": [first]}, token_ids=[1]) | {"service_tier": "priority"})
    assembler.feed(part(0, "b", "stop", logprobs={"content": [second]}, token_ids=[2], raw_output={"completion": "ab"}))
    whole = assembler.finish()
    assert isinstance(whole, Answer)
    assert whole.details == {
        "logprobs": {"content": [first, second]},
        "token_ids": [1, 2],
        "raw_output": {"completion": "ab"},
        "service_tier": "priority",
    }
    assert first == {"token": "a", "logprob": -0.1}, "the chunk is the codec's"
