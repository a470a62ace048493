"""The fireworks-ai SDK, unchanged but for its base URL: `fireworks_chat.py URL`."""

import asyncio
import json
import sys

import fireworks
from fireworks import AsyncFireworks, Fireworks
from saying import MODEL, NEW, PERSON, QUESTION, TOOL, WEATHER, passed, with_result

client = Fireworks(api_key="fw_anything", account_id="tests", base_url=sys.argv[1], max_retries=0)


def plain() -> None:
    said = client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert said.choices[0].message.content
    assert said.choices[0].finish_reason == "stop"
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens


def stream() -> None:
    plain = client.chat.completions.create(model=NEW, messages=QUESTION).choices[0].message.content
    chunks = list(client.chat.completions.create(model=NEW, messages=QUESTION, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == plain


def tools() -> None:
    asked = {"model": MODEL, "tools": [TOOL]}
    said = client.chat.completions.create(**asked, messages=WEATHER, tool_choice="required").choices[0]
    assert said.finish_reason == "tool_calls"
    (call,) = said.message.tool_calls
    assert json.loads(call.function.arguments)["city"]
    after = with_result(call.id, call.function.name, call.function.arguments)
    assert client.chat.completions.create(**asked, messages=after).choices[0].message.content


def parameters() -> None:
    said = client.chat.completions.create(
        model=MODEL, messages=QUESTION, n=2, logprobs=True, top_logprobs=1, seed=7, top_k=40, min_p=0.1,
        service_tier="priority", perf_metrics_in_response=True, return_token_ids=True, raw_output=True,
        context_length_exceeded_behavior="error", prediction={"type": "content", "content": "as before"},
    )  # fmt: skip
    for choice in said.choices:
        assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
        assert choice.raw_output.completion == choice.message.content
        assert choice.token_ids
    assert said.perf_metrics


def forms() -> None:
    forms = (
        {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}},
        {"type": "grammar", "grammar": 'root ::= "yes" | "no"'},
    )
    said = [
        client.chat.completions.create(model=MODEL, messages=QUESTION, response_format=form).choices[0].message.content
        for form in forms
    ]
    assert set(json.loads(said[0])) == {"name", "age"}
    assert said[1] in ("yes", "no")


def errors() -> None:
    for key, model, expected in (
        ("wrong", MODEL, fireworks.PermissionDeniedError),
        ("fw_anything", "no-such-model", fireworks.NotFoundError),
    ):
        other = client.with_options(api_key=key)
        try:
            other.chat.completions.create(model=model, messages=QUESTION)
        except expected as exc:
            assert exc.status_code in (403, 404)  # noqa: PT017 - there is no pytest in this environment
        else:
            raise AssertionError(expected)


async def asynchronous() -> None:
    async with AsyncFireworks(api_key="fw_anything", base_url=sys.argv[1]) as other:
        stream = await other.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"


CHECKS = (plain, stream, tools, parameters, forms, errors)
for check in CHECKS:
    check()
asyncio.run(asynchronous())
passed("fireworks-ai", *(check.__name__ for check in CHECKS), "asynchronous")
