"""From the bytes of a chat request to one that can be answered, or the provider's refusal (WIRE 1.7).

The order is the provider's as far as it is known: the gateway's size rule, the closed schema, the model, then what only
both together can tell. Pure.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from workers.core.grammar import Grammar, GrammarError, parse
from workers.emulator import catalogue, errors
from workers.emulator.catalogue import ModelCard
from workers.emulator.config import EmulatorConfig
from workers.emulator.errors import Refused, bad_request
from workers.emulator.json_schema import SchemaRefused, strict_shape
from workers.emulator.schema import ChatBody, ResponseFormat, ToolChoice
from workers.emulator.shapes import Shape
from workers.emulator.tokens import prompt_tokens

NOT_BUILT = (
    "functions",
    "function_call",
    "prompt_token_ids",
    "include_routing_matrix",
)
_MOST_IMAGES = 30
_MOST_BASE64 = 10 * 1024 * 1024
_NAMED_EFFORTS = {True: "medium", False: "none"}


@dataclass(frozen=True)
class Accepted:
    """A request that will be answered. `max_tokens` fits the context; `reasoning_cap` is in tokens; `shape` is what the
    answer must fit, if not just any text or JSON object."""

    raw: dict[str, Any]
    body: ChatBody
    card: ModelCard
    shape: Shape | Grammar | None
    prompt_tokens: int
    max_tokens: int
    effort: str
    reasoning_cap: int | None


def accept(payload: bytes, config: EmulatorConfig, request_id: str) -> Accepted:
    """Check a request. Raises Refused."""
    raw = _parsed(payload)
    _check_size_rule(raw, config, request_id)
    body = _validated({key: value for key, value in raw.items() if key not in config.tolerated_keys}, config)
    card = catalogue.find(config.models, body.model)
    if card is None:
        raise Refused(errors.no_such_model())
    _check_messages(body, config)
    _check_tools(body)
    _check_not_built(body)
    effort, cap = _effort(body, card)
    prompt = prompt_tokens(body)
    allowed = _fit(body, card, prompt, config.default_max_tokens)
    return Accepted(raw, body, card, _shape(body.response_format), prompt, allowed, effort, cap)


def _parsed(payload: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(payload, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"The request body is not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise bad_request("The request body is not a JSON object")
    return raw


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_size_rule(raw: dict[str, Any], config: EmulatorConfig, request_id: str) -> None:
    """R1: long answers must be streamed."""
    limit = config.stream_required_above
    asked = raw.get("max_tokens", raw.get("max_completion_tokens"))
    if limit is not None and isinstance(asked, int) and asked > limit and raw.get("stream") is not True:
        raise errors.stream_required(limit, request_id)


def _validated(raw: dict[str, Any], config: EmulatorConfig) -> ChatBody:
    try:
        return ChatBody.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False)
        if config.validation_status == 422:
            detail = [{**problem, "loc": ["body", *problem["loc"]]} for problem in found]
            raise Refused(errors.e3(detail)) from None
        raise bad_request(_spelled(found)) from None


def _spelled(found: list[ErrorDetails]) -> str:
    """R2 to R4: one problem stands alone, several are counted and joined."""
    texts = [f"{each['msg']}, field: '{_path(each['loc'])}', value: {each['input']!r:.200}" for each in found]
    return texts[0] if len(texts) == 1 else f"{len(texts)} request validation errors: {'; '.join(texts)}"


def _path(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).lstrip(".")


def _check_messages(body: ChatBody, config: EmulatorConfig) -> None:
    for index, message in enumerate(body.messages):
        if message.role not in config.roles:
            raise bad_request(f"Invalid role, field: 'messages[{index}].role', value: {message.role!r:.200}")
        for number, part in enumerate(message.parts):
            if getattr(part, part.type) is None:
                where = f"messages[{index}].content.list[ChatMessageContent][{number}].{part.type}"
                raise bad_request(f"Field required, field: '{where}', value: None")
    _check_images(body)


def _check_images(body: ChatBody) -> None:
    """WIRE 1.3."""
    urls = [part.image_url.url for message in body.messages for part in message.parts if part.image_url]
    if len(urls) > _MOST_IMAGES:
        raise bad_request(f"At most {_MOST_IMAGES} images are allowed, found {len(urls)}")
    if sum(len(url) for url in urls if url.startswith("data:")) > _MOST_BASE64:
        raise bad_request("The base64 images are larger than 10 MB together")


def _check_tools(body: ChatBody) -> None:
    choice = body.tool_choice
    if choice in ("any", "required") and not body.tools:
        raise bad_request("tool_choice asks for a tool but there are no tools, field: 'tool_choice'")
    if isinstance(choice, ToolChoice) and choice.tool not in {tool.function.name for tool in body.tools or ()}:
        raise bad_request(f"tool_choice names a tool that is not offered, field: 'tool_choice', value: {choice.tool!r}")


def _check_not_built(body: ChatBody) -> None:
    for name in NOT_BUILT:
        value = getattr(body, name)
        if value is not None and value is not False:
            raise bad_request(f"Not supported by the emulator, field: '{name}', value: {value!r:.200}")
    options = body.stream_options
    if options and (options.buffer_ms is not None or options.buffer_mode is not None):
        raise bad_request("Not supported by the emulator, field: 'stream_options' with buffer_ms or buffer_mode")


def _effort(body: ChatBody, card: ModelCard) -> tuple[str, int | None]:
    """The reasoning effort by name and the cap in tokens (WIRE 1.2, R10, R11)."""
    asked, thinking = body.reasoning_effort, body.thinking
    if asked is not None and thinking is not None:
        raise bad_request("thinking and reasoning_effort cannot be used together")
    cap = thinking.budget_tokens if thinking else None
    if thinking is not None:
        asked = {"enabled": "medium", "disabled": "none", "adaptive": "adaptive"}[thinking.type]
    if asked is None:
        return card.default_effort, None
    if isinstance(asked, int) and not isinstance(asked, bool):
        cap = asked
    effort = asked if isinstance(asked, str) else _effort_by_value(asked)
    if effort not in card.efforts or (cap is not None and cap < 1):
        raise bad_request(f"Invalid reasoning effort: {effort if thinking else body.reasoning_effort}")
    return effort, cap


def _effort_by_value(asked: int) -> str:
    """A cap in tokens asks for as much as fits under it."""
    return _NAMED_EFFORTS[asked] if isinstance(asked, bool) else "high"


def _fit(body: ChatBody, card: ModelCard, prompt: int, default: int) -> int:
    """How many tokens may be generated. Too long a request loses output, never prompt, unless it asks for an error."""
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise bad_request("max_tokens and max_completion_tokens cannot be used together")
    asked = body.max_tokens or body.max_completion_tokens or default
    room = card.context_length - prompt
    strict = body.context_length_exceeded_behavior == "error"
    if room < 1 or (strict and asked > room):
        total = f"{prompt} prompt tokens and max_tokens {asked} for a context of {card.context_length}"
        raise bad_request(f"The prompt is too long: {total}")
    return min(asked, room)


def _shape(response_format: ResponseFormat | None) -> Shape | Grammar | None:
    """The shape that the answer must have (WIRE 4.1), None for text and for any JSON object."""
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "grammar":
        return _grammar(response_format.grammar)
    if response_format.type == "json_object":
        given, path = response_format.schema_, "response_format.schema"
        if given is None:
            return None
    else:
        given, path = _unwrapped(response_format.json_schema)
    try:
        return strict_shape(_schema_object(given, path), path)
    except SchemaRefused as error:
        raise bad_request(str(error)) from None


def _grammar(given: str | None) -> Grammar:
    """The grammar. What the provider says of a bad one is unknown; a 400 in shape E1 is inferred (WIRE 4.3, 9.4)."""
    if given is None:
        raise bad_request("Field required, field: 'response_format.grammar'")
    try:
        return _parsed_grammar(given)
    except GrammarError as error:
        raise bad_request(f"Invalid grammar: {error}, field: 'response_format.grammar'") from None


@lru_cache(maxsize=4)
def _parsed_grammar(text: str) -> Grammar:
    """A large grammar takes a second to read, and clients send the same one again and again."""
    return parse(text)


def _unwrapped(given: dict[str, Any] | str | None) -> tuple[Any, str]:
    """The schema of either spelling: in OpenAI's wrapper, or bare."""
    path = "response_format.json_schema"
    if given is None:
        raise bad_request(f"Field required, field: '{path}'")
    if not isinstance(given, dict) or not isinstance(given.get("schema"), dict | str):
        return given, path
    for key in given.keys() - {"name", "schema", "strict", "description"}:
        raise bad_request(f"Extra inputs are not permitted, field: '{path}.{key}', value: {given[key]!r:.200}")
    return given["schema"], f"{path}.schema"


def _schema_object(given: Any, path: str) -> Any:
    if isinstance(given, str):
        try:
            given = json.loads(given, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise SchemaRefused(f"The JSON schema is not valid JSON, field: '{path}'") from None
    if not isinstance(given, dict):
        raise SchemaRefused(f"The JSON schema is not an object, field: '{path}'")
    return given
