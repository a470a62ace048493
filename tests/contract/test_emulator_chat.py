"""The provider's stand-in over real sockets, with a bare HTTP client and the openai SDK."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest

from tests.unit.emulator.making import ADD, CLASSIC, NEW, REASONING, WEATHER, chat
from tests.waiting import eventually_async
from workers.emulator import EmulatorConfig, Reply, Rule, Running, Scene, ScriptedCall, serve

KEY = {"authorization": "Bearer fw_anything"}
Serve = Callable[..., Awaitable[Running]]


@pytest.fixture
async def emulators() -> AsyncIterator[Serve]:
    """Starts servers that are closed at the end."""
    started: list[Running] = []

    async def start(*rules: Rule, **config: Any) -> Running:
        scene = {"scene": Scene(rules=rules)} if rules else {}
        started.append(await serve(EmulatorConfig(**scene, **config)))
        return started[-1]

    yield start
    for running in started:
        await running.close()


@pytest.fixture
async def emulator(emulators: Serve) -> Running:
    """A server with its defaults."""
    return await emulators()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A bare client."""
    async with aiohttp.ClientSession(headers=KEY) as session:
        yield session


@asynccontextmanager
async def sdk(running: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    """The openai SDK, without retries of its own."""
    async with openai.AsyncOpenAI(base_url=running.inference_url, api_key="fw_anything", max_retries=0) as client:
        yield client


def _url(running: Running) -> str:
    return f"{running.inference_url}/chat/completions"


async def _events(response: aiohttp.ClientResponse) -> list[Any]:
    """The data of a stream's events, [DONE] as a string."""
    data = [line[6:] for line in (await response.text()).splitlines() if line.startswith("data: ")]
    return [text if text == "[DONE]" else json.loads(text) for text in data]


async def _stream(running: Running, http: aiohttp.ClientSession, body: dict[str, Any], faults: str = "") -> list[Any]:
    async with http.post(_url(running), json=body | {"stream": True}, headers={"x-emulator-fault": faults}) as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream"
        return await _events(response)


async def _post(
    running: Running, http: aiohttp.ClientSession, body: Any, **headers: str
) -> tuple[int, Any, "aiohttp.typedefs.LooseHeaders"]:
    async with http.post(
        _url(running), json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    ) as response:
        return response.status, await response.json(content_type=None), response.headers


@pytest.mark.requirement("EMU-01")
@pytest.mark.parametrize("prefix", ["/inference/v1", "/v1"])
async def test_both_prefixes_serve_chat_and_models(emulator: Running, http: aiohttp.ClientSession, prefix: str) -> None:
    async with http.post(f"{emulator.url}{prefix}/chat/completions", json=chat()) as response:
        assert (await response.json())["object"] == "chat.completion"
    async with http.get(f"{emulator.url}{prefix}/models") as response:
        models = (await response.json())["data"]
    assert CLASSIC in {model["id"] for model in models}
    assert all(model["supports_chat"] and model["context_length"] for model in models)


@pytest.mark.requirement("EMU-01")
async def test_a_plain_answer_has_usage_and_performance(emulator: Running, http: aiohttp.ClientSession) -> None:
    status, body, headers = await _post(emulator, http, chat(temperature=0.5, perf_metrics_in_response=True))
    assert status == 200
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert headers["fireworks-prompt-tokens"] == str(body["usage"]["prompt_tokens"])
    assert float(headers["fireworks-server-processing-time"]) >= float(headers["fireworks-server-time-to-first-token"])
    assert json.loads(headers["fireworks-sampling-options"])["temperature"] == 0.5
    assert headers["x-ratelimit-over-limit"] == "no"
    assert body["perf_metrics"]["prompt-tokens"] == headers["fireworks-prompt-tokens"]


@pytest.mark.requirement("EMU-01")
async def test_request_ids_are_echoed_or_made(emulator: Running, http: aiohttp.ClientSession) -> None:
    assert (await _post(emulator, http, chat(), x_request_id="mine-1"))[2]["x-request-id"] == "mine-1"
    made = {(await _post(emulator, http, chat()))[2]["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    assert (await _post(emulator, http, {}, x_request_id="mine-2"))[2]["x-request-id"] == "mine-2"


@pytest.mark.requirement("EMU-01")
@pytest.mark.parametrize(
    ("header", "status", "message"),
    [
        ({}, 401, "missing"),
        ({"authorization": "Bearer "}, 401, "missing"),
        ({"authorization": "Bearer sk-other"}, 403, "The API key you provided is invalid."),
        ({"authorization": "Bearer fw_known"}, 200, ""),
        ({"authorization": "Bearer fw_unknown"}, 403, "The API key you provided is invalid."),
        ({"x-api-key": "fw_known"}, 200, ""),
    ],
)
async def test_keys_are_checked(emulators: Serve, header: dict[str, str], status: int, message: str) -> None:
    running = await emulators(accepted_keys=frozenset({"fw_known"}))
    async with aiohttp.ClientSession(headers=header) as http, http.get(f"{running.inference_url}/models") as response:
        body = await response.json()
        assert response.status == status
    if status != 200:
        assert body["error"]["code"] == "UNAUTHORIZED"
        assert body["error"]["type"] == "error"
        assert message in body["error"]["message"]
        assert body["request_id"] == response.headers["x-request-id"]


@pytest.mark.requirement("EMU-01")
async def test_refusals_travel_with_their_status_and_shape(emulator: Running, http: aiohttp.ClientSession) -> None:
    status, body, _ = await _post(emulator, http, chat(max_tokens=9999))
    assert (status, body["error"]["param"]) == (400, "max_tokens")
    status, body, _ = await _post(emulator, http, chat(foo=1))
    assert (status, body["error"]["message"]) == (400, "Extra inputs are not permitted, field: 'foo', value: 1")
    status, body, _ = await _post(emulator, http, chat(model="nothing"))
    assert (status, body["error"]["object"]) == (404, "error")
    async with http.post(_url(emulator), data=b'{"model": "x", \xff') as response:
        assert (response.status, (await response.json())["error"]["object"]) == (400, "error")


@pytest.mark.requirement("EMU-01")
async def test_wrong_paths_methods_and_sizes_are_refused(emulators: Serve, http: aiohttp.ClientSession) -> None:
    running = await emulators(max_body_bytes=2048)
    async with http.get(_url(running)) as response:
        assert (response.status, response.content_type) == (405, "text/html")
    async with http.get(f"{running.url}/v1/nothing") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "NOT_FOUND")
    async with http.post(_url(running), json=chat("x" * 4096)) as response:
        assert (response.status, response.content_type) == (413, "text/html")


@pytest.mark.requirement("EMU-01")
@pytest.mark.parametrize(("model", "place"), [(CLASSIC, "with the finish"), (NEW, "alone")])
async def test_both_usage_styles_are_streamed(
    emulator: Running, http: aiohttp.ClientSession, model: str, place: str
) -> None:
    *chunks, done = await _stream(emulator, http, chat(model=model, stream_options={"include_usage": True}))
    assert done == "[DONE]"
    assert [bool(chunk["choices"]) for chunk in chunks if chunk.get("usage")] == [place == "with the finish"]
    plain = (await _post(emulator, http, chat(model=model)))[1]
    assert (
        "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
        == plain["choices"][0]["message"]["content"]
    )


@pytest.mark.requirement("EMU-01")
async def test_tokens_arrive_as_they_are_made(emulator: Running, http: aiohttp.ClientSession) -> None:
    """The stream stalls after two tokens, and those two are there to be read."""
    faults = {"x-emulator-fault": "stall_after=2"}
    async with http.post(_url(emulator), json=chat(stream=True), headers=faults) as response:
        read = b""
        while read.count(b'"content"') < 2:
            read += await response.content.readany()
        assert read.count(b"data: ") == 3
        assert emulator.stats.active == 1


@pytest.mark.requirement("EMU-01")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_generation(emulators: Serve, stream: bool) -> None:
    running = await emulators(pace=20.0)
    body = chat(stream=stream, ignore_eos=True, max_tokens=4000)

    async def counts() -> bool:
        return running.stats.active == 1

    async def ended() -> bool:
        return running.stats.active == 0

    async with aiohttp.ClientSession(headers=KEY) as http:
        asked = asyncio.ensure_future(http.post(_url(running), json=body))
        await eventually_async(counts)
        if stream:
            await (await asked).content.readany()
            (await asked).close()
        else:
            asked.cancel()
        await eventually_async(ended)
    assert running.stats.disconnected == 1
    assert running.stats.completed == 0
    assert running.stats.tokens_sent < 4000


@pytest.mark.requirement("EMU-01")
async def test_closing_cuts_what_is_in_flight(http: aiohttp.ClientSession) -> None:
    running = await serve()
    faults = {"x-emulator-fault": "stall_after=1"}
    async with http.post(_url(running), json=chat(stream=True), headers=faults) as response:
        await response.content.readany()
        await running.close()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert (running.stats.aborted, running.stats.disconnected) == (1, 0)


async def test_stats_are_served_and_reset(emulator: Running, http: aiohttp.ClientSession) -> None:
    await _stream(emulator, http, chat())
    await _post(emulator, http, {})
    async with aiohttp.ClientSession() as anyone:
        async with anyone.get(f"{emulator.url}/_emulator/stats") as response:
            stats = await response.json()
        async with anyone.post(f"{emulator.url}/_emulator/reset") as response:
            assert (await response.json())["requests"] == 0
    assert (stats["requests"], stats["completed"], stats["refused"], stats["active"]) == (2, 1, 1, 0)
    assert stats["by_status"] == {"200": 1, "400": 1}
    assert stats["tokens_sent"] > 0


@pytest.mark.requirement("EMU-06")
async def test_two_servers_with_one_seed_give_one_run(emulators: Serve, http: aiohttp.ClientSession) -> None:
    first, second, other = await emulators(seed=3), await emulators(seed=3), await emulators(seed=4)
    answers = [(await _post(running, http, chat()))[1] | {"created": 0} for running in (first, second, other)]
    assert answers[0] == answers[1]
    assert answers[0]["choices"] != answers[2]["choices"]


@pytest.mark.requirement("EMU-06")
async def test_a_scene_fails_twice_then_calls_a_tool_then_answers(
    emulators: Serve, http: aiohttp.ClientSession
) -> None:
    call = ScriptedCall(name="get_weather", arguments={"city": "Oslo"})
    running = await emulators(
        Rule(faults=("429=0.5",), times=2),
        Rule(when={"tool_results": 0}, reply=Reply(tool_calls=(call,))),
        Rule(reply=Reply(text="It is {tool_result:0}.")),
    )
    body = chat(tools=[WEATHER])
    for _ in range(2):
        status, error, headers = await _post(running, http, body)
        assert (status, headers["retry-after"]) == (429, "0.5")
        assert error["error"]["message"] == "rate limit exceeded, please try again later"
    message = (await _post(running, http, body))[1]["choices"][0]["message"]
    body["messages"] += [
        {
            "role": "assistant",
            "tool_calls": [{key: call[key] for key in ("id", "type", "function")} for call in message["tool_calls"]],
        },
        {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "mild"},
    ]
    assert (await _post(running, http, body))[1]["choices"][0]["message"]["content"] == "It is mild."


@pytest.mark.requirement("EMU-01", "EMU-05")
async def test_the_openai_sdk_chats(emulator: Running) -> None:
    async with sdk(emulator) as client:
        assert CLASSIC in [model.id async for model in client.models.list()]
        answer = await client.chat.completions.create(**chat(model=REASONING))
        assert answer.choices[0].message.content
        assert answer.choices[0].message.model_extra
        assert answer.choices[0].message.model_extra["reasoning_content"]
        assert answer.usage
        assert answer.usage.completion_tokens_details
        assert answer.usage.completion_tokens_details.reasoning_tokens


@pytest.mark.requirement("EMU-01", "EMU-05")
@pytest.mark.parametrize("model", [CLASSIC, NEW])
@pytest.mark.parametrize("faults", ["", "interleave", "comments", "crlf,split_utf8"])
async def test_the_openai_sdk_assembles_streamed_calls(emulator: Running, model: str, faults: str) -> None:
    body = chat("add 2 and 3 and the weather in Oslo", model=model, tools=[WEATHER, ADD])
    async with sdk(emulator) as client:
        extra = {"x-emulator-fault": faults}
        options = {"include_usage": True}
        async with client.chat.completions.stream(**body, stream_options=options, extra_headers=extra) as stream:
            answer = await stream.get_final_completion()
    calls = {
        call.function.name: json.loads(call.function.arguments) for call in answer.choices[0].message.tool_calls or []
    }
    assert calls == {"get_weather": {"city": "Oslo"}, "add": {"a": 2, "b": 3}}
    assert answer.usage
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.requirement("EMU-01", "EMU-05")
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("400", openai.BadRequestError),
        ("401", openai.AuthenticationError),
        ("403", openai.PermissionDeniedError),
        ("404", openai.NotFoundError),
        ("429", openai.RateLimitError),
        ("503scaling", openai.InternalServerError),
        ("520", openai.InternalServerError),
    ],
)
async def test_the_openai_sdk_knows_the_errors(
    emulator: Running, fault: str, error: type[openai.APIStatusError]
) -> None:
    async with sdk(emulator) as client:
        with pytest.raises(error) as raised:
            await client.chat.completions.create(**chat(), extra_headers={"x-emulator-fault": fault})
    assert raised.value.status_code == int(fault[:3])
    assert raised.value.request_id


@pytest.mark.requirement("EMU-03")
async def test_a_schema_is_obeyed_on_a_stream(emulator: Running, http: aiohttp.ClientSession) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    body = chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    *chunks, _ = await _stream(emulator, http, body)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert isinstance(json.loads(text)["ok"], bool)


@pytest.mark.requirement("OPS-08")
async def test_probes_are_answered_without_a_key(emulator: Running) -> None:
    async with aiohttp.ClientSession() as anyone:
        for path in ("/live", "/ready"):
            async with anyone.get(f"{emulator.url}{path}") as response:
                assert (response.status, await response.json()) == (200, {"ok": True})


async def test_the_program_says_where_it_listens_and_stops_when_told() -> None:
    program = "from workers.emulator import EmulatorConfig, run; run(EmulatorConfig(), '127.0.0.1', 0)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    line = (await process.stdout.readline()).decode()
    try:
        assert line.startswith("emulator listening on http://127.0.0.1:")
        url = line.split()[-1]
        async with aiohttp.ClientSession(headers=KEY) as http, http.get(f"{url}/v1/models") as response:
            assert response.status == 200
    finally:
        os.kill(process.pid, signal.SIGTERM)
        assert await process.wait() == 0
