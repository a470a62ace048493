"""The decoder of the chat endpoint's event streams (WIRE 1.6, 7.9)."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.adapters.fireworks.wire import chunk, sse, usage_only
from workers.adapters.fireworks.codec import LIMIT_BYTES, BodyDecoder, SseDecoder, decoder_for
from workers.core.chat.assembler import Answer, DeltaAssembler

_HELLO = chunk({"content": "hé"})
_WORLD = chunk({"content": "llo 🌍\u2028"})
_END = chunk({}, "stop")


def decoded(*reads: bytes) -> tuple[list[dict[str, Any]], SseDecoder]:
    decoder = SseDecoder()
    chunks = [found for read in reads for found in decoder.feed(read)]
    return chunks + decoder.finish(), decoder


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
EVENTS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: ("data", chunk({"content": text}))),
        TEXTS.map(lambda text: ("two data lines", chunk({"content": text}))),
        st.sampled_from(["comment", "ping", "named", "blank"]).map(lambda what: (what, _HELLO)),
    ),
    max_size=8,
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def written(events: list[tuple[str, dict[str, Any]]], end: str) -> bytes:
    lines: list[str] = []
    for what, value in events:
        text = json.dumps(value, ensure_ascii=False)
        lines += {
            "data": [f"data: {text}", ""],
            "two data lines": [f"data:{text[:1]}", f"data: {text[1:]}", ""],
            "comment": [": still there", ""],
            "ping": ["event: ping", "data: {}", ""],
            "named": [f"id: 7{end}retry: 10{end}event: chunk{end}data: {text}", ""],
            "blank": ["", ""],
        }[what]
    return (end.join([*lines, "data: [DONE]", "", ""])).encode()


@pytest.mark.requirement("CHAT-04")
@given(EVENTS, ENDS, st.lists(st.integers(0, 5000), max_size=12))
def test_the_same_chunks_come_out_wherever_the_network_cuts(
    events: list[tuple[str, dict[str, Any]]], end: str, cuts: list[int]
) -> None:
    chunks, decoder = decoded(*in_pieces(written(events, end), cuts))
    assert chunks == [value for what, value in events if what in ("data", "two data lines", "named")]
    assert decoder.done
    assert decoder.failure is None


@pytest.mark.requirement("CHAT-04")
@given(st.lists(TEXTS, min_size=1, max_size=8), ENDS, st.lists(st.integers(0, 5000), max_size=12))
def test_the_same_answer_comes_out_wherever_the_network_cuts(texts: list[str], end: str, cuts: list[int]) -> None:
    stream = sse(*(chunk({"content": text}) for text in texts), _END, usage_only(prompt_tokens=3), end=end)
    assembler = DeltaAssembler()
    for found in decoded(*in_pieces(stream, cuts))[0]:
        assembler.feed(found)
    whole = DeltaAssembler()
    for found in decoded(stream)[0]:
        whole.feed(found)
    answer = whole.finish()
    assert assembler.finish() == answer
    assert isinstance(answer, Answer)
    assert answer.message["content"] == "".join(texts)


@pytest.mark.requirement("CHAT-04")
def test_a_stream_read_byte_by_byte_is_whole() -> None:
    stream = sse(_HELLO, _WORLD, _END, end="\r\n")
    chunks, decoder = decoded(*(stream[i : i + 1] for i in range(len(stream))))
    assert chunks == [_HELLO, _WORLD, _END]
    assert decoder.done


@pytest.mark.requirement("CHAT-04")
def test_chunks_come_out_of_the_read_that_completes_them() -> None:
    decoder = SseDecoder()
    stream = sse(_HELLO, _WORLD, done=False)
    assert decoder.feed(stream[:-1]) == [_HELLO]
    assert decoder.feed(stream[-1:]) == [_WORLD]


@pytest.mark.requirement("CHAT-04")
@pytest.mark.parametrize(
    "noise",
    [
        b": hi\n",
        b": hi\n\n",
        b"event: heartbeat\ndata: {}\n\n",
        b"event:keepalive\ndata\n\n",
        b"event: ping\n\n",
        b"\n\n\n",
        b"data:\n\n",
        b"retry: 3\n\n",
    ],
)
def test_comments_heartbeats_and_empty_events_are_no_chunks(noise: bytes) -> None:
    chunks, decoder = decoded(noise + sse(_HELLO, done=False) + noise + sse(_WORLD))
    assert chunks == [_HELLO, _WORLD]
    assert decoder.failure is None


def test_a_byte_order_mark_is_skipped() -> None:
    assert decoded(b"\xef\xbb\xbf" + sse(_HELLO))[0] == [_HELLO]


def test_data_without_the_space_is_data() -> None:
    assert decoded(sse(_HELLO).replace(b"data: ", b"data:"))[0] == [_HELLO]


def test_nothing_counts_after_the_end_marker() -> None:
    chunks, decoder = decoded(sse(_HELLO) + sse(_WORLD), sse(_WORLD))
    assert chunks == [_HELLO]
    assert decoder.done


def test_the_last_event_may_lack_its_blank_line() -> None:
    assert decoded(sse(_HELLO, _END, done=False)[:-1])[0] == [_HELLO, _END]
    assert decoded(sse(_HELLO, _END, done=False)[:-2])[0] == [_HELLO, _END]
    assert decoded(sse(_HELLO)[:-2])[1].done


@pytest.mark.requirement("CHAT-05")
def test_an_event_cut_in_its_middle_is_dropped_and_is_no_error_of_its_own() -> None:
    chunks, decoder = decoded(sse(_HELLO, done=False) + sse(_WORLD)[:20])
    assert chunks == [_HELLO]
    assert (decoder.done, decoder.failure) == (False, None)


@pytest.mark.parametrize("payload", [b"{no json}", b'["a list"]', b"17", b'{"content": "\xff"}', b"null"])
def test_an_event_that_is_no_json_object_fails_the_stream(payload: bytes) -> None:
    chunks, decoder = decoded(sse(_HELLO, done=False) + b"data: " + payload + b"\n\n" + sse(_WORLD))
    assert chunks == [_HELLO]
    assert decoder.failure is not None
    assert (decoder.failure.code, decoder.failure.retryable) == ("provider_bad_stream", True)


def test_a_failure_stays_to_the_end() -> None:
    decoder = SseDecoder()
    decoder.feed(b"data: {no json}\n\n")
    assert decoder.finish() == []
    assert decoder.failure is not None


def test_an_endless_line_is_refused() -> None:
    decoder = SseDecoder()
    piece = b"x" * 65536
    for _ in range(LIMIT_BYTES // len(piece)):
        assert decoder.feed(piece) == []
    assert decoder.failure is None
    decoder.feed(piece)
    assert decoder.failure is not None
    assert decoder.failure.code == "provider_bad_stream"


def test_an_endless_event_of_many_lines_is_refused() -> None:
    decoder = SseDecoder(limit_bytes=1000)
    for _ in range(101):
        decoder.feed(b"data: aaa\n")
    assert decoder.failure is not None


def test_many_events_in_one_read_may_be_longer_than_one_event_may_be() -> None:
    decoder = SseDecoder(limit_bytes=1000)
    assert len(decoder.feed(sse(*[_HELLO] * 50))) == 50
    assert decoder.failure is None


@pytest.mark.requirement("CHAT-09")
@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "boom", "type": "server_error", "code": "internal"}}\n\n',
        b'data: {"error": "boom"}\n\n',
        b'data: {"error": {"message": "boom"}, "choices": []}\n\n',
        b'event: error\ndata: {"error": {"message": "boom"}}\n\n',
        b'event: error\ndata: {"message": "boom"}\n\n',
        b"event: error\ndata: boom\n\n",
    ],
)
def test_an_error_inside_the_stream_comes_after_the_chunks_before_it(event: bytes) -> None:
    chunks, decoder = decoded(sse(_HELLO, done=False) + event + sse(_WORLD))
    assert chunks == [_HELLO]
    assert decoder.failure is not None
    assert (decoder.failure.code, decoder.failure.retryable) == ("provider_stream_error", True)
    assert decoder.failure.message.endswith("boom")
    assert not decoder.done


@pytest.mark.requirement("CHAT-09")
@pytest.mark.parametrize("name", ["status", "status_code", "code"])
@pytest.mark.parametrize("kind", [int, str])
def test_an_error_inside_the_stream_is_judged_by_the_status_that_it_names(name: str, kind: type) -> None:
    event = b"data: " + json.dumps({"error": {"message": "slow down", name: kind(429)}}).encode() + b"\n\n"
    failure = decoded(event)[1].failure
    assert failure is not None
    assert (failure.code, failure.provider_status) == ("provider_rate_limited", 429)


@pytest.mark.parametrize("error", [None, "", False])
def test_a_chunk_with_an_empty_error_is_a_chunk(error: object) -> None:
    value = {**_HELLO, "error": error}
    assert decoded(sse(value))[0] == [value]


def test_a_plain_completion_becomes_one_chunk() -> None:
    message = {"role": "assistant", "content": "Hi."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({"id": "c-1", "choices": [choice], "usage": {"prompt_tokens": 2}}).encode()
    decoder = decoder_for("application/json; charset=utf-8")
    assert decoder.feed(body[:9]) + decoder.feed(body[9:]) == []
    (found,) = decoder.finish()
    assert found["choices"] == [{"index": 0, "delta": message, "finish_reason": "stop"}]
    assert found["usage"] == {"prompt_tokens": 2}
    assert decoder.done


@pytest.mark.parametrize("body", [b"<html>hi</html>", b"", b"[]", b'{"object": "list"}', b'{"cut": '])
def test_a_plain_body_that_is_no_completion_fails(body: bytes) -> None:
    decoder = decoder_for("text/html")
    assert isinstance(decoder, BodyDecoder)
    decoder.feed(body)
    assert decoder.finish() == []
    assert decoder.failure is not None
    assert decoder.failure.code == "provider_bad_stream"


def test_an_error_in_a_plain_body_is_that_error() -> None:
    decoder = decoder_for("application/json")
    decoder.feed(b'{"error": {"message": "too busy", "status": 503}}')
    assert decoder.finish() == []
    assert decoder.failure is not None
    assert decoder.failure.code == "provider_unavailable"


def test_an_endless_plain_body_is_refused() -> None:
    decoder = BodyDecoder()
    for _ in range(5):
        decoder.feed(b"x" * 1024 * 1024)
    assert decoder.failure is not None


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/plain", "application/octet-stream"])
def test_what_is_neither_json_nor_a_page_is_a_stream(content_type: str) -> None:
    assert isinstance(decoder_for(content_type), SseDecoder)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_no_bytes_make_the_decoder_raise(data: bytes, cuts: list[int]) -> None:
    whole = decoded(data)
    cut = decoded(*in_pieces(data, cuts))
    assert whole[0] == cut[0]
    assert (whole[1].done, whole[1].failure) == (cut[1].done, cut[1].failure)
