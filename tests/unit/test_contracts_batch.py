"""The batch's contract: what a request and a row may say, and what is refused with which words."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api_contracts import batch
from api_contracts.batch import BATCH_EVENTS, MOST_INLINE_BYTES, MOST_INLINE_ROWS, BatchRequest, BatchResult, RowCounts
from api_contracts.batch_rows import RowBody, RowResult
from api_contracts.chat import ChatRequest

ROW: dict[str, Any] = {"custom_id": "a", "body": {"messages": [{"role": "user", "content": "2+2?"}]}}
ASKED: dict[str, Any] = {"model": "m", "rows": [ROW]}


def request(**fields: Any) -> BatchRequest:
    return BatchRequest.model_validate(ASKED | fields)


def fault(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        request(**fields)
    return str(caught.value)


def body(**fields: Any) -> Any:
    return RowBody.model_validate({"messages": [{"role": "user", "content": "hi"}], **fields}, strict=True)


# -- the request -------------------------------------------------------------------------------------------------------


def test_what_is_not_said_has_the_defaults_of_the_design() -> None:
    made = request()
    assert (made.mode, made.attempts, made.shard_rows, made.shard_bytes) == ("api", 3, 10_000, 50_000_000)
    assert sorted(made.fail_on) == ["content_filter", "length"]
    assert (made.promise_s, made.system_prompt, made.parameters.model_dump(exclude_none=True)) == (
        None, None, {"extra": {}},
    )  # fmt: skip


@pytest.mark.requirement("BATCH-01")
@pytest.mark.parametrize(
    "source",
    [
        {"rows": [ROW]},
        {"file": "/data/rows.jsonl"},
        {"file": "https://host/rows.jsonl?sig=1"},
        {"file": "http://10.0.0.1:9000/rows"},
        {"dataset": "my-rows"},
        {"dataset": "accounts/acct/datasets/my-rows"},
    ],
)
def test_rows_come_from_one_source(source: dict[str, Any]) -> None:
    assert BatchRequest.model_validate({"model": "m", **source}).model_dump(include=set(source)) == source


@pytest.mark.requirement("BATCH-01")
def test_no_source_and_two_sources_are_refused() -> None:
    assert "give one of 'rows', 'file' and 'dataset', not none" in fault(rows=None)
    assert "not rows and file" in fault(file="/a")


@pytest.mark.requirement("BATCH-01")
@pytest.mark.parametrize(
    "file", ["rows.jsonl", "~/a", "file:///a", "s3://b/a", "ftp://h/a", "https:///a", "/a\0b", "http://["]
)
def test_a_file_must_mean_the_same_everywhere(file: str) -> None:
    assert "must be an absolute path on the worker's machine, or an http(s) URL" in fault(rows=None, file=file)


def test_a_url_with_a_password_is_not_stored() -> None:
    assert "must not carry a user or password" in fault(rows=None, file="https://u:p@host/a")


@pytest.mark.requirement("BATCH-01")
def test_rows_in_the_request_are_bounded_by_number_and_by_size() -> None:
    assert len(request(rows=[1] * MOST_INLINE_ROWS).rows or []) == MOST_INLINE_ROWS
    assert "rows" in fault(rows=[1] * (MOST_INLINE_ROWS + 1))
    assert "rows" in fault(rows=[])
    assert request(rows=["x" * (MOST_INLINE_BYTES - 4)]).rows
    assert "give them as 'file'" in fault(rows=["x" * (MOST_INLINE_BYTES - 3)])
    assert "give them as 'file'" in fault(rows=["é" * (MOST_INLINE_BYTES // 2)]), "bytes count, not characters"


@pytest.mark.parametrize("row", [float("nan"), float("inf"), {"a": {1, 2}}, "\ud800", object()])
def test_rows_that_are_no_json_are_refused_before_they_are_sent(row: Any) -> None:
    assert "cannot be said in JSON" in fault(rows=[row])


@pytest.mark.requirement("BATCH-02")
def test_bad_rows_do_not_refuse_the_request() -> None:
    assert request(rows=[1, None, {}, {"body": {"temperature": 9}}, ROW]).rows


@pytest.mark.parametrize("mode", ["workers", "auto"])
def test_modes_that_are_not_built_are_refused_by_name(mode: str) -> None:
    assert f"'{mode}' is not built yet: use 'api'" in fault(mode=mode)
    assert "Input should be 'api'" in fault(mode="other")


@pytest.mark.parametrize("field", [{"webhook": "https://x"}, {"on_complete": {"task": "t", "queue": "q"}}])
def test_what_is_not_built_is_refused_with_what_to_do_instead(field: dict[str, Any]) -> None:
    assert "is not built yet: put a Celery link on the message" in fault(**field)
    assert request(**dict.fromkeys(field)).webhook is None


@pytest.mark.requirement("RUN-14")
@pytest.mark.parametrize("where", [{"temperature": 1}, {"parameters": {"stop": "x"}}, {"messages": []}])
def test_a_field_that_is_not_known_is_refused(where: dict[str, Any]) -> None:
    assert "Extra inputs are not permitted" in fault(**where)


@pytest.mark.parametrize(
    ("field", "low", "high", "below", "above"),
    [
        ("attempts", 1, 10, 0, 11),
        ("shard_rows", 1, 1_000_000, 0, 1_000_001),
        ("shard_bytes", 1_000, 8_000_000_000, 999, 8_000_000_001),
        ("promise_s", 0.1, 30 * 86400, 0, 30 * 86400 + 1),
        ("fail_on", [], ["length"], ["stop"], ["length"] * 3),
        ("system_prompt", "x", "x" * 9000, "", 1),
        ("parameters", {"max_tokens": 1}, {"max_tokens": 2**31 - 1}, {"max_tokens": 0}, {"max_tokens": 2**31}),
        ("parameters", {"temperature": 0}, {"temperature": 2}, {"temperature": -0.1}, {"temperature": 2.1}),
        ("parameters", {"top_k": 0}, {"top_k": 100}, {"top_k": -1}, {"top_k": 101}),
        ("parameters", {"n": 1}, {"n": 128}, {"n": 0}, {"n": 129}),
        ("dataset", "a", "accounts/a/datasets/" + "x" * 128, "", "accounts/a/models/b"),
    ],
)  # fmt: skip
def test_ranges(field: str, low: Any, high: Any, below: Any, above: Any) -> None:
    rows = {"rows": None} if field == "dataset" else {}
    for fits in (low, high):
        request(**rows, **{field: fits})
    for wrong in (below, above):
        assert field in fault(**rows, **{field: wrong})


@pytest.mark.parametrize("extra", [{"stream": True}, {"model": "x"}, {"temperature": 1}, {"messages": []}])
def test_extra_parameters_take_nothing_that_has_a_place(extra: dict[str, Any]) -> None:
    assert f"may not carry ['{next(iter(extra))}']" in fault(parameters={"extra": extra})
    assert request(parameters={"extra": {"stop": ["\n"]}}).parameters.extra == {"stop": ["\n"]}
    assert "cannot be said in JSON" in fault(parameters={"extra": {"stop": float("nan")}})


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-02")
def test_the_parameters_of_a_row_are_those_of_a_chat() -> None:
    """A parameter that a chat learns is one that a row may carry, unless it is named here."""
    not_of_rows = {"model", "parallel_tools", "on_mismatch", "limits", "extra", "conversation", "answer", "route"}
    not_of_rows |= set(batch.Request.model_fields)
    assert set(ChatRequest.model_fields) - not_of_rows <= set(RowBody.model_fields)
    ours, theirs = (model.model_json_schema()["properties"] for model in (RowBody, ChatRequest))
    for name in ("temperature", "top_k", "frequency_penalty", "logit_bias", "stop", "reasoning_effort"):
        assert ours[name] == theirs[name]


@pytest.mark.requirement("BATCH-02")
@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2.1},
        {"temperature": "1"},
        {"max_tokens": 1.0},
        {"max_tokens": True},
        {"stop": ["a"] * 5},
        {"n": 0},
        {"top_logprobs": 6},
        {"messages": []},
        {"messages": [{"role": "developer", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", "name": "bob"}]},
        {"prompt_token_ids": [1]},
        {"messages": None},
        {"tools": [{"type": "function", "function": {"name": "with space"}}]},
        {"max_tokens": 1, "max_completion_tokens": 1},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "low"},
        {"temprature": 1},
    ],
)
def test_what_the_provider_would_refuse_is_refused_here(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        body(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1, "top_p": 0.5, "max_tokens": 16, "stop": ["a"], "n": 2, "logprobs": True},
        {"logprobs": 5, "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"response_format": {"type": "grammar", "grammar": "root ::= [0-9]"}, "reasoning_effort": False},
        {"messages": None, "prompt_token_ids": [1, 2, 3]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]},
    ],
)
def test_what_the_provider_takes_is_taken(fields: dict[str, Any]) -> None:
    assert body(**fields)


# -- results and events ------------------------------------------------------------------------------------------------


def test_a_result_survives_its_json() -> None:
    result = BatchResult(run_id="r-1", kind="batch", status="completed", rows=RowCounts(total=1, succeeded=1))
    assert BatchResult.model_validate_json(result.model_dump_json()) == result
    assert result.cost is None, "unknown is not zero"
    row = RowResult(number=1, custom_id="a", state="succeeded", response={"choices": []})
    assert RowResult.model_validate(row.model_dump() | {"newer": 1}) == row


def test_event_types_are_named_after_their_area() -> None:
    names = [cls.TYPE for cls in BATCH_EVENTS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("batch.") for name in names)


@given(st.sampled_from(get_args(batch.TroubleKind)), st.none() | st.floats(0, 1e9), st.text(max_size=5))
def test_an_event_survives_its_json(kind: batch.TroubleKind, at: float | None, message: str) -> None:
    event = batch.BatchTrouble(kind=kind, shard=1, retry_at=at, message=message)
    assert batch.BatchTrouble.model_validate_json(event.to_json()) == event
