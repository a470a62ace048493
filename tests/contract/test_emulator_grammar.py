"""Grammars over a real socket: the answer matches, streamed or not, scripted or not; a bad one is a 400."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.unit.emulator.making import CLASSIC, NEW, chat
from workers.core.grammar import Matcher, parse
from workers.emulator import EmulatorConfig, Reply, Rule, Running, Scene, When, serve

pytestmark = pytest.mark.requirement("EMU-03")

CITED = (
    'root ::= sentence (" " sentence)*\nsentence ::= content " " cite+ [.!?]\n'
    'content ::= [^[.!?]{1, 240}\ncite ::= "[" ("1" | "2" | "3") "]"'
)
_LIAR = Rule(when=When(user="capital"), reply=Reply(text="Oslo is the capital [99]. It is cold [2]."))


@asynccontextmanager
async def _client() -> AsyncIterator[tuple[Running, openai.AsyncOpenAI]]:
    running = await serve(EmulatorConfig(scene=Scene(rules=(_LIAR,))))
    try:
        async with openai.AsyncOpenAI(base_url=running.inference_url, api_key="fw_x", max_retries=0) as client:
            yield running, client
    finally:
        await running.close()


def _under(grammar: str, text: str = "Say something", **fields: Any) -> dict[str, Any]:
    return chat(text, response_format={"type": "grammar", "grammar": grammar}, **fields)


async def _plain(client: openai.AsyncOpenAI, body: dict[str, Any]) -> dict[str, Any]:
    return (await client.post("/chat/completions", body=body, cast_to=openai.BaseModel)).model_dump()


async def _streamed(client: openai.AsyncOpenAI, body: dict[str, Any]) -> list[Any]:
    asked = body | {"stream": True, "stream_options": {"include_usage": True}}
    stream: Any = await client.post(
        "/chat/completions",
        body=asked,
        cast_to=openai.BaseModel,
        stream=True,
        stream_cls=openai.AsyncStream[openai.BaseModel],
    )
    return [chunk.model_dump() async for chunk in stream]


@pytest.mark.parametrize("model", [CLASSIC, NEW])
async def test_a_stream_under_a_grammar_can_be_followed_by_a_matcher(model: str) -> None:
    matcher, body = Matcher(parse(CITED)), _under(CITED, model=model)
    async with _client() as (_, client):
        chunks = await _streamed(client, body)
        plain = await _plain(client, body)
    pieces = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert all(matcher.feed(piece) for piece in pieces)
    assert matcher.complete
    assert "".join(pieces) == plain["choices"][0]["message"]["content"]
    (usage,) = (chunk["usage"] for chunk in chunks if chunk.get("usage"))
    assert usage["completion_tokens"] == plain["usage"]["completion_tokens"] == sum(bool(piece) for piece in pieces)


async def test_a_model_that_would_cite_what_is_not_there_cannot() -> None:
    async with _client() as (_, client):
        free = await _plain(client, chat("What is the capital?"))
        held = await _plain(client, _under(CITED, "What is the capital?"))
    assert free["choices"][0]["message"]["content"] == "Oslo is the capital [99]. It is cold [2]."
    assert held["choices"][0]["message"]["content"] == "Oslo is the capital [1]. It is cold [2]."
    assert held["choices"][0]["finish_reason"] == "stop"


async def test_an_answer_that_is_cut_breaks_off_inside_the_grammar() -> None:
    async with _client() as (_, client):
        answer = await _plain(client, _under(CITED, max_tokens=3))
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "length"
    text = choice["message"]["content"]
    assert parse(CITED).mismatch(text) == len(text)


async def test_a_bad_grammar_is_a_400_that_names_the_place() -> None:
    async with _client() as (_, client):
        with pytest.raises(openai.BadRequestError) as refused:
            await _plain(client, _under('root ::= "a"\nroot ::= cite'))
    assert refused.value.body == {
        "object": "error",
        "type": "invalid_request_error",
        "code": "invalid_request_error",
        "message": "Invalid grammar: line 2, column 1: the rule 'root' is defined twice, "
        "field: 'response_format.grammar'",
    }
