"""Every parameter that the contract types, from the request to the provider's stand-in and back, over real sockets."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from api_contracts.chat import ChatRequest
from api_contracts.sampling import Sampling
from workers.adapters.fireworks.chat import FireworksChat
from workers.core.chat.assembler import Answer, DeltaAssembler
from workers.core.chat.body import body_of
from workers.core.chat.cards import ToolCard
from workers.emulator import EmulatorConfig, build_app
from workers.emulator.tokens import pieces
from workers.ports import ProviderFailed

CLASSIC, NEW = (f"accounts/fireworks/models/emulated-{name}" for name in ("classic", "new"))
LOOK = ToolCard("look", "Looks.", {"type": "object", "properties": {}}, "pure")
NAMED = [{"type": "function", "function": {"name": "look"}}, {"type": "function", "name": "look"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
UNIT, TWO, SIGNED, SWITCH = [0, 0.5, 1], [0, 0.7, 2], [-2, 0.5, 2], [True, False]

FITS: dict[str, list[Any]] = {
    "tool_choice": ["auto", "none", "any", "required", *NAMED],
    "max_tokens": [1, 100_000],
    "max_completion_tokens": [1, 100_000],
    "temperature": TWO,
    "top_p": UNIT,
    "top_k": [0, 100],
    "min_p": UNIT,
    "typical_p": UNIT,
    "frequency_penalty": SIGNED,
    "presence_penalty": SIGNED,
    "repetition_penalty": TWO,
    "mirostat_target": [3.5],
    "mirostat_lr": [0.1],
    "n": [1, 128],
    "stop": ["\n", ["a", "b", "c", "d"]],
    "seed": [0, -1, 2**40],
    "logit_bias": [{"15": -100, "16": 100}],
    "logprobs": [*SWITCH, 0, 5],
    "top_logprobs": [0, 5],
    "echo": SWITCH,
    "echo_last": [0, 3],
    "ignore_eos": SWITCH,
    "context_length_exceeded_behavior": ["truncate", "error"],
    "prompt_truncate_len": [1, 4096],
    "parallel_tool_calls": SWITCH,
    "response_format": [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_object", "schema": SCHEMA},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
        {"type": "json_schema", "json_schema": json.dumps(SCHEMA)},
        {"type": "grammar", "grammar": 'root ::= "yes" | "no"'},
    ],
    "user": ["someone"],
    "prompt_cache_key": ["a"],
    "prompt_cache_isolation_key": ["a"],
    "metadata": [{"a": "b"}],
    "service_tier": ["auto", "default", "flex", "priority"],
    "reasoning_effort": ["low", "medium", "high", "none", "max", 1000, *SWITCH],
    "reasoning_history": ["disabled", "interleaved", "preserved"],
    "thinking": [{"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, {"type": "adaptive"}],
    "speculation": ["as before", [1, 2, 3]],
    "prediction": ["as before", {"type": "content", "content": "as before"}],
    "perf_metrics_in_response": SWITCH,
    "raw_output": SWITCH,
    "return_token_ids": SWITCH,
    "safe_tokenization": SWITCH,
}
"""Of each field, values at the ends of its range and of each of its forms (WIRE 1.2)."""


class Stand:
    """The provider's stand-in, and the bodies that reached it."""

    def __init__(self, chat: FireworksChat, bodies: list[dict[str, Any]]) -> None:
        self.chat = chat
        self.bodies = bodies

    async def told(self, model: str = NEW, **fields: Any) -> Answer:
        """Ask as a run does; return what it would conclude with."""
        cards = {"look": LOOK} if "tool_choice" in fields else {}
        messages = [{"role": "user", "content": "Tell me something"}]
        request = ChatRequest.model_validate({"model": model, "messages": messages, "tools": list(cards), **fields})
        body = body_of(request, cards, [], round_=1, tools=True)
        assembler = DeltaAssembler(n=request.n or 1)
        async for together in self.chat.stream(body, credential=None, request_id="run-1.1"):
            for chunk in together:
                assembler.feed(chunk)
        whole = assembler.finish()
        assert isinstance(whole, Answer), whole
        return whole


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    bodies: list[dict[str, Any]] = []

    @web.middleware
    async def keep(request: web.Request, handler: Any) -> web.StreamResponse:
        bodies.append(json.loads(await request.read()))
        answer: web.StreamResponse = await handler(request)
        return answer

    app = build_app(EmulatorConfig(pace=0))
    app.middlewares.append(keep)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    chat = FireworksChat(f"http://127.0.0.1:{runner.addresses[0][1]}/inference/v1", lambda _: "fw_anything")
    try:
        yield Stand(chat, bodies)
    finally:
        await chat.close()
        await runner.cleanup()


# -- there ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-01")
def test_every_parameter_has_its_cases() -> None:
    assert set(FITS) == set(Sampling.model_fields)


@pytest.mark.requirement("CHAT-01", "CHAT-22")
@pytest.mark.parametrize("field", sorted(FITS))
async def test_a_parameter_reaches_the_wire_as_it_was_given_and_nothing_else_does(stand: Stand, field: str) -> None:
    ours: dict[str, Any] = {
        "model": NEW,
        "messages": [{"role": "user", "content": "Tell me something"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "context_length_exceeded_behavior": "error",
    }
    for value in FITS[field]:
        await stand.told(**{field: value})
        sent = stand.bodies.pop()
        if field == "tool_choice":
            shown = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
            assert sent.pop("tools") == [{"type": "function", "function": shown}]
        assert sent == ours | {field: value}
        assert isinstance(sent[field], bool) is isinstance(value, bool), "True is not 1 on the wire"


@pytest.mark.requirement("CHAT-01")
async def test_what_is_in_extra_reaches_the_wire_and_the_providers_schema_is_closed(stand: Stand) -> None:
    await stand.told(extra={"chat_template_kwargs": {"a": 1}})
    assert stand.bodies.pop()["chat_template_kwargs"] == {"a": 1}
    with pytest.raises(ProviderFailed, match="Extra inputs are not permitted, field: 'name'"):
        await stand.told(extra={"name": "someone"})


# -- and back --------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-22")
@pytest.mark.parametrize("model", [CLASSIC, NEW])
async def test_n_answers_come_back_in_order_and_all_are_paid(stand: Stand, model: str) -> None:
    one, several = await stand.told(model), await stand.told(model, n=3)
    said = [several.message["content"], *(choice.message["content"] for choice in several.others)]
    assert said[0] == one.message["content"]
    assert len(set(said)) == 3
    assert several.usage.completion_tokens == sum(len(pieces(text)) for text in said)


@pytest.mark.requirement("CHAT-22")
async def test_logprobs_come_back_for_each_token_in_both_forms(stand: Stand) -> None:
    told = await stand.told(logprobs=True, top_logprobs=2)
    tokens = told.details["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == told.message["content"]
    assert [len(token["top_logprobs"]) for token in tokens] == [2] * told.usage.completion_tokens
    older = (await stand.told(logprobs=2)).details["logprobs"]
    assert older["tokens"] == [token["token"] for token in tokens]
    assert older["token_logprobs"] == [token["logprob"] for token in tokens]
    assert older["text_offset"] == [token["text_offset"] for token in tokens]
    several = await stand.told(logprobs=True, n=2)
    (other,) = several.others
    assert "".join(each["token"] for each in other.details["logprobs"]["content"]) == other.message["content"]


@pytest.mark.requirement("CHAT-22")
async def test_stop_ends_the_answer_before_its_sequence(stand: Stand) -> None:
    whole = str((await stand.told()).message["content"])
    word = whole.split()[3]
    cut = await stand.told(stop=[word])
    assert (cut.message["content"], cut.finish_reason) == (whole[: whole.index(word)], "stop")


@pytest.mark.requirement("CHAT-22")
async def test_a_seed_gives_the_same_answer_and_another_seed_another(stand: Stand) -> None:
    first, again, other = [(await stand.told(seed=seed)).message["content"] for seed in (1, 1, 2)]
    assert first == again != other


@pytest.mark.requirement("CHAT-22")
@pytest.mark.parametrize(("asked", "given"), [("priority", "priority"), ("flex", "default")])
async def test_the_service_tier_comes_back(stand: Stand, asked: str, given: str) -> None:
    assert (await stand.told(service_tier=asked)).details == {"service_tier": given}


@pytest.mark.requirement("CHAT-22")
async def test_what_became_of_a_prediction_comes_back(stand: Stand) -> None:
    said = str((await stand.told()).message["content"])
    start = "".join(pieces(said)[:4])
    ids = (await stand.told(return_token_ids=True)).details["token_ids"]
    cases: list[dict[str, Any]] = [{"prediction": f"{start}#"}, {"speculation": f"{start}#"}]
    cases += [{"prediction": {"type": "content", "content": f"{start}#"}}, {"speculation": [*ids[:4], 0]}]
    for given in cases:
        told = (await stand.told(perf_metrics_in_response=True, **given)).details["perf_metrics"]
        assert (told["speculation-prompt-tokens"], told["speculation-prompt-matched-tokens"]) == ("5", "4")


@pytest.mark.requirement("CHAT-01")
async def test_token_ids_raw_output_and_echo_come_back(stand: Stand) -> None:
    plain = await stand.told()
    told = await stand.told(return_token_ids=True, raw_output=True)
    assert told.message == plain.message
    assert len(told.details["token_ids"]) == plain.usage.completion_tokens
    assert len(told.details["prompt_token_ids"]) == plain.usage.prompt_tokens
    raw = told.details["raw_output"]
    assert (raw["completion"], raw["completion_token_ids"]) == (plain.message["content"], told.details["token_ids"])
    form = {"type": "grammar", "grammar": 'root ::= "yes"'}
    told = await stand.told(raw_output=True, response_format=form)
    assert told.details["raw_output"]["grammar"] == form["grammar"]
    assert (await stand.told(echo=True)).message["content"] == f"Tell me something{plain.message['content']}"
    last = await stand.told(echo_last=2)
    assert last.message["content"] == f" something{plain.message['content']}"
    assert last.usage.completion_tokens == plain.usage.completion_tokens, "what is echoed is not generated"
