"""Our worker against llama.cpp: a server that we did not write, a model that really generates.

A model of 135 million parameters says little of sense; what is asserted is the protocol.
"""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from api_contracts.chat import ChatResult
from api_contracts.runs import Event
from tests.acceptance.cluster import Cluster
from tests.acceptance.journal import is_right, of_type
from tests.clients.environments import LLAMA
from tests.clients.record import Record

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def played(cluster: Cluster, **fields: Any) -> tuple[list[Event], ChatResult]:
    asked = {
        "model": "accounts/fireworks/models/smollm2",
        "messages": [{"role": "user", "content": "Tell me about the sea."}],
        "max_tokens": 60,
        "seed": 7,
    }
    run_id = cluster.client.chat.submit(asked | fields)
    events = list(cluster.client.follow(run_id, timeout_s=120))
    assert is_right(events)
    return events, cluster.client.chat.result(run_id)


@pytest.fixture(autouse=True)
def _noted(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed == failed:
        Record.known().note(
            "xllamacpp", LLAMA.version("xllamacpp"), "our worker", request.node.name.removeprefix("test_")
        )


def text(result: ChatResult) -> str:
    assert result.failure is None
    assert result.message is not None
    return str(result.message["content"])


@pytest.mark.requirement("CHAT-02", "CHAT-03", "CHAT-05")
def test_text_is_streamed_and_its_tokens_are_told(cluster: Cluster) -> None:
    events, result = played(cluster)
    deltas = [event.data["text"] for event in of_type(events, "chat.delta")]
    assert len(deltas) > 1
    assert "".join(deltas) == text(result)
    assert result.finish_reason in ("stop", "length")
    assert not result.usage.estimated
    assert 0 < result.usage.completion_tokens <= 60
    assert result.usage.prompt_tokens > 5


@pytest.mark.requirement("CHAT-07")
def test_an_answer_under_a_schema_is_of_that_schema(cluster: Cluster) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    _, result = played(cluster, response_format=form, max_tokens=200)
    jsonschema.validate(json.loads(text(result)), PERSON)


@pytest.mark.requirement("CHAT-07", "CHAT-01")
def test_an_answer_under_a_grammar_is_of_its_language(cluster: Cluster) -> None:
    """llama.cpp takes a grammar as a field of the body; Fireworks' form of it, it refuses."""
    _, result = played(cluster, extra={"grammar": 'root ::= "the sea is " ("blue" | "grey") "."'})
    assert text(result) in ("the sea is blue.", "the sea is grey.")


@pytest.mark.requirement("CHAT-22")
def test_logprobs_and_several_answers_come_back(cluster: Cluster) -> None:
    _, result = played(cluster, logprobs=True, top_logprobs=2, max_tokens=8)
    tokens = result.details["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == text(result)
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    _, result = played(cluster, n=2, max_tokens=8, temperature=1.5)
    assert len(result.choices) == 1


@pytest.mark.requirement("CHAT-09")
def test_a_refusal_of_its_own_shape_is_understood(cluster: Cluster) -> None:
    _, result = played(cluster, extra={"grammar": "root := ("})
    assert result.failure is not None
    assert (result.failure.category, result.failure.provider_status) == ("bad_request", 400)
