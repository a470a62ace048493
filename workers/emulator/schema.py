"""The closed request schema of chat completions (WIRE 1.1 to 1.4): which keys exist, their types and ranges.

Class names matter: pydantic spells a union's branch into the path of an error, and the provider does the same
(`messages[0].content.list[ChatMessageContent][1].key`, WIRE 1.7 R4). Knows nothing of models, limits or refusals.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Unit = Annotated[float, Field(ge=0, le=1)]
ZeroToTwo = Annotated[float, Field(ge=0, le=2)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
UpToFive = Annotated[int, Field(ge=0, le=5)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Positive = Annotated[int, Field(ge=1)]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Closed(BaseModel):
    """No unknown keys and no coercion: the number "1" is not 1."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ImageUrl(Closed):
    """A picture: http(s) or data URL."""

    url: Annotated[str, Field(pattern=r"^(https?://|data:)")]
    detail: str | None = None


class VideoUrl(ImageUrl):
    """A video with its sampling."""

    max_frames: int | None = None
    spatial_limit: int | None = None
    sample_fps: float | None = None


class AudioUrl(Closed):
    """A sound, for omni models."""

    url: str


class ChatMessageContent(Closed):
    """One part of a message. That the member named by `type` is there, `validation` checks: a validator here would
    change the class's name in the path of an error."""

    type: Literal["text", "image_url", "video_url", "audio_url"]
    text: str | None = None
    image_url: ImageUrl | None = None
    video_url: VideoUrl | None = None
    audio_url: AudioUrl | None = None


class FunctionCall(Closed):
    """A call that an assistant message made. Requests may hold the arguments as an object."""

    name: str
    arguments: str | dict[str, Any] = ""

    @property
    def text(self) -> str:
        """The arguments as JSON text."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)


class ToolCall(Closed):
    """A tool call in the history; `index` is among the keys that are refused here (WIRE 7.3)."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Closed):
    """One message. There is no `name` field (WIRE 1.3)."""

    role: str
    content: str | list[ChatMessageContent] | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def parts(self) -> list[ChatMessageContent]:
        """The content as parts; plain text has none."""
        return self.content if isinstance(self.content, list) else []

    @property
    def text(self) -> str:
        """All text of the message."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.parts if part.text)


class Function(Closed):
    """A tool's description."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Closed):
    """A tool on offer."""

    type: Literal["function"]
    function: Function


class ChosenFunction(Closed):
    """The name inside a tool choice."""

    name: str


class ToolChoice(Closed):
    """A named tool, in either spelling (WIRE 1.2)."""

    type: Literal["function"]
    name: str | None = None
    function: ChosenFunction | None = None

    @property
    def tool(self) -> str | None:
        """The name of the chosen tool."""
        return self.function.name if self.function else self.name


class Thinking(Closed):
    """Reasoning in the other spelling; exclusive with `reasoning_effort`."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1024)] | None = None


class ResponseFormat(Closed):
    """The form of the answer (WIRE 4.1)."""

    type: Literal["text", "json_object", "json_schema", "grammar"]
    schema_: dict[str, Any] | str | None = Field(default=None, alias="schema")
    json_schema: dict[str, Any] | str | None = None
    grammar: str | None = None


class StreamOptions(Closed):
    """How to stream. `include_usage` false opts out on models that report usage unasked."""

    include_usage: bool | None = None
    buffer_tokens: Positive | None = None
    buffer_ms: float | None = None
    buffer_mode: str | None = None


class Prediction(Closed):
    """A predicted output."""

    type: Literal["content"]
    content: str


class ChatBody(Closed):
    """A chat completion request. Defaults stand for "not given"; the last block is undocumented but accepted live."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    temperature: ZeroToTwo | None = None
    top_p: Unit | None = None
    top_k: Annotated[int, Field(ge=0, le=100)] | None = None
    min_p: Unit | None = None
    typical_p: Unit | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: ZeroToTwo | None = None
    mirostat_target: float | None = None
    mirostat_lr: float | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = None
    logit_bias: dict[str, Bias] | None = None
    logprobs: bool | UpToFive | None = None
    top_logprobs: UpToFive | None = None
    echo: bool | None = None
    echo_last: int | None = None
    ignore_eos: bool | None = None
    context_length_exceeded_behavior: Literal["truncate", "error"] | None = None
    prompt_truncate_len: Positive | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "any", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_isolation_key: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    reasoning_effort: bool | int | str | None = None
    reasoning_history: Literal["disabled", "interleaved", "preserved"] | None = None
    thinking: Thinking | None = None
    speculation: str | list[int] | None = None
    prediction: str | Prediction | None = None
    perf_metrics_in_response: bool | None = None
    raw_output: bool | None = None
    return_token_ids: bool | None = None
    safe_tokenization: bool | None = None

    stream_options: StreamOptions | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    prompt_token_ids: list[int] | None = None
    sampling_mask: Any = None
    include_routing_matrix: bool | None = None
    prompt_cache_max_len: int | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop sequences; an empty one would stop before the first token and is left out."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)
