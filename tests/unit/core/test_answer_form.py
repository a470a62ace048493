"""The form that a request asks of its answer, checked again here, whoever promised it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from api_contracts.chat import ChatMessage, ChatReplaced, Choice
from api_contracts.runs import RunFailedEvent
from tests.unit.core.turns import Life, request, says
from workers.core.chat.acts import AskModel
from workers.core.chat.form import BadForm, form_of
from workers.core.runs.frame import Action, Finish

PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
YES_OR_NO = {"type": "grammar", "grammar": 'root ::= "yes" | "no"'}


def schema(of: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "p", "schema": of, "strict": True}}


def fault(response_format: dict[str, Any], text: str) -> str | None:
    form = form_of(response_format)
    assert form is not None
    return form(text)


@pytest.mark.requirement("CHAT-07")
@pytest.mark.parametrize(
    ("response_format", "fits", "wrong"),
    [
        (
            {"type": "json_object"},
            '{"a": 1}',
            [("[1]", "not a JSON object"), ('{"a": 1', "not JSON"), ("", "JSON")],
        ),
        ({"type": "json_object"}, " {} \n", [('{"a": NaN}', "NaN is not JSON"), ("[" * 10**5, "nested too deeply")]),
        ({"type": "json_object", "schema": PERSON}, '{"age": 3}', [('{"age": "3"}', "at age: '3' is not of type")]),
        (schema(PERSON), '<think>{"age"?</think>\n{"age": 3}', [("{}", "'age' is a required property")]),
        ({"type": "json_schema", "json_schema": PERSON}, '{"age": 3, "b": 1}', [("3", "is not of type 'object'")]),
        ({"type": "json_schema", "json_schema": json.dumps(PERSON)}, '{"age": 3}', [("null", "is not of type")]),
        (schema({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}), "3", [("3.5", "is not of type")]),
        (
            YES_OR_NO,
            "yes",
            [("nope", "character 2 of 4"), ("ye", "breaks off at character 2"), ("yes ", "ter 3")],
        ),
        (YES_OR_NO, "<think>hm</think>\n\nno", [("<think>hm", "character 0")]),
    ],
)
def test_an_answer_fits_or_is_told_where_it_does_not(
    response_format: dict[str, Any], fits: str, wrong: list[tuple[str, str]]
) -> None:
    assert fault(response_format, fits) is None
    for text, why in wrong:
        assert why in (fault(response_format, text) or "nothing")


@pytest.mark.requirement("CHAT-07")
def test_plain_text_has_no_form() -> None:
    assert form_of(None) is None
    assert form_of({"type": "text"}) is None


@pytest.mark.requirement("CHAT-07")
@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "grammar", "grammar": "root := yes"},
        {"type": "grammar", "grammar": 'root ::= root "a"'},
        schema({"type": "persn"}),
        schema({"properties": 3}),
        {"type": "json_schema", "json_schema": "{"},
        {"type": "json_object", "schema": "[" * 10**5},
    ],
)
def test_a_form_that_is_none_is_refused_before_anything_is_asked(response_format: dict[str, Any]) -> None:
    with pytest.raises(BadForm):
        form_of(response_format)


@pytest.mark.requirement("CHAT-07")
def test_a_schema_can_neither_send_us_into_the_net_nor_keep_us_busy() -> None:
    assert "refers to what it does not hold" in (fault(schema({"$ref": "http://127.0.0.1:9/s"}), "1") or "")
    assert fault(schema({"type": "string", "pattern": "^(a+)+$"}), json.dumps("a" * 64 + "b")) is None


# -- in the run --------------------------------------------------------------------------------------------------------


def life(**fields: Any) -> Life:
    return Life(request(response_format=YES_OR_NO, **fields)).begin()


def ended(actions: list[Action]) -> Finish:
    (end,) = (action for action in actions if isinstance(action, Finish))
    return end


@pytest.mark.requirement("CHAT-07")
def test_an_answer_of_another_form_fails_the_run_and_can_still_be_read() -> None:
    end = ended(life().answered(says("perhaps")))
    assert (end.status, end.failure.code if end.failure else None) == ("failed", "answer_mismatch")
    assert "perhaps" not in str(end.failure)
    assert end.result["message"]["content"] == "perhaps"


@pytest.mark.requirement("CHAT-07", "CHAT-05")
def test_an_answer_that_was_cut_by_the_token_limit_says_so() -> None:
    end = ended(life().answered(says("ye", "length")))
    assert end.failure is not None
    assert (end.failure.code, end.failure.at_fault) == ("answer_truncated", "caller")


@pytest.mark.requirement("CHAT-07")
def test_the_model_is_told_once_what_is_wrong_and_asked_again() -> None:
    run = life(on_mismatch="repair")
    asked = [action for action in run.answered(says("perhaps")) if isinstance(action, AskModel)]
    said, told = asked[0].body["messages"][-2:]
    assert said == {"role": "assistant", "content": "perhaps"}
    assert told["role"] == "user"
    assert "character 0 of 7" in told["content"]
    assert ended(run.answered(says("yes"))).status == "completed"


@pytest.mark.requirement("CHAT-07")
def test_it_is_asked_again_only_once() -> None:
    run = life(on_mismatch="repair")
    run.answered(says("perhaps"))
    assert ended(run.answered(says("maybe"))).status == "failed"


@pytest.mark.requirement("CHAT-07", "RUN-04")
@pytest.mark.parametrize("kept", [ChatMessage, ChatReplaced])
def test_a_worker_that_takes_the_run_over_judges_the_answer_the_same(kept: type) -> None:
    first = life(on_mismatch="repair")
    first.answered(says("perhaps"))
    upto = next(n for n, (event, _) in enumerate(first.journal, 1) if isinstance(event, kept))
    second = Life(first.request, journal=first.journal[:upto])
    second.begin()
    (asked,) = (action for action in second.trace if isinstance(action, AskModel))
    assert "character 0 of 7" in asked.body["messages"][-1]["content"]
    assert sum(message["role"] == "user" for message in asked.body["messages"]) == 2
    assert ended(second.answered(says("no"))).status == "completed"


@pytest.mark.requirement("CHAT-07", "RUN-18")
def test_a_run_that_failed_for_its_answers_form_asks_anew_when_it_is_retried() -> None:
    first = life()
    failure = ended(first.answered(says("perhaps"))).failure
    assert failure is not None
    end = RunFailedEvent(failure=failure, result={})
    second = Life(first.request, journal=[*first.journal, (end, first.now)]).begin()
    (asked,) = (action for action in second.trace if isinstance(action, AskModel))
    assert [message["role"] for message in asked.body["messages"]] == ["user"]
    assert ended(second.answered(says("no"))).status == "completed"


@pytest.mark.requirement("CHAT-22", "CHAT-07")
def test_each_of_several_answers_has_to_fit_and_comes_back_with_the_result() -> None:
    others = [Choice(message={"role": "assistant", "content": text}, finish_reason="stop") for text in ("no", "maybe")]
    end = ended(life(n=3).answered(replace(says("yes"), others=tuple(others))))
    assert end.failure is not None
    assert end.failure.code == "answer_mismatch"
    end = ended(life(n=2).answered(replace(says("yes"), others=tuple(others[:1]), details={"service_tier": "flex"})))
    assert end.status == "completed"
    assert [each["message"]["content"] for each in end.result["choices"]] == ["no"]
    assert end.result["details"] == {"service_tier": "flex"}
