"""What can be made to go wrong, by header (`x-emulator-fault: name[=arg],...`) or by a scene's rule.

Two families. A status fault answers instead of the model: `400` ... `520`, `503scaling`, `429deadline`, and
`error_shape=E1..E6`, with `retry_after=SECONDS` beside any of them (`429=SECONDS` for short). The others disturb an
answer; `GUIDE` lists them. Asking for a fault that cannot show (CRLF without a stream) is no error. This module parses
and describes; `completion`, `sse`, `disturbance` and `chat` act.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from workers.emulator import errors
from workers.emulator.errors import ErrorReply

GUIDE: Mapping[str, str] = {
    "pace": "tokens per second for this answer; 0 is as fast as possible",
    "slow_first_token": "seconds before the first event, after the headers",
    "stall_after": "after N tokens nothing more comes, and the connection stays open",
    "stream_error_after": "after N tokens a data object with a top-level error ends the stream",
    "stream_error_event_after": "the same as an SSE event named error",
    "cut_after": "after N tokens the connection is closed, without a terminator",
    "drip": "bytes per second: each byte leaves alone",
    "endless": "the last chunk before the end comes again and again, for ever",
    "finish_reason": "this finish reason instead of the true one",
    "no_done": "the stream ends without [DONE]",
    "no_finish": "no chunk (or choice) has a finish reason",
    "no_usage": "usage is left out",
    "empty_choices": "a chunk without choices in mid-stream; without a stream, a body without choices",
    "comments": "comment lines and heartbeat events between the chunks",
    "event_ping": "events named ping between the chunks",
    "split_utf8": "writes end inside multi-byte characters",
    "crlf": "lines end in CR LF",
    "json_body_truncated": "the JSON body, or the chunk that finishes a stream, is cut in half",
    "bad_tool_json": "tool arguments lack their last character",
    "empty_arguments": "tool arguments are the empty string",
    "text_and_call": "words come before the tool calls",
    "unknown_tool": "tool calls name a tool that nobody offered",
    "call_as_content": "tool calls arrive as JSON text in the content",
    "think_in_content": "reasoning arrives in the content, inside a think block",
    "interleave": "the arguments of parallel calls arrive in turns",
    "index_from_1": "tool calls are numbered from 1",
    "id_name_split": "a call's id and its name arrive in separate fragments",
    "resent_name": "every fragment of a call repeats its id and name",
    "two_calls_one_delta": "the first fragments of all calls share one delta",
}

_NUMBERS = frozenset({"slow_first_token", "pace", "drip"})
_TOKENS = frozenset({"stall_after", "stream_error_after", "stream_error_event_after", "cut_after"})
_FLAGS = frozenset(GUIDE) - _NUMBERS - _TOKENS - {"finish_reason"}


class FaultSyntax(ValueError):
    """A fault that does not exist, or an argument that does not fit it."""


def _page(status: int, title: str) -> Callable[[str], ErrorReply]:
    return lambda _request_id: errors.e6(status, title)


def _plain(message: str, status: int, code: str = errors.INVALID_REQUEST) -> Callable[[str], ErrorReply]:
    kind = errors.INVALID_REQUEST if status < 500 else "internal_server_error"
    return lambda _request_id: errors.e1(message, status, code, kind)


def _gateway(message: str, status: int, code: str) -> Callable[[str], ErrorReply]:
    return lambda request_id: errors.e2(message, status, code, request_id)


# Texts of 402, 408, 412, 413 and 520 are unknown (WIRE 9); statuses and meanings are WIRE 1.7.
_REPLIES: Mapping[str, Callable[[str], ErrorReply]] = {
    "400": _plain("The request body is malformed", 400),
    "401": _gateway("The API key is missing or not valid.", 401, "UNAUTHORIZED"),
    "402": _gateway("The account has no paid plan or is over its usage limit.", 402, "PAYMENT_REQUIRED"),
    "403": _gateway("The API key you provided is invalid.", 403, "UNAUTHORIZED"),
    "404": lambda _request_id: errors.no_such_model(),
    "408": _plain("The request took too long", 408, "REQUEST_TIMEOUT"),
    "412": _plain("The account is suspended", 412, "PRECONDITION_FAILED"),
    "413": _page(413, "Request Entity Too Large"),
    "425": _plain("The deployment is still loading the model", 425, "TOO_EARLY"),
    "429": lambda _request_id: errors.rate_limited(),
    "429deadline": lambda _request_id: errors.too_late_for_first_token(),
    "500": lambda _request_id: errors.generation_failed(),
    "502": _page(502, "Bad Gateway"),
    "503": _plain("The service is overloaded, please try again later", 503, "SERVICE_UNAVAILABLE"),
    "503scaling": _plain("The deployment is scaling up from zero", 503, "DEPLOYMENT_SCALING_UP"),
    "504": _page(504, "Gateway Time-out"),
    "520": _page(520, "Web server is returning an unknown error"),
}

_SHAPES: Mapping[str, Callable[[int, str], ErrorReply]] = {
    "E1": lambda status, _request_id: errors.e1("A fault was asked for", status),
    "E2": lambda status, request_id: errors.e2("A fault was asked for", status, "BAD_REQUEST", request_id),
    "E3": lambda status, _request_id: errors.e3(
        [{"loc": ["body"], "msg": "A fault was asked for", "type": "fault", "input": None}], status
    ),
    "E4": lambda status, _request_id: errors.e4("A fault", "A fault was asked for", status),
    "E5": lambda status, _request_id: errors.e5("a fault was asked for", status, 5),
    "E6": lambda status, _request_id: errors.e6(status, "Fault"),
}
_USUAL_STATUS = {"E1": 400, "E2": 403, "E3": 422, "E4": 429, "E5": 404, "E6": 502}


@dataclass(frozen=True)
class Faults:
    """The faults of one answer. Counts are tokens sent before the fault strikes; 0 is before the first token."""

    status: str | None = None
    error_shape: str | None = None
    retry_after: str | None = None
    pace: float | None = None
    slow_first_token: float = 0.0
    drip: float = 0.0
    stall_after: int | None = None
    stream_error_after: int | None = None
    stream_error_event_after: int | None = None
    cut_after: int | None = None
    finish_reason: str | None = None
    flags: frozenset[str] = frozenset()

    def has(self, flag: str) -> bool:
        """Whether a fault without argument is on."""
        return flag in self.flags

    def reply(self, request_id: str) -> ErrorReply | None:
        """The error that answers instead of the model, if there is one."""
        made = self._made(request_id)
        if made is None or self.retry_after is None:
            return made
        return replace(made, headers={**made.headers, "retry-after": self.retry_after})

    def _made(self, request_id: str) -> ErrorReply | None:
        plain = _REPLIES[self.status](request_id) if self.status else None
        if self.error_shape is None:
            return plain
        status = plain.status if plain else _USUAL_STATUS[self.error_shape]
        return _SHAPES[self.error_shape](status, request_id)


def parse_faults(specs: Iterable[str]) -> Faults:
    """Faults from `name` or `name=arg` texts; a later one wins over an earlier one of the same name."""
    faults = Faults()
    for spec in specs:
        name, _, argument = (part.strip() for part in spec.partition("="))
        if name:
            faults = _with(faults, name.lower(), argument)
    return faults


def split_header(value: str) -> list[str]:
    """The single faults of a header value."""
    return [part for part in (piece.strip() for piece in value.split(",")) if part]


def _with(faults: Faults, name: str, argument: str) -> Faults:
    if name in _REPLIES:
        return replace(faults, status=name, retry_after=argument or faults.retry_after)
    if name == "retry_after" and argument:
        return replace(faults, retry_after=argument)
    if name == "error_shape" and argument.upper() in _SHAPES:
        return replace(faults, error_shape=argument.upper())
    if name == "finish_reason" and argument:
        return replace(faults, finish_reason=argument)
    if name in _FLAGS and not argument:
        return replace(faults, flags=faults.flags | {name})
    if name in _NUMBERS:
        return _with_number(faults, name, _number(name, argument, float))
    if name in _TOKENS:
        return _with_number(faults, name, _number(name, argument, int))
    raise FaultSyntax(f"unknown emulator fault: {name}={argument}" if argument else f"unknown emulator fault: {name}")


def _with_number(faults: Faults, name: str, value: float) -> Faults:
    match name:
        case "pace":
            return replace(faults, pace=value)
        case "slow_first_token":
            return replace(faults, slow_first_token=value)
        case "drip":
            return replace(faults, drip=value)
        case "stall_after":
            return replace(faults, stall_after=int(value))
        case "stream_error_after":
            return replace(faults, stream_error_after=int(value))
        case "stream_error_event_after":
            return replace(faults, stream_error_event_after=int(value))
        case _:
            return replace(faults, cut_after=int(value))


def _number(name: str, argument: str, kind: type[int] | type[float]) -> float:
    try:
        value = kind(argument)
    except ValueError:
        raise FaultSyntax(f"emulator fault {name} needs a number, not {argument!r}") from None
    if not 0 <= value < 1e9:  # also refuses nan
        raise FaultSyntax(f"emulator fault {name} needs a number from 0, not {argument!r}")
    return value
