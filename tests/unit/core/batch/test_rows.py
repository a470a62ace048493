"""Rows of the input: taken as they are, or set aside with a reason."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.stt.test_messages import JSON
from workers.core.batch import ids
from workers.core.batch.lines import Line
from workers.core.batch.rows import BadRow, Row, RowReader, line_of

ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "2+2?"}]}


def read(value: Any, *extra: str, number: int = 7) -> Row | BadRow:
    data = value if isinstance(value, bytes) else orjson.dumps(value)
    return RowReader(extra).read(Line(number, data))


def bad(value: Any) -> tuple[str, str]:
    row = read(value)
    assert isinstance(row, BadRow), row
    assert row.number == 7
    return row.code, row.message


@pytest.mark.requirement("BATCH-01")
def test_a_custom_id_is_kept() -> None:
    row = read({"custom_id": "a/ü 1", "body": ASKED})
    assert row == Row(7, "a/ü 1", orjson.dumps(ASKED))
    assert orjson.loads(line_of("a/ü 1", row.body)) == {"custom_id": "a/ü 1", "body": ASKED}
    assert line_of('"', b"{}").endswith(b"}\n")


@pytest.mark.requirement("BATCH-01")
def test_a_missing_custom_id_is_made_from_the_content() -> None:
    one = read({"body": {**ASKED, "temperature": 1, "seed": 2}})
    other = read({"custom_id": None, "body": {"seed": 2, "temperature": 1, **ASKED, "stop": None}}, number=9)
    third = read({"body": {**ASKED, "temperature": 1, "seed": 3}})
    assert isinstance(one, Row)
    assert isinstance(other, Row)
    assert isinstance(third, Row)
    assert one.made
    assert one.custom_id == other.custom_id != third.custom_id
    assert ids.made_again(one.custom_id, 9) != one.custom_id


def test_a_row_is_sent_as_it_was_given_but_for_nulls() -> None:
    row = read({"custom_id": "a", "body": {"top_p": 1, **ASKED, "temperature": None, "user": "u"}})
    assert isinstance(row, Row)
    assert row.body == orjson.dumps({"top_p": 1, **ASKED, "user": "u"})


@pytest.mark.requirement("BATCH-02")
@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (b'{"body": {', "not_json", "column"),
        (b'{"body": "\xff"}', "not_json", ""),
        (b'{"body": {"seed": NaN}}', "not_json", ""),
        (b'"\\ud800"', "not_json", ""),
        (b"\xff\xfe{\x00", "not_json", ""),
        ([], "not_an_object", "not a list"),
        ({"custom_id": 1, "body": ASKED}, "bad_custom_id", "must be a string, not a number"),
        ({"custom_id": "", "body": ASKED}, "bad_custom_id", "1 to 512"),
        ({"custom_id": "x" * 513, "body": ASKED}, "bad_custom_id", "1 to 512"),
        ({"custom_id": "a\0", "body": ASKED}, "bad_custom_id", "control"),
        ({"custom_id": "a", "method": "POST", "url": "/v1", "body": ASKED}, "unknown_field", "not method, url"),
        ({"custom_id": "a"}, "no_body", "must be an object, not nothing"),
        ({"custom_id": "a", "body": [ASKED]}, "no_body", "not a list"),
        ({"custom_id": "a", "body": {**ASKED, "model": "m"}}, "model_in_row", "leave 'model' out"),
        ({"custom_id": "a", "body": {**ASKED, "stream": False}}, "stream_in_row", "leave 'stream' out"),
        ({"custom_id": "a", "body": {**ASKED, "stream_options": {}}}, "stream_in_row", "leave 'stream_options' out"),
        ({"custom_id": "a", "body": {}}, "bad_field", "'messages' or 'prompt_token_ids'"),
        ({"custom_id": "a", "body": {**ASKED, "prompt_token_ids": [1]}}, "bad_field", "one of them"),
        ({"custom_id": "a", "body": {**ASKED, "temprature": 1}}, "unknown_field", "body.temprature: Extra"),
        ({"custom_id": "a", "body": {**ASKED, "temperature": "1"}}, "bad_field", "valid number"),
        ({"custom_id": "a", "body": {**ASKED, "temperature": 3}}, "bad_field", "body.temperature: Input"),
        ({"custom_id": "a", "body": {"messages": [{"role": "bananas", "content": "x"}]}}, "bad_field", "0.role"),
    ],
)  # fmt: skip
def test_a_bad_row_is_set_aside_with_its_place_and_reason(value: Any, code: str, words: str) -> None:
    found, message = bad(value)
    assert found == code
    assert words in message
    assert "Value error" not in message


@pytest.mark.requirement("BATCH-02")
def test_a_reason_quotes_nothing_of_the_row() -> None:
    secret = "s3cret"
    for body in (
        {"messages": [{"role": "user", "content": {"text": secret}}]},
        {**ASKED, "temperature": secret},
        {**ASKED, "stop": [secret] * 5},
        {"messages": [{"role": secret, "content": secret}]},
        {**ASKED, "tool_choice": secret, "response_format": secret},
    ):
        assert secret not in bad({"custom_id": "a", "body": body})[1]


def test_a_line_that_was_too_long_has_its_reason() -> None:
    row = RowReader().read(Line(3, None))
    assert isinstance(row, BadRow)
    assert (row.number, row.code) == (3, "line_too_long")


def test_fields_that_the_caller_vouches_for_are_not_checked() -> None:
    body = {**ASKED, "brand_new": {"x": 1}}
    assert isinstance(read({"custom_id": "a", "body": body}), BadRow)
    row = read({"custom_id": "a", "body": body}, "brand_new")
    assert isinstance(row, Row)
    assert row.body == orjson.dumps(body)


def test_a_body_that_is_nested_too_deeply_is_set_aside() -> None:
    deep = b'{"type":"json_object","schema":%b1%b}' % (b'{"items":' * 300, b"}" * 300)
    data = b'{"custom_id":"a","body":{"messages":[{"role":"user","content":"x"}],"response_format":%b}}' % deep
    assert bad(data)[0] == "too_deep"
    assert bad(b"[" * 5000)[0] == "not_json"


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60) | JSON.map(lambda value: repr(value).encode(errors="replace")))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(read(data), BadRow)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(("custom_id", "body", "messages", "method")), JSON | st.just(ASKED), max_size=4
    ),
    st.dictionaries(st.sampled_from(("messages", "temperature", "stop", "n", "tools", "x")), JSON, max_size=3),
)  # fmt: skip
def test_a_row_that_is_taken_can_be_sent_and_read_again(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    try:
        data = orjson.dumps({**outer, "body": {**ASKED, **inner}})
    except (TypeError, orjson.JSONEncodeError):
        return
    row = read(data)
    if isinstance(row, Row):
        line = line_of(row.custom_id, row.body)
        assert line.count(b"\n") == 1
        again = read(line)
        assert isinstance(again, Row)
        assert (again.custom_id, again.body) == (row.custom_id, row.body)
