"""Recorded-shape streams, one file per trap of WIRE 7 and FEAT A1.5, A1.6, B1: the same answer from any cut.

The streams in `tests/streams` are written by us from the studies of the wire: no traffic is in them. The first
lines of each are comments: the trap, and what has to come out.
"""

import itertools
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.failure import Failure
from workers.adapters.fireworks.codec import SseDecoder
from workers.core.chat.assembler import Answer, DeltaAssembler

STREAMS = Path(__file__).parents[2] / "streams"
NAMES = sorted(path.stem for path in STREAMS.glob("*.sse"))
PROMPT = 40
ENDS = [b"\n", b"\r\n", b"\r"]

pytestmark = pytest.mark.requirement("CHAT-03", "CHAT-04", "CHAT-05", "CHAT-06", "CHAT-09")


@lru_cache
def recorded(name: str) -> tuple[dict[str, Any], bytes]:
    """Return what has to come out, and the stream."""
    head, _, stream = (STREAMS / f"{name}.sse").read_bytes().partition(b"\n\n")
    _, expected = head.splitlines()
    return json.loads(expected.removeprefix(b": expect ")), stream


def replayed(reads: list[bytes]) -> tuple[str, str, Answer | Failure]:
    """Return what was shown of text and thought, and what came of it, as the performer of a chat does it."""
    decoder, assembler = SseDecoder(), DeltaAssembler(PROMPT)
    chunks = itertools.chain.from_iterable(decoder.feed(read) for read in reads)
    pieces = [piece for chunk in chunks if (piece := assembler.feed(chunk))]
    pieces += [piece for chunk in decoder.finish() if (piece := assembler.feed(chunk))]
    shown = "".join(piece.text for piece in pieces), "".join(piece.reasoning for piece in pieces)
    return *shown, decoder.failure or assembler.finish()


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize("name", NAMES)
def test_each_trap_has_its_answer(name: str) -> None:
    expected, stream = recorded(name)
    text, thought, found = replayed([stream])
    if isinstance(found, Failure):
        assert {"failure": found.code} == expected
        assert found.retryable is (found.code != "tool_call_truncated")
        return
    calls = [[call.provider_id, call.name, call.arguments] for call in found.calls]
    assert (found.message["content"], calls) == (expected["content"], expected.get("calls", []))
    assert (found.finish_reason, found.reasoning) == (expected["finish_reason"], expected.get("reasoning"))
    if "usage" in expected:
        assert found.usage.model_dump() == expected["usage"]
    assert (text, thought) == (found.message["content"] or "", found.reasoning or ""), "a follower saw something else"


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte_it_is_the_same(name: str) -> None:
    _, stream = recorded(name)
    assert replayed([stream[place : place + 1] for place in range(len(stream))]) == replayed([stream])


@given(st.sampled_from(NAMES), st.sampled_from(ENDS), st.lists(st.integers(0, 5000), max_size=12))
def test_any_cut_of_the_bytes_gives_the_same_answer(name: str, end: bytes, cuts: list[int]) -> None:
    _, stream = recorded(name)
    assert replayed(in_pieces(stream.replace(b"\n", end), cuts)) == replayed([stream])


MARKS = ["<think>", "</think>", "<", "think", ">", " ", "\n", "a"]
WRITTEN = st.lists(st.sampled_from(MARKS), max_size=12).map("".join)


@given(WRITTEN, st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_of_the_text_gives_the_same_thought(text: str, cuts: list[int]) -> None:
    def said(parts: list[bytes]) -> Any:
        deltas = [{"choices": [{"index": 0, "delta": {"content": part.decode()}}]} for part in parts]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        return replayed([f"data: {json.dumps(each)}\n\n".encode() for each in [*deltas, end]])

    assert said(in_pieces(text.encode(), cuts)) == said([text.encode()])
