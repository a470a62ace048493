"""Durable conversations: how a chat takes part in one, the settings that last there, and what a reader sees of it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from api_contracts.failure import Failure
from api_contracts.messages import ToolName
from api_contracts.runs import EventData
from api_contracts.sampling import Sampling
from api_contracts.tools import ToolSpec

ConversationId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._:-]{0,198}[0-9A-Za-z]$")]
"""2 to 200 letters, digits and . _ : - , a letter or digit at both ends. Each tenant has names of its own."""

_OF_A_REQUEST: Final = ("tool_choice", "n", "response_format", "echo", "echo_last", "prediction", "speculation")
_BY_NAME: Final = frozenset({"additions", "tools"})
_LONGEST_TEXT: Final = 200_000


class Summaries(BaseModel):
    """When a conversation is summarised by itself, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_tokens: int | None = Field(default=8000, ge=100)
    """Tokens of the whole context, counted by the model with the last turn, from which the next turn summarises first;
    None: only on request."""
    keep: int = Field(default=4, ge=0, le=1000)
    """Newest messages that stay as they are; more where a call would be parted from its result."""
    target_tokens: int = Field(default=2000, ge=50, le=100_000)
    """Bound of the summary itself; at most 80 % of `at_tokens`."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """What writes summaries; None: the turn's model."""
    instructions: Annotated[str, StringConstraints(max_length=8192)] | None = None
    """What the summary must hold, instead of the usual words."""


class ChatSettings(Sampling):
    """What holds for every turn of a conversation, or every further answer of a run, unless the request says otherwise.

    A change names only what changes: null takes a setting back, `additions` and `tools` are changed one by one.
    """

    model: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    system: Annotated[str, StringConstraints(max_length=_LONGEST_TEXT)] | None = None
    """The system prompt's base."""
    additions: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=128)],
        Annotated[str, StringConstraints(max_length=_LONGEST_TEXT)] | None,
    ] = Field(default_factory=dict, max_length=64)
    """Texts after the base, by name, in the order in which they were added."""
    developer_as: Literal["system", "user"] | None = None
    """As which role messages of role `developer` go to the provider, which may not know that one (WIRE 1.3); None:
    `system`. They are kept as they were given."""
    summaries: Summaries | None = None
    tools: dict[ToolName, ToolSpec | bool | None] = Field(default_factory=dict, max_length=128)
    """Tools beside those of the request, by name: what it is, or true for one that is registered in the workers; false
    takes a tool away, also one of the request. The model is told of each change, and a call to a tool that is not there
    any more is answered as not available."""
    offered: list[ToolName] | None = None
    """Kept by the workers: the tools of the last turn, so that the next one tells the model what changed."""

    @model_validator(mode="after")
    def _lasts(self) -> "ChatSettings":
        if never := [name for name in _OF_A_REQUEST if getattr(self, name) is not None]:
            raise ValueError(f"{', '.join(never)}: such a thing belongs to a single request")
        if wrong := [name for name, tool in self.tools.items() if isinstance(tool, ToolSpec) and tool.name != name]:
            raise ValueError(f"tools: {wrong[0]!r} has another name")
        return self


def changed_settings(settings: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings after a change. Raises ValueError for one that is none, or that does not go with them."""
    after = {**settings, **{name: value for name, value in change.items() if name not in _BY_NAME}}
    for each in _BY_NAME & change.keys():
        if not isinstance(change[each], Mapping):
            raise ValueError(f"{each}: give a JSON object, a value or null for each name")
        named = {**settings.get(each, {}), **change[each]}
        after[each] = {name: value for name, value in named.items() if value is not None}
    after = {name: value for name, value in after.items() if value is not None and value != {}}
    try:
        ChatSettings.model_validate(after)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        where = f"{found['loc'][0]}: "[:80] if found["loc"] else ""
        raise ValueError(f"{where}{found['msg'].removeprefix('Value error, ')}"[:300]) from None
    return after


class InConversation(BaseModel):
    """How a chat takes part in a conversation. Just the id is enough: `"conversation": "order-17"`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: ConversationId
    version: int | None = Field(default=None, ge=0)
    """The version that the turn must find (0: none yet); at another one the run fails with `conversation_conflict`, and
    nothing is changed. None: whichever is the newest."""
    replace: bool = False
    """The request's messages take the place of all that there are, instead of following them."""
    wait: bool = True
    """While another run has its turn, wait for it (parked, if that takes long); else fail with `conversation_busy`."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """A change of the conversation's settings (`ChatSettings`), for this turn and those after it."""
    summarise: bool = False
    """Summarise first, however long the conversation is."""

    @model_validator(mode="after")
    def _changes_settings(self) -> "InConversation":
        if self.replace and self.summarise:
            raise ValueError("'replace' goes without 'summarise': what would be summarised is replaced")
        changed_settings({}, self.settings)
        return self


def _by_id(given: Any) -> Any:
    return {"id": given} if isinstance(given, str) else given


TakesPart = Annotated[InConversation, BeforeValidator(_by_id, json_schema_input_type=str | InConversation)]


class Conversation(BaseModel):
    """The newest version of a conversation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant: str
    version: int
    messages: list[dict[str, Any]]
    settings: dict[str, Any]
    settings_version: int
    tokens: int | None = None
    """What the model counted of it with the last turn: system prompt and tools are in it. None: nobody counted yet."""


class ChatOpened(EventData):
    """The conversation is the run's until its end. It goes on from `version`, which had so many messages.

    Told again when the version is another one: nothing was asked of the former.
    """

    TYPE = "chat.opened"
    conversation: str
    version: int
    messages: int
    settings_version: int


class ChatSettingsChanged(EventData):
    """Settings change from the next answer on: `changed` names what, null takes a setting back."""

    TYPE = "chat.settings"
    changed: dict[str, Any]
    inbox: str | None = None
    by: str | None = None


class ChatToolsChanged(EventData):
    """The tools that the model may call are others than when it was asked last, or than those of the request."""

    TYPE = "chat.tools"
    tools: list[str]
    """All of them, from the next answer on."""
    message: dict[str, Any] | None = None
    """What tells the model so, in the provider's form; None where it was asked nothing yet."""
    first: bool | None = None
    """True: the message stands before those of the request, for it is about what changed since the last turn."""


class ChatSummarised(EventData):
    """The conversation was summarised: `version` has `messages`, the one before had `messages_before`.

    `failure`: it was not, and goes on as it is.
    """

    TYPE = "chat.summarised"
    version: int
    messages: int
    messages_before: int
    tokens_before: int | None = None
    summary_tokens: int | None = None
    asked_for: bool = False
    failure: Failure | None = None
