"""What the provider's error answers mean (WIRE 1.7)."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.failure import Failure
from workers.adapters.fireworks.errors import failure_of, retry_after_s, stream_failure

_NOW = 1_790_000_000.0
_KEY = "fw_abcdefghijklmnop123456"


def failure(status: int, body: Any = b"", headers: dict[str, str] | None = None, **more: Any) -> Failure:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return failure_of(status, headers or {}, raw, now=_NOW, **more)


@pytest.mark.requirement("CHAT-09")
@pytest.mark.parametrize(
    ("status", "code", "category", "retryable"),
    [
        (400, "provider_bad_request", "bad_request", False),
        (401, "provider_authentication", "authentication", False),
        (402, "provider_account", "account", False),
        (403, "provider_authentication", "authentication", False),
        (404, "provider_model_not_found", "not_found", False),
        (405, "provider_unexpected_answer", "protocol", False),
        (408, "provider_timeout", "timeout", True),
        (412, "provider_account", "account", False),
        (413, "provider_too_large", "limit", False),
        (418, "provider_bad_request", "bad_request", False),
        (422, "provider_bad_request", "bad_request", False),
        (425, "provider_loading", "overloaded", True),
        (429, "provider_rate_limited", "rate_limit", True),
        (500, "provider_unavailable", "overloaded", True),
        (502, "provider_unavailable", "overloaded", True),
        (503, "provider_unavailable", "overloaded", True),
        (504, "provider_unavailable", "overloaded", True),
        (520, "provider_unavailable", "overloaded", True),
        (583, "provider_unavailable", "overloaded", True),
        (307, "provider_unexpected_answer", "protocol", False),
        (204, "provider_unexpected_answer", "protocol", False),
    ],
)
def test_each_status_has_its_meaning_whatever_the_body(status: int, code: str, category: str, retryable: bool) -> None:
    bodies: list[Any] = [b"", b"\xff\x00", b"[]", b"17", {"error": {"message": "no"}}, {"error": None}, {"error": {}}]
    for body in bodies:
        found = failure(status, body)
        assert (found.code, found.category, found.retryable) == (code, category, retryable)
        assert found.provider_status == status


@pytest.mark.requirement("CHAT-09")
@pytest.mark.parametrize(
    ("shape", "body", "said"),
    [
        ("E1", {"error": {"object": "error", "type": "invalid_request_error", "code": "invalid_request_error",
                          "message": "Invalid reasoning effort: none"}}, "Invalid reasoning effort: none"),
        ("E2", {"error": {"message": "The API key you provided is invalid.", "param": None, "code": "UNAUTHORIZED",
                          "type": "error"}, "request_id": "r-1"}, "The API key you provided is invalid."),
        ("E3", {"detail": [{"loc": ["body", "top_k"], "msg": "must be small", "type": "t", "input": "MY SECRET",
                            "ctx": {"given": "MY SECRET"}}, {"loc": ["body"], "msg": "no"}]},
         "body.top_k: must be small; body: no"),
        ("E4", {"error": "Too Many Requests", "message": "You have exceeded your usage limits"},
         "Too Many Requests: You have exceeded your usage limits"),
        ("E5", {"code": 5, "message": "resource not found", "details": []}, "resource not found"),
        ("E6", b"<!DOCTYPE html><html><head><title>520: Unknown\n error</title></head><body>MY SECRET</body></html>",
         "520: Unknown error"),
        ("text", b"Method Not Allowed\n", "Method Not Allowed"),
        ("detail text", {"detail": "Not Found"}, "Not Found"),
        ("no message", {"error": {"code": "OVERLOADED"}}, "OVERLOADED"),
    ],
)  # fmt: skip
def test_each_shape_of_body_is_read(shape: str, body: Any, said: str) -> None:
    assert failure(400, body).message == f"the provider answered 400: {said}"


@pytest.mark.requirement("CHAT-09", "RUN-09")
@pytest.mark.parametrize(
    "body", [{"strange": "MY SECRET"}, ["MY SECRET"], "MY SECRET", {"error": {"input": "MY SECRET"}}]
)
def test_a_body_of_no_known_shape_is_not_quoted(body: Any) -> None:
    assert failure(400, body).message == "the provider answered 400"


@pytest.mark.requirement("CHAT-14")
@pytest.mark.parametrize("status", [400, 413])
def test_a_prompt_that_is_too_long_has_its_own_code(status: int) -> None:
    found = failure(status, {"error": {"message": "The prompt is too long: 9000, model maximum context length: 8192"}})
    assert (found.code, found.category, found.at_fault, found.retryable) == (
        "prompt_too_long",
        "limit",
        "caller",
        False,
    )


@pytest.mark.requirement("CHAT-09")
def test_a_deployment_that_wakes_up_is_loading() -> None:
    found = failure(503, {"error": {"message": "scaling", "code": "DEPLOYMENT_SCALING_UP"}})
    assert (found.code, found.retryable) == ("provider_loading", True)


@pytest.mark.requirement("CHAT-09")
def test_a_missing_dedicated_deployment_may_still_be_loading() -> None:
    assert failure(404, dedicated=True).retryable
    assert not failure(404).retryable
    assert not failure(400, dedicated=True).retryable


def test_a_missed_first_token_deadline_is_overload_and_no_quota() -> None:
    said = "Request didn't generate first token before the given deadline"
    found = failure(429, {"error": {"message": said}})
    assert (found.code, found.category) == ("provider_rate_limited", "overloaded")


def test_the_providers_own_word_on_retrying_wins() -> None:
    assert not failure(503, headers={"X-Should-Retry": "false"}).retryable
    assert failure(400, headers={"X-Should-Retry": "true"}).retryable
    assert not failure(400, headers={"X-Should-Retry": "perhaps"}).retryable


def test_who_has_to_act_is_named() -> None:
    assert [failure(status).at_fault for status in (400, 401, 402, 404, 429, 500)] == [
        "caller", "us", "us", "caller", "provider", "provider",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"X-Request-Id": "ours", "x-fireworks-request-id": "theirs"}, b"", "theirs"),
        ({"X-Request-Id": "ours"}, {"error": {"message": "no"}, "request_id": "in the body"}, "in the body"),
        ({"X-Request-Id": "ours"}, b"", "ours"),
        ({"cf-ray": "ray"}, b"", "ray"),
        ({}, b"", None),
    ],
)
def test_the_request_id_is_found(headers: dict[str, str], body: Any, expected: str | None) -> None:
    assert failure(500, body, headers).provider_request_id == expected


@pytest.mark.requirement("CHAT-10")
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:30 GMT"}, 10.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:30"}, 10.0),
        ({"retry-after": "Mon, 21 Sep 2015 14:13:30 GMT"}, 0.0),
        ({"retry-after": "1e300"}, 30 * 86400.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_as_seconds_or_as_a_date(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after_s(headers, _NOW) == wait


def test_the_wait_is_part_of_the_failure_whatever_the_headers_case() -> None:
    assert failure(429, headers={"Retry-After": "7"}).retry_after_s == 7.0


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize(
    "said",
    [
        f"Incorrect API key provided: {_KEY}.",
        f"bad header 'Authorization: Bearer {_KEY}'",
        f"bad header Bearer {_KEY[3:]}, sorry",
        "key fw_abc***xyz is over its limit",
    ],
)
def test_keys_are_blanked(said: str) -> None:
    for found in (failure(403, {"error": {"message": said}}), failure(403, said.encode()), stream_failure(said)):
        assert "[key]" in found.message
        assert "abc" not in found.message
        assert "xyz" not in found.message
        assert "ghijkl" not in found.message


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            "Extra inputs are not permitted, field: 'messages[2].reasoning', value: 'MY SECRET'",
            "'messages[2].reasoning'",
        ),
        ("2 request validation errors: bad, field: 'a', value: 'MY; SECRET, field:'; bad, field: 'b', value: 3", "'a'"),
        ("Input should be a number [type=float, input_value='MY SECRET', input_type=str]", "should be a number"),
        ("bad row {'input': 'MY SECRET'}", "bad row"),
        ("refused, value:\nMY\nSECRET", "refused"),
    ],
)
def test_values_that_the_caller_sent_are_cut_out(said: str, kept: str) -> None:
    message = failure(400, {"error": {"message": said}}).message
    assert "SECRET" not in message
    assert kept in message


def test_a_long_message_is_cut() -> None:
    message = failure(400, {"error": {"message": "long " * 10_000}}).message
    assert len(message) < 600


@given(st.integers(100, 999), st.binary(max_size=200), st.dictionaries(st.text(max_size=12), st.text(max_size=12)))
def test_no_answer_makes_the_reading_raise(status: int, body: bytes, headers: dict[str, str]) -> None:
    assert failure(status, body, headers).provider_status == status


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 600) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "status", "detail", "loc", "msg"]), inner)
    ),
    max_leaves=8,
)


@given(_JSON)
def test_no_json_makes_the_reading_raise(value: Any) -> None:
    assert failure(400, value).provider_status == 400
    assert stream_failure(value).at_fault
