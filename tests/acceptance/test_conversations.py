"""Conversations with real workers: turns, changes by both faces of the client, settings, two turns at once."""

from typing import Any

import pytest

from api_contracts.client import AsyncClient
from api_contracts.failure import ConversationConflict
from tests.acceptance.cluster import Cluster, say

pytestmark = pytest.mark.requirement("CHAT-15")


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def texts(cluster: Cluster, name: str) -> list[str]:
    found = cluster.client.conversations.read(name)
    return [str(message["content"]) for message in found.messages] if found else []


def test_turns_and_changes_of_a_conversation(cluster: Cluster, name: str) -> None:
    talks, chat = cluster.client.conversations, cluster.client.chat
    assert talks.read(name) is None
    assert chat.complete(say("echo one", conversation=name)).conversation_version == 1
    assert talks.append(name, [user("by the way")], version=1).conversation_version == 2
    with pytest.raises(ConversationConflict):
        talks.append(name, [user("too late")], version=1)
    talks.configure(name, {"system": "Be brief."})
    asked = chat.complete(say("echo two", conversation=name))
    assert (asked.conversation_version, asked.settings_version) == (4, 2)
    assert texts(cluster, name) == ["echo one", "one", "by the way", "echo two", "two"]
    found = talks.read(name)
    assert found is not None
    assert (found.version, found.settings, found.settings_version) == (4, {"system": "Be brief."}, 2)
    assert found.tokens is not None
    assert asked.usage.prompt_tokens + asked.usage.completion_tokens == found.tokens
    talks.update(name, [user("all new")])
    assert texts(cluster, name) == ["all new"]


def test_a_transform_is_made_of_the_newest_messages_whoever_came_between(cluster: Cluster, name: str) -> None:
    talks, seen = cluster.client.conversations, []
    talks.append(name, [user("a")])

    def shouted(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        seen.append(len(messages))
        if len(seen) == 1:
            talks.append(name, [user("b")])
        return [message | {"content": message["content"].upper()} for message in messages]

    talks.transform(name, shouted)
    assert (texts(cluster, name), seen) == (["A", "B"], [1, 2])


def test_two_turns_at_once_follow_each_other(cluster: Cluster, name: str) -> None:
    chat = cluster.client.chat
    runs = [chat.submit(say(f"short {number}", conversation=name)) for number in range(2)]
    assert sorted(chat.result(each, timeout_s=60).conversation_version or 0 for each in runs) == [1, 2]
    found = texts(cluster, name)
    assert [text[:5] for text in found] == ["short", "one t", "short", "one t"]


async def test_the_face_for_asyncio_does_the_same(cluster: Cluster, name: str) -> None:
    async with AsyncClient(cluster.client.settings) as client:
        await client.conversations.append(name, [user("a")])
        await client.conversations.configure(name, {"top_p": 0.5}, version=1)
        await client.conversations.transform(name, lambda messages: [*messages, user("b")])
        with pytest.raises(ConversationConflict):
            await client.conversations.update(name, [], version=1)
        found = await client.conversations.read(name)
    assert found is not None
    assert (found.version, found.messages, found.settings) == (3, [user("a"), user("b")], {"top_p": 0.5})
