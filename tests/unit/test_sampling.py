"""What shapes an answer: the forms that are richer than a range, each refused with its reason before it is sent."""

from typing import Any

import pytest
from pydantic import ValidationError

from api_contracts.chat import ChatRequest
from api_contracts.sampling import Sampling

QUESTION: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
LOOK = {"name": "look", "task": "svc.look", "queue": "svc"}


def fault(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate(QUESTION | fields)
    return str(caught.value)


@pytest.mark.requirement("CHAT-01", "CHAT-22")
@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_object", "schema": {"type": "object"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": {}, "strict": True}}},
        {"response_format": {"type": "json_schema", "json_schema": '{"type": "object"}'}},
        {"response_format": {"type": "grammar", "grammar": 'root ::= "yes"'}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"thinking": {"type": "disabled"}},
        {"prediction": {"type": "content", "content": "the old text"}},
        {"prediction": "the old text"},
        {"speculation": [1, 2, 3]},
        {"logprobs": True, "top_logprobs": 5},
        {"logprobs": 5},
        {"echo": True, "echo_last": 0},
        {"n": 128},
        {"n": 1, "tools": ["look"]},
        {"service_tier": "priority", "seed": 7, "stop": ["\n"]},
        {"perf_metrics_in_response": True, "raw_output": True, "return_token_ids": True, "safe_tokenization": True},
        {"tools": ["look"], "tool_choice": {"type": "function", "function": {"name": "look"}}},
        {"tools": [LOOK], "tool_choice": {"type": "function", "name": "look"}},
        {"tools": ["look"], "tool_choice": "required"},
        {"tool_choice": "none"},
    ],
)
def test_what_the_provider_knows_is_kept_as_it_was_given(fields: dict[str, Any]) -> None:
    made = ChatRequest.model_validate(QUESTION | fields).model_dump(mode="json", exclude_unset=True)
    assert {name: made[name] for name in fields if name != "tools"} == {
        name: value for name, value in fields.items() if name != "tools"
    }


@pytest.mark.requirement("CHAT-01")
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {}}, "response_format"),
        ({"response_format": {"type": "json_object", "strict": True}}, "strict: Extra inputs are not permitted"),
        ({"response_format": {"type": "json_schema"}}, "json_schema.json_schema: Field required"),
        ({"response_format": {"type": "grammar", "grammar": ""}}, "grammar.grammar"),
        ({"response_format": {"type": "grammar", "schema": {}}}, "grammar.grammar: Field required"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "budget_tokens"),
        ({"thinking": {"budget_tokens": 2048}}, "type: Field required"),
        ({"prediction": {"type": "content"}}, "content"),
        ({"logprobs": 6}, "logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"echo_last": -1}, "echo_last"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"tools": ["look"], "tool_choice": "look"}, "tool_choice"),
        ({"tools": ["look"], "tool_choice": {"type": "function"}}, "name the tool"),
        ({"tools": ["look"], "tool_choice": {"type": "function", "name": "pay"}}, "names 'pay', which is none of"),
        ({"n": 129}, "n"),
        ({"n": 2, "tools": ["look"]}, "'n' above 1 goes without 'tools'"),
        ({"tool_choice": "required"}, "'required' needs 'tools'"),
        ({"tool_choice": {"type": "function", "name": "look"}}, "names 'look', which is none of"),
    ],
)
def test_what_the_provider_would_refuse_is_refused_with_its_reason(fields: dict[str, Any], says: str) -> None:
    assert says in fault(**fields)


@pytest.mark.requirement("CHAT-01", "RUN-24")
def test_what_is_typed_only_since_0_1_0_may_still_stand_in_extra_but_not_be_said_twice() -> None:
    assert ChatRequest.model_validate(QUESTION | {"extra": {"speculation": [1]}}).extra == {"speculation": [1]}
    assert "may not carry ['speculation']" in fault(speculation=[2], extra={"speculation": [1]})


WRONG: dict[str, list[Any]] = {
    "tool_choice": ["look", {"type": "function"}, 1],
    **{key: [0, 1.5, "many"] for key in ("max_tokens", "max_completion_tokens", "prompt_truncate_len")},
    **{key: [-0.01, 2.01, float("nan")] for key in ("temperature", "repetition_penalty")},
    **{key: [-0.01, 1.01, float("nan")] for key in ("top_p", "min_p", "typical_p")},
    "top_k": [-1, 101],
    **{key: [-2.01, 2.01] for key in ("frequency_penalty", "presence_penalty")},
    **{key: ["high", float("inf"), float("nan")] for key in ("mirostat_target", "mirostat_lr")},
    "n": [0, 129],
    "stop": [["a"] * 5, [1], 1],
    "seed": [1.5, "x"],
    "logit_bias": [{"1": -101}, {"1": 101}, {"1": float("nan")}, [1]],
    "logprobs": [-1, 6, "all"],
    "top_logprobs": [-1, 6],
    "echo_last": [-1],
    "context_length_exceeded_behavior": ["cut"],
    "response_format": [{}, {"type": "xml"}, "json"],
    **{key: [1, ["a"]] for key in ("user", "prompt_cache_key", "prompt_cache_isolation_key")},
    "metadata": [{"a": 1}, "a"],
    "service_tier": ["gold"],
    "reasoning_effort": [["low"], {}],
    "reasoning_history": ["kept"],
    "thinking": [{}, {"type": "enabled", "budget_tokens": 1023}, True],
    "speculation": [["a"], 1],
    "prediction": [{"type": "content"}, ["a"]],
    **{key: ["maybe", 2] for key in ("echo", "ignore_eos", "parallel_tool_calls", "perf_metrics_in_response")},
    **{key: ["maybe", 2] for key in ("raw_output", "return_token_ids", "safe_tokenization")},
}


@pytest.mark.requirement("CHAT-01")
def test_every_parameter_is_checked_before_it_is_sent() -> None:
    assert set(WRONG) == set(Sampling.model_fields)
    for name, values in WRONG.items():
        for value in values:
            assert name in fault(**{name: value}), (name, value)
