"""Answers of a form, and questions with pictures, through a real worker and a provider that keeps its promise."""

import json
from typing import Any

import pytest

from api_contracts.chat import ChatResult
from api_contracts.messages import image
from tests.acceptance.cluster import Cluster, say
from tests.acceptance.journal import is_right, types

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


def came_to(cluster: Cluster, run_id: str, request: dict[str, Any]) -> ChatResult:
    cluster.client.chat.submit(request, run_id=run_id)
    assert is_right(list(cluster.client.follow(run_id, timeout_s=60)))
    result = cluster.client.result(run_id)
    assert isinstance(result, ChatResult)
    return result


def answered(cluster: Cluster, run_id: str, request: dict[str, Any]) -> str:
    result = came_to(cluster, run_id, request)
    assert result.failure is None
    assert result.message is not None
    return str(result.message["content"])


@pytest.mark.requirement("CHAT-07")
def test_an_answer_under_a_schema_is_json_of_that_schema(cluster: Cluster, name: str) -> None:
    said = json.loads(answered(cluster, name, say("who?", response_format=SCHEMA)))
    assert set(said) == {"name", "age"}
    assert isinstance(said["age"], int)


@pytest.mark.requirement("CHAT-07")
def test_an_answer_under_a_grammar_is_of_its_language(cluster: Cluster, name: str) -> None:
    grammar = {"type": "grammar", "grammar": 'root ::= "yes" | "no"'}
    assert answered(cluster, name, say("is it?", response_format=grammar)) in ("yes", "no")


@pytest.mark.requirement("CHAT-07", "CHAT-05")
def test_an_answer_that_is_cut_before_it_has_its_form_fails_the_run_and_is_kept(cluster: Cluster, name: str) -> None:
    result = came_to(cluster, name, say("who?", response_format=SCHEMA, max_tokens=2))
    assert result.failure is not None
    assert result.failure.code == "answer_truncated"
    assert result.message is not None
    assert result.message["content"]


@pytest.mark.requirement("CHAT-07", "CHAT-01")
def test_a_grammar_that_is_none_is_refused_without_asking_the_model(cluster: Cluster, name: str) -> None:
    no_grammar = {"type": "grammar", "grammar": "root := yes"}
    result = came_to(cluster, name, say("is it?", response_format=no_grammar))
    assert result.failure is not None
    assert result.failure.code == "bad_request"
    assert "chat.requested" not in types(cluster.client.events(name))


@pytest.mark.requirement("CHAT-08")
def test_pictures_reach_the_provider(cluster: Cluster, name: str) -> None:
    shown = [{"type": "text", "text": "what is it?"}, image(PNG), image("https://example.org/a.png")]
    assert answered(cluster, name, say("") | {"messages": [{"role": "user", "content": shown}]})
