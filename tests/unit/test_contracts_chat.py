"""The chat's contract: what a request may say, how results and events are read."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api_contracts import SCHEMA_VERSION, keys
from api_contracts.batch import BATCH_EVENTS
from api_contracts.chat import CHAT_EVENTS, ChatDelta, ChatRequest, ChatResult, Limits, ToolSpec, Usage
from api_contracts.citations import CITE_EVENTS
from api_contracts.failure import Failure, RunConflict, RunFailed, RunNotFound
from api_contracts.messages import Message
from api_contracts.runs import RUN_EVENTS, TERMINAL, Event, RunCompleted
from api_contracts.stt import STT_EVENTS, SttResult
from api_contracts.stt_files import STT_FILE_EVENTS
from api_contracts.vocabulary import EVENT_TYPES, typed, typed_result

QUESTION: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TOOL: dict[str, Any] = {"name": "pay", "task": "svc.pay", "queue": "svc"}


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate(QUESTION | fields)


def fault(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        request(**fields)
    return str(caught.value)


# -- the request -------------------------------------------------------------------------------------------------------


def test_what_is_not_said_has_the_defaults_of_the_design() -> None:
    made = request()
    assert (made.tenant, made.lane, made.deadline_s, made.parallel_tools) == ("default", "interactive", None, 8)
    assert made.limits == Limits(rounds=16, calls=64)
    assert made.context_length_exceeded_behavior == "error"
    assert made.temperature is None, "unset means the model's own default"


@pytest.mark.requirement("RUN-14", "RUN-15")
@pytest.mark.parametrize(
    "where", [{"temprature": 1}, {"limits": {"round": 1}}, {"tools": [TOOL | {"effects": "pure"}]}]
)
def test_a_field_that_is_not_known_is_refused(where: dict[str, Any]) -> None:
    assert "Extra inputs are not permitted" in fault(**where)


@pytest.mark.requirement("CHAT-01")
@pytest.mark.parametrize(
    ("field", "low", "high", "below", "above"),
    [
        ("temperature", 0, 2, -0.01, 2.01),
        ("top_p", 0, 1, -0.01, 1.01),
        ("top_k", 0, 100, -1, 101),
        ("min_p", 0, 1, -0.01, 1.01),
        ("typical_p", 0, 1, -0.01, 1.01),
        ("frequency_penalty", -2, 2, -2.01, 2.01),
        ("presence_penalty", -2, 2, -2.01, 2.01),
        ("repetition_penalty", 0, 2, -0.01, 2.01),
        ("logit_bias", {"1": -100}, {"1": 100}, {"1": -101}, {"1": 101}),
        ("max_tokens", 1, 10**6, 0, "many"),
        ("stop", "a", ["a"] * 4, 5, ["a"] * 5),
        ("parallel_tools", 1, 64, 0, 65),
        ("deadline_s", 0.1, 30 * 86400, 0, 30 * 86400 + 1),
        ("tools", [], ["a"], ["with space"], ["x" * 65]),
    ],
)
def test_ranges_are_the_providers(field: str, low: Any, high: Any, below: Any, above: Any) -> None:
    for fits in (low, high):
        assert request(**{field: fits}).model_dump()[field] == fits
    for wrong in (below, above):
        assert field in fault(**{field: wrong})


@pytest.mark.requirement("CHAT-01")
def test_two_ways_to_say_the_same_are_refused_together() -> None:
    assert "give one of them" in fault(max_tokens=1, max_completion_tokens=1)
    assert "exclude each other" in fault(thinking={"type": "enabled"}, reasoning_effort="low")


@pytest.mark.requirement("CHAT-01")
def test_the_rest_goes_through_extra_but_not_what_is_the_requests_own() -> None:
    assert request(extra={"speculation": [1], "safe": None}).extra == {"speculation": [1], "safe": None}
    for own in ("model", "messages", "tools", "stream", "stream_options", "n", "tenant", "limits", "temperature"):
        assert f"'extra' may not carry ['{own}']" in fault(extra={own: 1})


def test_two_tools_of_one_name_are_refused() -> None:
    assert "two tools have the same name" in fault(tools=["pay", TOOL])


def test_a_tool_of_another_service_is_taken_at_its_worst_unless_it_says_otherwise() -> None:
    spec = ToolSpec.model_validate(TOOL)
    assert (spec.effect, spec.timeout_s) == ("at_most_once", 60.0)
    assert spec.parameters == {"type": "object", "properties": {}}


@pytest.mark.requirement("TOOL-07")
@pytest.mark.parametrize("timeout_s", [0, -1, 86401, float("inf"), float("nan"), None])
def test_no_call_may_take_for_ever(timeout_s: Any) -> None:
    assert "timeout_s" in fault(tools=[TOOL | {"timeout_s": timeout_s}])


def test_the_arguments_of_a_tool_are_an_object() -> None:
    assert "must be a JSON schema" in fault(tools=[TOOL | {"parameters": {"type": "string"}}])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"role": "assistant"},
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "content": "x"},
        {"role": "user", "content": "x", "tool_calls": []},
        {"role": "user", "content": "x", "name": "bob"},
        {"role": "narrator", "content": "x"},
        {"role": "user", "content": []},
    ],
)
def test_a_message_that_the_provider_would_refuse_is_refused(message: dict[str, Any]) -> None:
    assert "messages.0" in fault(messages=[message])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "x", "reasoning_content": "hm"},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
        {"role": "tool", "content": "x", "tool_call_id": "1"},
    ],
)
def test_a_message_of_the_provider_is_taken(message: dict[str, Any]) -> None:
    assert Message.model_validate(message).model_dump(exclude_unset=True) == message


def test_a_request_cannot_be_changed_and_says_the_same_after_a_round_trip() -> None:
    made = request(tools=["look", TOOL], temperature=0.5, labels={"a": "b"})
    assert ChatRequest.model_validate_json(made.model_dump_json(exclude_unset=True)) == made
    with pytest.raises(ValidationError):
        made.temperature = 1.0  # type: ignore[misc]


# -- results and events ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-15", "RUN-24")
def test_readers_pass_over_what_a_newer_writer_added() -> None:
    result = ChatResult.model_validate(
        {"run_id": "run-1", "status": "completed", "mood": "good", "usage": {"prompt_tokens": 1, "dreams": 2}}
    )
    assert (result.usage.prompt_tokens, result.schema_version) == (1, SCHEMA_VERSION)
    event = Event(seq=1, type=ChatDelta.TYPE, at=1, epoch=1, data={"attempt": 1, "text": "a", "mood": "good"})
    assert typed(event) == ChatDelta(attempt=1, text="a")
    assert typed(event.model_copy(update={"type": "chat.dreamt"})) is None


@pytest.mark.requirement("RUN-02")
def test_every_type_of_event_has_one_class_and_an_area() -> None:
    kinds = (RUN_EVENTS, CHAT_EVENTS, STT_EVENTS, STT_FILE_EVENTS, BATCH_EVENTS, CITE_EVENTS)
    assert len(EVENT_TYPES) == sum(map(len, kinds))
    assert {name.partition(".")[0] for name in EVENT_TYPES} == {"run", "chat", "tool", "stt", "batch", "cite"}
    assert set(TERMINAL) < set(EVENT_TYPES)


def test_a_stored_result_is_read_as_what_its_kind_comes_to() -> None:
    stored = {"run_id": "run-1", "status": "completed"}
    assert isinstance(typed_result({**stored, "kind": "chat"}), ChatResult)
    assert isinstance(typed_result({**stored, "kind": "stt"}), SttResult)
    assert typed_result({**stored, "kind": "of tomorrow", "dreams": 2}).status == "completed"


@pytest.mark.requirement("RUN-02")
def test_an_event_is_read_from_a_stream_entry_in_bytes_or_text() -> None:
    text = {"seq": "7", "type": "run.completed", "at": "1700000000000", "epoch": "2", "data": '{"result": {"a": 1}}'}
    as_bytes = {key.encode(): value.encode() for key, value in text.items()}
    event = Event.from_fields(as_bytes)
    assert event == Event.from_fields(text)
    assert (event.seq, event.epoch, event.terminal) == (7, 2, True)
    assert typed(event) == RunCompleted(result={"a": 1})


def test_what_is_unset_is_not_stored() -> None:
    assert RunCompleted(result={"kept": None}).to_json() == '{"result":{"kept":null}}'


tokens = st.integers(0, 10**9)
usages = st.builds(
    Usage, prompt_tokens=tokens, completion_tokens=tokens, cached_tokens=tokens, reasoning_tokens=tokens,
    estimated=st.booleans(),
)  # fmt: skip


@pytest.mark.requirement("CHAT-03")
@given(usages, usages, usages)
def test_usage_adds_up_in_any_order_and_stays_estimated(one: Usage, two: Usage, three: Usage) -> None:
    assert (one + two) + three == one + (two + three) == three + (two + one)
    assert one + Usage() == one
    assert (one + two).estimated == (one.estimated or two.estimated)


# -- failures ----------------------------------------------------------------------------------------------------------

FAILURE = Failure(code="deadline_exceeded", category="deadline", message="late", at_fault="caller")


@pytest.mark.requirement("RUN-09")
def test_a_failed_run_raises_its_failure_and_can_be_carried_anywhere() -> None:
    error = RunFailed(FAILURE)
    assert str(error) == "deadline_exceeded: late"
    again = pickle.loads(pickle.dumps(error))
    assert (again.failure, again.args) == (FAILURE, error.args)
    assert RunFailed(*error.args).failure == FAILURE, "Celery makes it from its arguments"


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize("code", ["", "Not Good", "9lives", "x" * 65])
def test_a_code_is_made_for_programs(code: str) -> None:
    with pytest.raises(ValidationError):
        Failure(code=code, category="internal", message="x", at_fault="us")


def test_errors_of_the_client_name_the_run() -> None:
    assert "run-1" in str(RunConflict("run-1"))
    assert "run-1" in str(RunNotFound("run-1"))


@pytest.mark.requirement("RUN-01")
@pytest.mark.parametrize("run_id", ["a1", "0" * 128, "a.b_c:d-e"])
def test_a_run_id_of_the_right_form_is_taken(run_id: str) -> None:
    assert keys.check_run_id(run_id) == run_id


@pytest.mark.requirement("RUN-01")
@pytest.mark.parametrize("run_id", ["", "a", "0" * 129, "-ab", "ab-", "a b", "a{b}c", "aüb", "ab\n", None, 5, b"ab"])
def test_any_other_run_id_is_refused(run_id: object) -> None:
    with pytest.raises(keys.BadRunId, match="is refused"):
        keys.check_run_id(run_id)


@pytest.mark.requirement("CHAT-12")
def test_a_route_stands_for_the_model() -> None:
    route = ["a", {"model": "b", "credential": "theirs"}]
    asked = {"messages": QUESTION["messages"], "route": route, "credential": "ours"}
    made = ChatRequest.model_validate(asked)
    assert made.model == "a"
    assert [(place.model, place.credential) for place in made.places] == [("a", "ours"), ("b", "theirs")]
    for again in (made.model_dump(mode="json"), made.model_dump(mode="json", exclude_unset=True)):
        assert ChatRequest.model_validate(again).places == made.places
    assert [(place.model, place.credential) for place in request(credential="ours").places] == [("m", "ours")]


@pytest.mark.requirement("CHAT-12")
@pytest.mark.parametrize(
    "wrong",
    [
        {"model": ""}, {"model": None}, {"model": "", "route": []}, {"route": ["another"]},
        {"model": "", "route": [""]},
        {"model": "", "route": [{"credential": "x"}]}, {"model": "", "route": [{"model": "a", "key": "x"}]},
        {"model": "", "route": ["a"] * 9}, {"model": "", "route": "a"}, {"model": "", "route": [None]},
    ],
)  # fmt: skip
def test_a_route_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**wrong)
