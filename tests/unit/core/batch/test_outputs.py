"""Lines of a job's output, and how the files of a job add up."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_contracts.chat import Usage
from tests.unit.core.batch.provider import answer, error
from tests.unit.core.stt.test_messages import JSON
from workers.core.batch.harvest import Harvest, most_frequent
from workers.core.batch.lines import Line
from workers.core.batch.outputs import Answered, Corrupt, Failed, Tokens, file_of, outcome_of, read_output

CHOICE: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
FLAT: dict[str, Any] = {"id": "c", "choices": [CHOICE], "usage": {"prompt_tokens": 47, "completion_tokens": 2}}


def read(**fields: Any) -> Answered | Failed | Corrupt:
    return read_output(orjson.dumps(fields))


def lines(*data: bytes) -> list[Line]:
    return [Line(number, each) for number, each in enumerate(data, 1)]


# -- lines -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-07")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("dataset/out-1/BIJOutputSet.jsonl", "answers"),
        ("dataset/error-data/BIJOutputSet.jsonl", "answers"),
        ("dataset/out-1/error-data", "errors"),
        ("error-data", "errors"),
        ("dataset/BIJOutputSet.jsonl/input.jsonl", None),
        ("dataset/out/error-data.jsonl", None),
        ("", None),
    ],
)
def test_files_are_told_apart_by_their_base_name(name: str, file: str | None) -> None:
    assert file_of(name) == file


def test_an_answer_is_flat() -> None:
    said = read(custom_id="a", response=FLAT)
    assert said == Answered("a", orjson.dumps(FLAT), ("stop",), Tokens(47, 2))
    assert read(custom_id=1, response=FLAT, error=None) == Answered("1", orjson.dumps(FLAT), ("stop",), Tokens(47, 2))


def test_the_wrapped_form_is_understood_too() -> None:
    assert read(custom_id="a", response={"status_code": 200, "body": FLAT}) == read(custom_id="a", response=FLAT)
    said = read(
        custom_id="a", response={"status_code": 400, "body": {"error": {"message": "no", "code": "bad_request"}}}
    )
    assert said == Failed("a", "provider_bad_request", "no", again=False)


def test_what_details_there_are_of_tokens_are_read() -> None:
    usage = {
        "prompt_tokens": 47, "completion_tokens": "many", "prompt_tokens_details": {"cached_tokens": 29},
        "completion_tokens_details": {"reasoning_tokens": True},
    }  # fmt: skip
    said = read(custom_id="a", response=FLAT | {"usage": usage})
    assert isinstance(said, Answered)
    assert said.tokens == Tokens(47, 0, 29, 0)
    without = read(custom_id="a", response={"choices": [CHOICE]})
    assert isinstance(without, Answered)
    assert without.tokens is None


@pytest.mark.parametrize(
    ("fault", "code", "again"),
    [
        ({"message": "m", "code": 500}, "provider_500", True),
        ({"message": "m", "code": "429"}, "provider_429", True),
        ({"message": "m", "code": 400}, "provider_400", False),
        ({"message": "m", "code": "INVALID_ARGUMENT"}, "provider_invalid_argument", False),
        ({"message": "m", "code": None, "type": "Payment Required!"}, "provider_payment_required", True),
        ({"message": "m", "code": 402}, "provider_402", False),
        ({"message": "m"}, "provider_error", True),
        ("m", "provider_error", True),
    ],
)
def test_an_error_has_a_code_and_says_whether_another_attempt_makes_sense(fault: Any, code: str, again: bool) -> None:
    assert read(custom_id="a", error=fault) == Failed("a", code, "m", again)


@pytest.mark.parametrize("response", [None, "text", {}, {"choices": []}, {"choices": None}, {"choices": ["x"]}])
def test_a_row_without_an_answer_failed(response: Any) -> None:
    said = read(custom_id="a", response=response)
    assert isinstance(said, Failed)
    assert said.again


@pytest.mark.requirement("BATCH-07")
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"custom_id": null}', b'{"custom_id": true}', b"\xff"])
def test_what_says_nothing_of_any_row_is_corrupt(data: bytes) -> None:
    assert isinstance(read_output(data), Corrupt)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from(("custom_id", "response", "error", "choices")), JSON).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_no_line_raises(data: bytes) -> None:
    read_output(data)


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-09")
def test_finish_reasons_count_as_failures_by_setting() -> None:
    cut = read_output(answer("a", "length"))
    assert isinstance(cut, Answered)
    assert outcome_of(cut, 1, [], last=False).state == "succeeded"
    assert outcome_of(cut, 1, ["content_filter"], last=False).state == "succeeded"
    bad = outcome_of(cut, 1, ["content_filter", "length"], last=False)
    assert (bad.state, bad.code, bad.response) == ("pending", "finish_length", cut.response)
    assert outcome_of(cut, 1, ["length"], last=True).state == "failed"


def test_any_choice_that_ended_badly_counts() -> None:
    several = read(custom_id="a", response=FLAT | {"choices": [CHOICE, CHOICE | {"finish_reason": "length"}]})
    assert isinstance(several, Answered)
    assert outcome_of(several, 1, ["length"], last=True).state == "failed"


def test_a_failure_waits_for_another_attempt_unless_it_is_in_vain() -> None:
    states = [
        outcome_of(Failed("a", "x", "", again=again), 1, [], last=last).state
        for again in (True, False)
        for last in (True, False)
    ]
    assert states == ["failed", "pending", "failed", "failed"]


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-07", "BATCH-19")
def test_the_lines_of_both_files_add_up() -> None:
    harvest = Harvest({"a": 1, "b": 2, "c": 3, "d": 4}, ["length"], last=True)
    outcomes = harvest.take(lines(answer("b"), b"{", answer("a", "length"), answer("b"), answer("x")))
    outcomes += harvest.take([*lines(error("c"), error("a"), error("b"), b"[]"), Line(5, None)])
    assert [(each.number, each.state) for each in outcomes] == [(2, "succeeded"), (1, "failed"), (3, "failed")]
    assert (harvest.lines, harvest.duplicates, harvest.strangers, harvest.corrupt) == (10, 3, 1, 3)
    assert harvest.missing == 1
    assert harvest.usage == Usage(prompt_tokens=20, completion_tokens=4), "an id in both files is counted once"


def test_an_answer_without_a_count_makes_the_sum_an_estimate() -> None:
    harvest = Harvest({"a": 1, "b": 2}, [], last=True)
    harvest.take(lines(answer("a"), orjson.dumps({"custom_id": "b", "response": {"choices": [CHOICE]}})))
    assert harvest.usage == Usage(prompt_tokens=10, completion_tokens=2, estimated=True)


NAMES = st.sampled_from(("a", "b", "c", "x"))
LINES = st.one_of(
    NAMES.map(answer), NAMES.map(error), st.just(b"?"), NAMES.map(lambda name: answer(name, "length")), st.none()
)


@pytest.mark.requirement("BATCH-19")
@given(st.lists(LINES, max_size=12), st.lists(LINES, max_size=6), st.booleans())
def test_no_line_is_unaccounted_for_and_no_row_is_told_twice(
    answers: list[bytes | None], errors: list[bytes | None], last: bool
) -> None:
    def all_of() -> tuple[Harvest, list[Any]]:
        harvest = Harvest({"a": 1, "b": 2, "c": 3}, ["length"], last=last)
        both = ([Line(number, each) for number, each in enumerate(file, 1)] for file in (answers, errors))
        return harvest, [outcome for file in both for outcome in harvest.take(file)]

    harvest, outcomes = all_of()
    told = [outcome.number for outcome in outcomes]
    assert len(set(told)) == len(told)
    assert harvest.lines == len(told) + harvest.duplicates + harvest.strangers + harvest.corrupt
    assert len(told) + harvest.missing == 3
    assert all_of()[1] == outcomes, "the same files say the same again"


def test_only_the_most_frequent_reasons_are_told() -> None:
    reasons = {f"r{number:02}": 1 for number in range(30)} | {"many": 5}
    assert list(most_frequent(reasons)) == ["many", *(f"r{number:02}" for number in range(19))]
