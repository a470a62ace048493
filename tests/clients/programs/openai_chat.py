"""The openai SDK, unchanged but for its base URL: `openai_chat.py URL`."""

import asyncio
import json
import sys

import openai
from saying import MODEL, NEW, PERSON, QUESTION, TOOL, WEATHER, passed, with_result

BASE = f"{sys.argv[1]}/inference/v1"
client = openai.OpenAI(base_url=BASE, api_key="fw_anything", max_retries=0)


def plain() -> None:
    said = client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert said.choices[0].message.content
    assert said.choices[0].finish_reason == "stop"
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens


def stream() -> None:
    plain = client.chat.completions.create(model=NEW, messages=QUESTION).choices[0].message.content
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=NEW, messages=QUESTION, stream=True, stream_options=options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == plain
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens


def tools() -> None:
    asked = {"model": MODEL, "tools": [TOOL]}
    said = client.chat.completions.create(**asked, messages=WEATHER, tool_choice="required").choices[0]
    assert said.finish_reason == "tool_calls"
    (call,) = said.message.tool_calls
    assert json.loads(call.function.arguments)["city"]
    after = with_result(call.id, call.function.name, call.function.arguments)
    assert client.chat.completions.create(**asked, messages=after).choices[0].message.content


def streamed_tools() -> None:
    asked = {"model": MODEL, "tools": [TOOL], "tool_choice": "required", "messages": WEATHER}
    with client.chat.completions.stream(**asked) as events:
        said = events.get_final_completion().choices[0]
    assert json.loads(said.message.tool_calls[0].function.arguments)["city"]


def several() -> None:
    said = client.chat.completions.create(model=MODEL, messages=QUESTION, n=2, logprobs=True, top_logprobs=1)
    assert len({choice.message.content for choice in said.choices}) == 2
    for choice in said.choices:
        assert "".join(token.token for token in choice.logprobs.content) == choice.message.content


def schema() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    said = client.chat.completions.create(model=MODEL, messages=QUESTION, response_format=form)
    assert set(json.loads(said.choices[0].message.content)) == {"name", "age"}


def errors() -> None:
    for key, model, expected in (
        ("wrong", MODEL, openai.PermissionDeniedError),
        ("fw_anything", "no-such-model", openai.NotFoundError),
    ):
        other = openai.OpenAI(base_url=BASE, api_key=key, max_retries=0)
        try:
            other.chat.completions.create(model=model, messages=QUESTION)
        except expected as exc:
            assert exc.message  # noqa: PT017 - there is no pytest in this environment
        else:
            raise AssertionError(expected)


def models() -> None:
    assert MODEL in {model.id for model in client.models.list()}


async def asynchronous() -> None:
    async with openai.AsyncOpenAI(base_url=BASE, api_key="fw_anything") as other:
        stream = await other.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"


CHECKS = (plain, stream, tools, streamed_tools, several, schema, errors, models)
for check in CHECKS:
    check()
asyncio.run(asynchronous())
passed("openai", *(check.__name__ for check in CHECKS), "asynchronous")
