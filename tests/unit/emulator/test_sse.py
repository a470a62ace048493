"""The stream in wire order (WIRE 1.6) and the plain body (WIRE 1.5), before and under the faults that strike them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.emulator.making import ADD, CLASSIC, NEW, REASONING, WEATHER, chat, take
from workers.emulator.config import EmulatorConfig
from workers.emulator.disturbance import cutter, disturb, split_inside_characters
from workers.emulator.faults import parse_faults
from workers.emulator.scenes import Scene
from workers.emulator.sse import DONE, Chunk, Frame, Hangup, Pause, Raw, body, encode, frames

pytestmark = pytest.mark.requirement("EMU-01")

_BOTH = "add 2 and 3 and the weather in Oslo"


def _frames(request: dict[str, Any], *faults: str, config: EmulatorConfig | None = None) -> list[Frame]:
    answer = take(request | {"stream": True}, *faults, config=config)
    return list(disturb(frames(answer.completions, answer.envelope), answer.faults))


def _payloads(found: list[Frame]) -> list[dict[str, Any]]:
    return [json.loads(encode(frame)[6:]) for frame in found if isinstance(frame, Chunk)]


def _deltas(found: list[Frame]) -> list[dict[str, Any]]:
    return [payload["choices"][0]["delta"] for payload in _payloads(found) if payload["choices"]]


def _fragments(found: list[Frame]) -> list[dict[str, Any]]:
    return [call for delta in _deltas(found) for call in delta.get("tool_calls", [])]


def _scripted(text: str) -> EmulatorConfig:
    return EmulatorConfig(scene=Scene.model_validate({"rules": [{"reply": {"text": text}}]}))


def test_the_classic_style_has_usage_on_the_chunk_that_finishes() -> None:
    *middle, last = _payloads(_frames(chat()))
    assert all(payload["usage"] is None for payload in middle)
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


def test_the_newer_style_has_usage_in_a_chunk_of_its_own_when_asked() -> None:
    *middle, last = _payloads(_frames(chat(model=NEW, stream_options={"include_usage": True})))
    assert not any("usage" in payload for payload in middle)
    assert middle[-1]["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize(
    ("model", "options"), [(NEW, None), (NEW, {"include_usage": False}), (CLASSIC, {"include_usage": False})]
)
def test_a_stream_without_usage_is_what_one_gets_for_not_asking(model: str, options: dict | None) -> None:
    assert not any("usage" in payload for payload in _payloads(_frames(chat(model=model, stream_options=options))))


@pytest.mark.parametrize(
    ("model", "delta"),
    [
        (CLASSIC, {"role": "assistant"}),
        (NEW, {"role": "assistant", "content": ""}),
        (REASONING, {"role": "assistant", "content": None}),
    ],
)
def test_the_first_delta_has_the_role(model: str, delta: dict) -> None:
    assert _deltas(_frames(chat(model=model)))[0] == delta


def test_all_chunks_share_their_identity_and_the_stream_ends_with_its_marker() -> None:
    found = _frames(chat())
    assert found[-1] == DONE
    assert len({(p["id"], p["created"], p["model"], p["object"]) for p in _payloads(found)}) == 1


def test_reasoning_comes_before_content() -> None:
    kinds = [next(iter(delta)) for delta in _deltas(_frames(chat(model=REASONING)))[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"reasoning_content", "content"}


def test_a_tool_call_arrives_in_fragments() -> None:
    found = _fragments(_frames(chat("weather in Oslo", tools=[WEATHER])))
    assert len(found) > 3
    head, *rest = found
    assert head["id"].startswith("call_")
    assert head == {
        "index": 0,
        "id": head["id"],
        "type": "function",
        "function": {"name": "get_weather", "arguments": ""},
    }
    assert all(
        set(fragment) == {"index", "function"} and set(fragment["function"]) == {"arguments"} for fragment in rest
    )
    assert json.loads("".join(fragment["function"]["arguments"] for fragment in rest)) == {"city": "Oslo"}


def test_even_empty_arguments_make_three_fragments() -> None:
    ping = {"type": "function", "function": {"name": "ping"}}
    assert len(_fragments(_frames(chat("ping", tools=[ping])))) == 3


def test_parallel_calls_are_numbered_and_can_be_interleaved() -> None:
    request = chat(_BOTH, tools=[WEATHER, ADD])
    orders = [
        [fragment["index"] for fragment in _fragments(_frames(request, *faults))] for faults in ([], ["interleave"])
    ]
    assert orders[0] == sorted(orders[0])
    assert orders[1][:6] == [0, 1, 0, 1, 0, 1]
    assert sorted(orders[1]) == orders[0]


def test_tokens_can_be_buffered_into_larger_chunks() -> None:
    single, buffered = (_frames(chat(stream_options=options)) for options in (None, {"buffer_tokens": 5}))
    texts = ["".join(delta.get("content", "") for delta in _deltas(found)) for found in (single, buffered)]
    assert texts[0] == texts[1]
    assert len(buffered) < len(single) / 3


def test_choices_take_turns() -> None:
    payloads = _payloads(_frames(chat(n=2)))
    assert [payload["choices"][0]["index"] for payload in payloads[:6]] == [0, 1, 0, 1, 0, 1]
    assert [payload["choices"][0]["index"] for payload in payloads if payload["choices"][0]["finish_reason"]] == [0, 1]
    assert [payload["usage"] is None for payload in payloads[-2:]] == [True, False]


def test_performance_rides_on_the_chunk_that_finishes() -> None:
    *middle, last = _payloads(_frames(chat(perf_metrics_in_response=True), "pace=10"))
    assert not any("perf_metrics" in payload for payload in middle)
    assert last["perf_metrics"]["server-time-to-first-token"] == "0.100"


def test_the_plain_body_says_the_same_as_the_stream() -> None:
    request = chat(_BOTH, tools=[WEATHER, ADD])
    answer = take(request)
    message = body(answer.completions, answer.envelope)["choices"][0]["message"]
    joined = {0: "", 1: ""}
    for fragment in _fragments(_frames(request)):
        joined[fragment["index"]] += fragment["function"]["arguments"]
    assert message["content"] is None
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == list(joined.values())


@pytest.mark.requirement("EMU-04")
class TestFaults:
    """What each fault does to the frames."""

    def test_the_marker_can_be_missing(self) -> None:
        assert not any(frame == DONE for frame in _frames(chat(), "no_done"))

    def test_the_finish_can_be_missing(self) -> None:
        payloads = _payloads(_frames(chat(), "no_finish"))
        assert not any(payload["choices"][0]["finish_reason"] for payload in payloads)

    def test_the_finish_reason_can_be_another(self) -> None:
        assert _payloads(_frames(chat(), "finish_reason=error"))[-1]["choices"][0]["finish_reason"] == "error"

    def test_usage_can_be_missing(self) -> None:
        assert _payloads(_frames(chat(), "no_usage"))[-1]["usage"] is None
        request = chat(model=NEW, stream_options={"include_usage": True})
        assert not any("usage" in payload for payload in _payloads(_frames(request, "no_usage")))

    def test_a_chunk_without_choices_can_come_in_mid_stream(self) -> None:
        payloads = _payloads(_frames(chat(), "empty_choices"))
        assert [index for index, payload in enumerate(payloads) if payload["choices"] == []] == [1]

    @pytest.mark.parametrize(("fault", "text"), [("comments", ": still here\n"), ("event_ping", "event: ping\n")])
    def test_other_lines_can_come_between_the_chunks(self, fault: str, text: str) -> None:
        extras = [frame for frame in _frames(chat(), fault) if isinstance(frame, Raw) and frame != DONE]
        assert len(extras) > 3
        assert all(text in frame.text for frame in extras)

    @pytest.mark.parametrize(
        ("fault", "last"), [("cut_after=5", Hangup()), ("stall_after=5", Pause(None)), ("cut_after=0", Hangup())]
    )
    def test_the_stream_can_end_after_some_tokens(self, fault: str, last: Frame) -> None:
        found = _frames(chat(), fault)
        assert found[-1] == last
        assert sum(frame.tokens for frame in found if isinstance(frame, Chunk)) == int(fault[-1])

    @pytest.mark.parametrize(
        ("fault", "start"), [("stream_error_after", "data: "), ("stream_error_event_after", "event: error\n")]
    )
    def test_an_error_can_end_the_stream(self, fault: str, start: str) -> None:
        last = _frames(chat(), f"{fault}=2")[-1]
        assert isinstance(last, Raw)
        assert last.text.startswith(start)
        assert json.loads(last.text.partition("data: ")[2])["error"]["status"] == 500

    def test_a_fault_after_the_last_token_strikes_before_the_finish(self) -> None:
        tokens = take(chat()).tokens
        assert not any(
            payload["choices"][0]["finish_reason"] for payload in _payloads(_frames(chat(), f"cut_after={tokens}"))
        )
        assert _frames(chat(), f"cut_after={tokens + 1}")[-1] == DONE

    def test_the_first_token_can_be_slow(self) -> None:
        assert _frames(chat(), "slow_first_token=0.5")[0] == Pause(0.5)

    def test_the_chunk_that_finishes_can_be_cut_in_half(self) -> None:
        *_, broken, done = _frames(chat(), "json_body_truncated")
        assert done == DONE
        assert isinstance(broken, Raw)
        with pytest.raises(json.JSONDecodeError):
            json.loads(broken.text.removeprefix("data: "))

    def test_calls_can_be_numbered_from_one(self) -> None:
        request = chat(_BOTH, tools=[WEATHER, ADD])
        assert {fragment["index"] for fragment in _fragments(_frames(request, "index_from_1"))} == {1, 2}

    def test_id_and_name_can_come_apart(self) -> None:
        first, second, third = _fragments(_frames(chat("weather in Oslo", tools=[WEATHER]), "id_name_split"))[:3]
        assert "function" not in first
        assert "id" not in second
        assert second["function"] == {"name": "get_weather", "arguments": ""}
        assert set(third["function"]) == {"arguments"}

    def test_the_name_can_be_sent_again_and_again(self) -> None:
        found = _fragments(_frames(chat("weather in Oslo", tools=[WEATHER]), "resent_name"))
        assert {(fragment["id"], fragment["function"]["name"]) for fragment in found} == {
            (found[0]["id"], "get_weather")
        }

    def test_two_calls_can_share_a_delta(self) -> None:
        request = chat(_BOTH, tools=[WEATHER, ADD])
        found = _deltas(_frames(request, "two_calls_one_delta"))
        assert [call["function"]["name"] for call in found[1]["tool_calls"]] == ["get_weather", "add"]
        assert len(_fragments(_frames(request, "two_calls_one_delta"))) == len(_fragments(_frames(request)))

    def test_lines_can_end_in_crlf(self) -> None:
        frame = Chunk({"text": "a\nb"})
        assert cutter(parse_faults(["crlf"]))(encode(frame)) == [b'data: {"text":"a\\nb"}\r\n\r\n']

    @given(st.text(min_size=1))
    def test_writes_can_end_inside_characters(self, text: str) -> None:
        data = text.encode()
        parts = split_inside_characters(data)
        assert b"".join(parts) == data
        assert len(parts) >= min(2, len(data))
        multibyte = [part for part in parts[1:] if part[0] & 0xC0 == 0x80]
        assert len(multibyte) == sum(1 for character in text if ord(character) > 127)

    def test_characters_are_sent_as_themselves(self) -> None:
        assert "東京".encode() in b"".join(
            encode(f) for f in _frames(chat(), config=_scripted("東京")) if isinstance(f, Chunk)
        )
