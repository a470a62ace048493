"""What may be said to a run: the data of each signal, and the check that every sender and the service share. Pure."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from api_contracts.failure import SignalRefused

MOST_BYTES: Final = 64 * 1024
"""Of a signal's data as JSON. What is larger belongs somewhere that the data can name."""

_MOST_ID: Final = 256
_MOST_TEXT: Final = 2000
_Word = Annotated[str, StringConstraints(max_length=200)]
_Text = Annotated[str, StringConstraints(max_length=_MOST_TEXT)]
_CallId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Signal(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    by: _Word | None = None
    """Who sends it; kept in the journal."""
    reason: _Text | None = None


class Cancel(_Signal):
    """End the run."""


class Interrupt(_Signal):
    """Stop what is being said, and each call whose `on_interrupt` says so. With calls left, the run goes on; without,
    it is completed by what was said."""


class ToolResult(_Signal):
    """A call's result, by whoever has its token. Without `ok: true` the call failed, and `detail` says why."""

    call_id: _CallId
    token: Annotated[str, StringConstraints(max_length=200)]
    ok: bool = False
    value: Any = None
    run_llm: bool | None = None
    """False: no answer to this result is wanted (`tool.call_result`)."""
    final: bool = True
    """False: the call goes on, and `value` is news of it (`tool.call_progress`)."""
    detail: _Text | None = None


class Approve(_Signal):
    """Let a call that waits be made."""

    call_id: _CallId


class Reject(_Signal):
    """Have a call that waits not be made."""

    call_id: _CallId


class UpdateSettings(_Signal):
    """Change settings of the run from its next turn on."""

    settings: dict[str, Any] = Field(min_length=1)


SIGNALS: Final[dict[str, type[_Signal]]] = {
    "cancel": Cancel, "interrupt": Interrupt, "tool_result": ToolResult, "approve": Approve, "reject": Reject,
    "update_settings": UpdateSettings,
}  # fmt: skip
"""Every signal that anyone may send, by its name."""


def checked_signal(kind: object, data: object, signal_id: object = "") -> None:
    """Raise `SignalRefused` for what is no signal: one line that says where and why, and shows nothing of the data."""
    if not isinstance(kind, str) or kind not in SIGNALS:
        raise SignalRefused(f"there is no such signal: it is one of {', '.join(SIGNALS)}")
    if not isinstance(data, Mapping):
        raise SignalRefused(f"the data of {kind} is a {type(data).__name__}, not a JSON object")
    if not isinstance(signal_id, str) or len(signal_id) > _MOST_ID:
        raise SignalRefused(f"the id of a signal is text of at most {_MOST_ID} characters")
    if (size := _size(kind, data)) > MOST_BYTES:
        raise SignalRefused(f"the data of {kind} has {size} bytes; at most {MOST_BYTES} are taken")
    try:
        signal_id.encode()
        SIGNALS[kind].model_validate(dict(data))
    except ValidationError as exc:
        faults = exc.errors(include_input=False, include_context=False, include_url=False)[:4]
        # The name of a field that is too much is the sender's own word: it is not repeated.
        said = (f"{_place(kind, fault['loc'], fault['type'])}: {fault['msg']}" for fault in faults)
        raise SignalRefused("; ".join(said)[:_MOST_TEXT]) from None
    except UnicodeEncodeError:
        raise SignalRefused("the id of a signal is no valid text") from None


def verdict(call_id: str, reason: str = "", by: str = "") -> dict[str, str]:
    """Return the data of an `approve` or a `reject`."""
    return {"call_id": call_id} | ({"reason": reason} if reason else {}) | ({"by": by} if by else {})


def taken_apart(run_id: str, signal: object) -> tuple[str, str, dict[str, Any], str]:
    """Return run id, type, data and id of a signal that `fireworks.runs.signal` got; raise `SignalRefused`."""
    if not isinstance(signal, Mapping):
        raise SignalRefused(f"a signal is a JSON object, not a {type(signal).__name__}")
    kind, signal_id = signal.get("type"), signal.get("id", "")
    data = {key: value for key, value in signal.items() if key not in ("type", "id")}
    checked_signal(kind, data, signal_id)
    return run_id, str(kind), data, str(signal_id)


def _size(kind: str, data: Mapping[str, Any]) -> int:
    try:
        return len(json.dumps(dict(data), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as exc:
        raise SignalRefused(f"the data of {kind} cannot be written as JSON: {type(exc).__name__}") from None


def _place(kind: str, loc: tuple[int | str, ...], fault: str) -> str:
    return f"{kind}.?" if fault == "extra_forbidden" else ".".join(map(str, (kind, *loc[:1])))
