"""A row's answer, from the machinery of chat completions."""

from typing import Any

import pytest

from tests.unit.emulator.making import CLASSIC, REASONING, SMALL
from workers.emulator import EmulatorConfig, Reply, Rule, Scene, When
from workers.emulator.batch import BatchConfig
from workers.emulator.batch.answers import Answered, Answers, JobTerms
from workers.emulator.state import EmulatorState

pytestmark = pytest.mark.requirement("EMU-06")

ECHO = Scene(
    rules=(
        Rule(when=When(system="shout"), reply=Reply(text="{user}!")),
        Rule(when=When(user="poison"), faults=("429",)),
        Rule(when=When(user="break"), faults=("stream_error_after=1",)),
        Rule(reply=Reply(text="{user}")),
    )
)


def _answer(
    text: str = "hi", *, config: EmulatorConfig | None = None, terms: JobTerms | None = None, **body: Any
) -> Answered:
    config = config or EmulatorConfig(scene=ECHO)
    body = {"messages": [{"role": "user", "content": text}]} | body
    return Answers(config, EmulatorState(config.seed)).answer(body, terms or _terms(), 1_790_000_000.9)


def _terms(system_prompt: str = "", model: str = CLASSIC, **parameters: Any) -> JobTerms:
    return JobTerms("accounts/a/batchInferenceJobs/j", model, parameters, system_prompt)


def _text(answered: Answered) -> Any:
    assert answered.response is not None, answered.error
    return answered.response["choices"][0]["message"]["content"]


def _switched(**switches: Any) -> EmulatorConfig:
    return EmulatorConfig(scene=ECHO, batch=BatchConfig(**switches))


def test_an_answer_is_a_chat_completion_as_live_rows_have_it() -> None:
    answered = _answer("hi there")
    assert answered.response is not None
    assert answered.response | {"id": ""} == {
        "id": "",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": CLASSIC,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi there"}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 9,
            "total_tokens": 11,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    assert (answered.input_tokens, answered.output_tokens, answered.cached_tokens) == (9, 2, 0)


def test_the_same_row_has_the_same_answer_in_another_server() -> None:
    config = EmulatorConfig(scene=Scene())
    assert _answer("tell me", config=config) == _answer("tell me", config=config)
    other = EmulatorConfig(scene=Scene(), seed=8)
    assert _text(_answer("tell me", config=config)) != _text(_answer("tell me", config=other))


def test_the_jobs_parameters_count_where_the_row_is_silent() -> None:
    terms = _terms(max_tokens=1, n=2)
    answered = _answer("one two three", terms=terms, n=1)
    assert answered.response is not None
    assert len(answered.response["choices"]) == 1
    assert _text(answered) == "one"


def test_a_rows_own_limit_wins_under_either_name() -> None:
    assert _text(_answer("one two three", terms=_terms(max_tokens=1), max_completion_tokens=2)) == "one two"


def test_the_job_can_win_instead() -> None:
    answered = _answer(
        "one two three", config=_switched(row_wins=False), terms=_terms(max_tokens=1), max_completion_tokens=2
    )
    assert _text(answered) == "one"


def test_a_system_prompt_is_put_before_rows_that_have_none() -> None:
    assert _text(_answer("hi", terms=_terms("please shout"))) == "hi!"
    own = [{"role": "system", "content": "whisper"}, {"role": "user", "content": "hi"}]
    assert _text(_answer(terms=_terms("please shout"), messages=own)) == "hi"


def test_the_jobs_model_answers_and_a_stream_makes_no_sense() -> None:
    answered = _answer("hi", stream=True, stream_options={"include_usage": True}, model="accounts/other/models/x")
    assert answered.response is not None
    assert (answered.response["model"], answered.response["object"]) == (CLASSIC, "chat.completion")


def test_what_does_not_belong_into_a_row_can_fail_it() -> None:
    assert _answer("hi", config=_switched(needless_keys="refused"), stream=True).error is not None


def test_a_limit_that_is_too_large_is_clamped_and_not_refused() -> None:
    answered = _answer("hi", terms=_terms(model=SMALL), max_tokens=100_000)
    assert _text(answered) == "hi"


def test_reasoning_stands_beside_the_text() -> None:
    answered = _answer("hi", terms=_terms(model=REASONING))
    assert answered.response is not None
    assert answered.response["choices"][0]["message"]["reasoning_content"]


@pytest.mark.parametrize(
    ("text", "body", "code"),
    [
        ("poison", {}, "invalid_request_error"),
        ("break", {}, "INTERNAL"),
        ("hi", {"colour": "red"}, "invalid_request_error"),
        ("hi", {"temperature": 5}, "invalid_request_error"),
        ("hi", {"max_tokens": 1, "max_completion_tokens": 1}, "invalid_request_error"),
    ],
)
def test_what_chat_refuses_fails_the_row_alone(text: str, body: dict[str, Any], code: str) -> None:
    answered = _answer(text, **body)
    assert answered.response is None
    assert answered.error is not None
    assert answered.error["code"] == code
    assert answered.error["message"]


def test_a_failed_rows_code_can_be_its_status() -> None:
    error = _answer("poison", config=_switched(error_code="status")).error
    assert error is not None
    assert error["code"] == 429


def test_a_prefix_that_rows_share_is_cached_within_the_job() -> None:
    config = EmulatorConfig(scene=ECHO)
    answers = Answers(config, EmulatorState(config.seed))

    def cached(name: str, text: str) -> int:
        messages = [{"role": "system", "content": "a long prompt " * 20}, {"role": "user", "content": text}]
        terms = JobTerms(name, CLASSIC, {})
        return answers.answer({"messages": messages}, terms, 0.0).cached_tokens

    assert cached("job-1", "a") == 0
    assert cached("job-1", "b") > 20
    assert cached("job-2", "b") == 0
