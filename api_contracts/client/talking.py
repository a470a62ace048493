"""`client.conversations`: what there is of a conversation, and how it is changed beside its turns.

client.chat.complete(conversation="order-17", messages=[...])          # a turn
client.conversations.append("order-17", [{"role": "user", "content": "By the way: ..."}])
client.conversations.transform("order-17", lambda messages: messages[-10:])

Every change is a run of its own that asks no model (`answer` true: it does), so it is made once, in its turn, and any
producer can do the same by a message. Reading needs the client's `database_url`; nothing here writes to SQL.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from api_contracts.chat import ChatResult
from api_contracts.conversations import Conversation
from api_contracts.failure import ConversationConflict, RunFailed

if TYPE_CHECKING:
    from api_contracts.client.aio import AsyncClient
    from api_contracts.client.sync import Client

Messages = Sequence[Mapping[str, Any]]
Transform = Callable[[list[dict[str, Any]]], Messages]

MOST_TRIES: Final = 16
"""Of `transform`, each of which found the conversation changed by somebody else."""

_CONFLICT: Final = "conversation_conflict"


class Conversations:
    """In the face for ordinary Python. Raises `ConversationConflict` where the conversation is not at `version`, and
    `RunFailed` for whatever else a change came to."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def read(self, conversation: str, *, tenant: str | None = None) -> Conversation | None:
        """Return the newest version, None when there is none. Raises ResultsUnavailable."""
        return self._client._rows().conversation(_tenant(self._client, tenant), conversation)  # noqa: SLF001

    def append(self, conversation: str, messages: Messages, *, version: int | None = None, **fields: Any) -> ChatResult:
        """Add messages. `version`: only if the conversation is at it. Further fields are the request's."""
        return self._change({"id": conversation, "version": version}, messages, fields)

    def update(self, conversation: str, messages: Messages, *, version: int | None = None, **fields: Any) -> ChatResult:
        """Put messages in the place of all that there are."""
        return self._change({"id": conversation, "version": version, "replace": True}, messages, fields)

    def transform(self, conversation: str, change: Transform, **fields: Any) -> ChatResult:
        """Put what `change` makes of the messages in their place: of the newest ones, however often that takes."""
        for left in reversed(range(MOST_TRIES)):
            found = self.read(conversation, tenant=fields.get("tenant"))
            version, messages = (found.version, found.messages) if found else (0, [])
            try:
                return self.update(conversation, change(messages), version=version, **fields)
            except ConversationConflict:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def configure(
        self, conversation: str, settings: Mapping[str, Any], *, version: int | None = None, **fields: Any
    ) -> ChatResult:
        """Change settings (`ChatSettings`): what is named changes, null takes a setting back."""
        return self._change({"id": conversation, "version": version, "settings": dict(settings)}, (), fields)

    def summarise(self, conversation: str, *, version: int | None = None, **fields: Any) -> ChatResult:
        """Have it summarised now, however long it is."""
        return self._change({"id": conversation, "version": version, "summarise": True}, (), fields)

    def _change(self, part: Mapping[str, Any], messages: Messages, fields: Mapping[str, Any]) -> ChatResult:
        return _made(str(part["id"]), self._client.chat.complete(**_request(part, messages, fields)))


class AsyncConversations:
    """`Conversations`, awaited."""

    def __init__(self, client: "AsyncClient") -> None:
        self._client = client

    async def read(self, conversation: str, *, tenant: str | None = None) -> Conversation | None:
        """See `Conversations.read`."""
        return await self._client._rows().aconversation(_tenant(self._client, tenant), conversation)  # noqa: SLF001

    async def append(
        self, conversation: str, messages: Messages, *, version: int | None = None, **fields: Any
    ) -> ChatResult:
        """See `Conversations.append`."""
        return await self._change({"id": conversation, "version": version}, messages, fields)

    async def update(
        self, conversation: str, messages: Messages, *, version: int | None = None, **fields: Any
    ) -> ChatResult:
        """See `Conversations.update`."""
        return await self._change({"id": conversation, "version": version, "replace": True}, messages, fields)

    async def transform(self, conversation: str, change: Transform, **fields: Any) -> ChatResult:
        """See `Conversations.transform`."""
        for left in reversed(range(MOST_TRIES)):
            found = await self.read(conversation, tenant=fields.get("tenant"))
            version, messages = (found.version, found.messages) if found else (0, [])
            try:
                return await self.update(conversation, change(messages), version=version, **fields)
            except ConversationConflict:
                if not left:
                    raise
        raise AssertionError("unreachable")

    async def configure(
        self, conversation: str, settings: Mapping[str, Any], *, version: int | None = None, **fields: Any
    ) -> ChatResult:
        """See `Conversations.configure`."""
        return await self._change({"id": conversation, "version": version, "settings": dict(settings)}, (), fields)

    async def summarise(self, conversation: str, *, version: int | None = None, **fields: Any) -> ChatResult:
        """See `Conversations.summarise`."""
        return await self._change({"id": conversation, "version": version, "summarise": True}, (), fields)

    async def _change(self, part: Mapping[str, Any], messages: Messages, fields: Mapping[str, Any]) -> ChatResult:
        return _made(str(part["id"]), await self._client.chat.complete(**_request(part, messages, fields)))


def _tenant(client: "Client | AsyncClient", tenant: str | None) -> str:
    return client.settings.tenant if tenant is None else tenant


def _request(part: Mapping[str, Any], messages: Messages, fields: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in part.items() if value is not None}
    return {"answer": False, **fields, "conversation": given, "messages": [dict(message) for message in messages]}


def _made(conversation: str, result: ChatResult) -> ChatResult:
    if result.failure is None:
        return result
    if result.failure.code == _CONFLICT:
        raise ConversationConflict(conversation)
    raise RunFailed(result.failure)
