"""The facts of a request that scenes match on and the sampler answers to. Pure; knows nothing of HTTP."""

from dataclasses import dataclass
from typing import Literal

from workers.emulator.schema import ChatBody, ChatMessage, Tool, ToolChoice


@dataclass(frozen=True)
class ToolResult:
    """A tool's answer since the user last spoke; `name` is empty if no call in the history has its id."""

    name: str
    text: str


@dataclass(frozen=True)
class Dialogue:
    """One request as a conversation. `forced` names the tools of which one must be called; empty means none must."""

    model: str
    user: str
    system: str
    results: tuple[ToolResult, ...]
    tools: tuple[Tool, ...]
    forced: tuple[Tool, ...]
    may_call: bool
    parallel: bool
    form: Literal["text", "json_object", "json_schema", "grammar"]
    stream: bool

    @property
    def free_form(self) -> bool:
        """Whether plain text is an acceptable answer."""
        return self.form == "text" and not self.forced


def read_dialogue(body: ChatBody) -> Dialogue:
    """The facts of a request that `validation` has passed."""
    tools = tuple(body.tools or ())
    last = max((i for i, message in enumerate(body.messages) if message.role == "user"), default=-1)
    return Dialogue(
        model=body.model,
        user=body.messages[last].text if last >= 0 else "",
        system="\n".join(message.text for message in body.messages if message.role == "system"),
        results=_results(body.messages, last),
        tools=tools,
        forced=_forced(body, tools),
        may_call=bool(tools) and body.tool_choice != "none",
        parallel=body.parallel_tool_calls is not False,
        form=body.response_format.type if body.response_format else "text",
        stream=bool(body.stream),
    )


def _results(messages: list[ChatMessage], last_user: int) -> tuple[ToolResult, ...]:
    names = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    recent = (message for message in messages[last_user + 1 :] if message.role == "tool")
    return tuple(ToolResult(names.get(message.tool_call_id, ""), message.text) for message in recent)


def _forced(body: ChatBody, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    choice = body.tool_choice
    if isinstance(choice, ToolChoice):
        return tuple(tool for tool in tools if tool.function.name == choice.tool)
    return tools if choice in ("any", "required") else ()
