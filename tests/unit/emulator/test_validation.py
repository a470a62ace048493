"""Which requests are refused, in which words (WIRE 1.1 to 1.4, 1.7)."""

import pytest

from tests.unit.emulator.making import (
    CLASSIC,
    NEW,
    REASONING,
    SMALL,
    WEATHER,
    accepted,
    chat,
    message_of,
    refusal,
)
from workers.emulator.config import EmulatorConfig
from workers.emulator.validation import NOT_BUILT

pytestmark = pytest.mark.requirement("EMU-01")


def test_a_long_answer_must_be_streamed() -> None:
    status, body = refusal(chat(max_tokens=5000))
    assert status == 400
    assert body["error"] == {
        "message": "Requests with max_tokens > 4096 must have stream=true",
        "param": "max_tokens",
        "code": "BAD_REQUEST",
        "type": "error",
    }
    assert body["request_id"] == "request-1"


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({"max_tokens": 5000, "stream": True}, EmulatorConfig()),
        ({"max_tokens": 4096}, EmulatorConfig()),
        ({"max_tokens": 5000}, EmulatorConfig(stream_required_above=None)),
        ({"max_tokens": 5000}, EmulatorConfig(stream_required_above=16000)),
    ],
)
def test_the_rule_on_long_answers_can_be_moved_and_turned_off(fields: dict, config: EmulatorConfig) -> None:
    assert accepted(chat(**fields), config).max_tokens == fields["max_tokens"]


def test_an_unknown_key_is_named_with_its_path_and_value() -> None:
    body = chat()
    body["messages"] += [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b", "reasoning": "r"}]
    assert message_of(body) == "Extra inputs are not permitted, field: 'messages[2].reasoning', value: 'r'"


def test_several_problems_are_counted_and_joined() -> None:
    message = message_of(chat(foo=1, bar="x", temperature=3))
    assert message.startswith("3 request validation errors: ")
    assert "Extra inputs are not permitted, field: 'foo', value: 1; " in message
    assert "field: 'temperature', value: 3" in message


def test_an_unknown_key_in_a_content_part_has_the_providers_path() -> None:
    body = chat()
    body["messages"][0]["content"] = [{"type": "text", "text": "hi", "cache_control": {}}]
    assert "field: 'messages[0].content.list[ChatMessageContent][0].cache_control', value: {}" in message_of(body)


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({"role": "tool", "content": "1", "name": "x"}, "messages[1].name"),
        (
            {"role": "assistant", "tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]},
            "messages[1].tool_calls[0].index",
        ),
    ],
)
def test_message_keys_that_other_providers_know_are_refused(message: dict, path: str) -> None:
    body = chat()
    body["messages"].append(message)
    assert f"Extra inputs are not permitted, field: '{path}'" in message_of(body)


def test_an_unknown_key_in_the_response_format_is_named() -> None:
    message = message_of(chat(response_format={"type": "json_object", "strict": True}))
    assert "Extra inputs are not permitted, field: 'response_format.strict', value: True" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", value) for value in (-0.1, 2.1, "1", True)],
        *[("top_p", value) for value in (-0.1, 1.1)],
        *[("top_k", value) for value in (-1, 101, 1.5)],
        *[("min_p", 1.1), ("typical_p", -1), ("frequency_penalty", 2.1), ("presence_penalty", -2.1)],
        *[("repetition_penalty", 2.1), ("n", 0), ("n", 129), ("max_tokens", 0), ("top_logprobs", 6)],
        *[("stop", ["a", "b", "c", "d", "e"]), ("logit_bias", {"1": 101}), ("logprobs", 6), ("messages", [])],
        *[("tool_choice", "sometimes"), ("service_tier", "fast"), ("context_length_exceeded_behavior", "cut")],
        *[("thinking", {"type": "enabled", "budget_tokens": 1023}), ("prediction", {"type": "text", "content": ""})],
        *[("metadata", {"a": 1}), ("stream_options", {"include_obfuscation": True}), ("stream", "yes")],
        ("tools", [{"type": "function", "function": {"name": "has space"}}]),
        ("tools", [{"type": "function", "function": {"name": "x" * 65}}]),
    ],
)
def test_a_value_outside_its_type_or_range_is_refused_by_name(field: str, value: object) -> None:
    assert f"field: '{field}" in message_of(chat(**{field: value}))


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2, "top_p": 1, "top_k": 100, "min_p": 0, "frequency_penalty": -2, "repetition_penalty": 0},
        {"stop": ["a", "b", "c", "d"], "seed": -1, "logit_bias": {"7": -100}, "n": 128, "logprobs": False},
        {"stream_options": {"include_usage": True}, "chat_template_kwargs": {"a": 1}, "prompt_cache_max_len": 0},
        {"temperature": None, "stop": None, "tools": None, "response_format": None, "thinking": None},
        {"speculation": [1, 2], "prediction": {"type": "content", "content": "x"}, "service_tier": "priority"},
        {"response_format": {"type": "text"}, "tools": [WEATHER], "tool_choice": "auto", "sampling_mask": "x"},
    ],
)
def test_documented_and_tolerated_values_are_accepted(fields: dict) -> None:
    assert accepted(chat(**fields)).body.model == CLASSIC


def test_keys_can_be_tolerated_by_configuration() -> None:
    assert accepted(
        chat(vl_high_resolution_images=True), EmulatorConfig(tolerated_keys=frozenset({"vl_high_resolution_images"}))
    )


def test_violations_can_be_answered_in_the_published_shape() -> None:
    status, body = refusal(chat(top_k=101), EmulatorConfig(validation_status=422))
    assert status == 422
    assert body["detail"][0]["loc"] == ["body", "top_k"]
    assert body["detail"][0]["input"] == 101


@pytest.mark.parametrize("payload", [[], "x", 7])
def test_a_body_that_is_no_object_is_refused(payload: object) -> None:
    assert refusal(payload)[0] == 400


def test_an_unknown_model_is_not_found() -> None:
    status, body = refusal(chat(model="accounts/fireworks/models/nothing"))
    assert status == 404
    assert body["error"]["message"] == "Model not found, inaccessible, and/or not deployed"


def test_a_deployment_of_a_known_model_is_found() -> None:
    assert accepted(chat(model=f"{CLASSIC}#accounts/me/deployments/one")).card.id == CLASSIC


def test_the_developer_role_is_refused_unless_configured() -> None:
    body = chat()
    body["messages"].insert(0, {"role": "developer", "content": "Be brief"})
    assert "field: 'messages[0].role', value: 'developer'" in message_of(body)
    assert accepted(body, EmulatorConfig(roles=frozenset({"developer", "user"})))


def test_a_part_without_its_member_is_refused() -> None:
    body = chat()
    body["messages"][0]["content"] = [{"type": "image_url", "text": "x"}]
    assert "messages[0].content.list[ChatMessageContent][0].image_url" in message_of(body)


def test_more_than_thirty_images_are_refused() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    body = chat()
    body["messages"][0]["content"] = [image] * 30
    assert accepted(body)
    body["messages"][0]["content"] = [image] * 31
    assert "30 images" in message_of(body)


@pytest.mark.parametrize(
    ("model", "effort"),
    [(REASONING, "none"), (REASONING, False), (REASONING, "max"), (CLASSIC, "low"), (NEW, "huge"), (NEW, 0)],
)
def test_an_effort_that_the_model_lacks_is_refused(model: str, effort: object) -> None:
    assert message_of(chat(model=model, reasoning_effort=effort)) == f"Invalid reasoning effort: {effort}"


@pytest.mark.parametrize(
    ("model", "fields", "effort", "cap"),
    [
        (NEW, {}, "none", None),
        (REASONING, {}, "medium", None),
        (NEW, {"reasoning_effort": True}, "medium", None),
        (NEW, {"reasoning_effort": False}, "none", None),
        (NEW, {"reasoning_effort": 300}, "high", 300),
        (NEW, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "medium", 2000),
        (NEW, {"thinking": {"type": "disabled"}}, "none", None),
    ],
)
def test_every_spelling_of_the_effort_is_understood(model: str, fields: dict, effort: str, cap: int | None) -> None:
    found = accepted(chat(model=model, **fields))
    assert (found.effort, found.reasoning_cap) == (effort, cap)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "low"}, ["thinking", "reasoning_effort"]),
        ({"max_tokens": 5, "max_completion_tokens": 5}, ["max_tokens", "max_completion_tokens"]),
    ],
)
def test_exclusive_fields_are_refused_together(fields: dict, names: list[str]) -> None:
    message = message_of(chat(model=NEW, **fields))
    assert all(name in message for name in names)


@pytest.mark.parametrize("name", NOT_BUILT)
def test_what_is_not_built_is_refused_by_name(name: str) -> None:
    values: dict = {"functions": [], "function_call": "auto", "prompt_token_ids": [1]}
    assert f"Not supported by the emulator, field: '{name}'" in message_of(chat(**{name: values.get(name, True)}))


@pytest.mark.parametrize(
    "choice", ["required", "any", {"type": "function", "name": "x"}, {"type": "function", "function": {"name": "x"}}]
)
def test_a_forced_tool_must_be_on_offer(choice: object) -> None:
    assert "tool_choice" in message_of(chat(tool_choice=choice))


def test_a_request_over_the_context_loses_output_by_default() -> None:
    found = accepted(chat(model=SMALL, max_tokens=4000))
    assert found.prompt_tokens + found.max_tokens == 512


def test_a_request_over_the_context_is_refused_if_it_asks_for_that() -> None:
    body = chat(model=SMALL, max_tokens=4000, context_length_exceeded_behavior="error")
    assert "prompt is too long" in message_of(body)
    assert accepted(body | {"max_tokens": 100}).max_tokens == 100


def test_a_prompt_that_fills_the_context_is_always_refused() -> None:
    assert "prompt is too long" in message_of(chat("word " * 600, model=SMALL))


def test_a_prompt_can_be_truncated_to_fit_and_keeps_its_system_message() -> None:
    old = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "word " * 300}]
    system = {"role": "system", "content": "Be brief " * 20}
    body = chat(model=SMALL, prompt_truncate_len=100)
    alone = accepted(body | {"messages": [system, *body["messages"]]}).prompt_tokens
    assert accepted(body | {"messages": [system, *old, *body["messages"]]}).prompt_tokens == alone


def test_without_a_limit_the_default_holds() -> None:
    assert accepted(chat()).max_tokens == 2048
    assert accepted(chat(max_completion_tokens=9)).max_tokens == 9
