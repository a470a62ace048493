"""Reads what a producer wants: controls of the audio stream, settings of a signal. Pure.

What cannot be read is told in one line that says where and why, and shows nothing of what was sent.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from api_contracts import stt
from api_contracts.stt import AudioControl, SttOptions

Control = stt.Flush | stt.Clear | stt.ChangeOptions | stt.End

_CONTROL: Final[TypeAdapter[Control]] = TypeAdapter(AudioControl)
_MOST_FAULTS, _MOST_CHARS = 4, 300


def control_in(data: Mapping[str, Any]) -> Control | str:
    """Return the control, or why it is none."""
    try:
        return _CONTROL.validate_python(dict(data))
    except ValidationError as exc:
        return _faults(exc, depth=1)


def options_in(settings: object) -> dict[str, Any] | str:
    """Return the options that an `update_settings` changes, as values of `SttOptions`; or why it changes none."""
    if not isinstance(settings, Mapping):
        return "settings is no JSON object"
    try:
        return given_in(SttOptions.model_validate(dict(settings)))
    except ValidationError as exc:
        return _faults(exc, depth=0)


def given_in(options: SttOptions) -> dict[str, Any]:
    """Return the options that were given, null among them."""
    return {name: getattr(options, name) for name in options.model_fields_set - {"type"}}


def _faults(exc: ValidationError, depth: int) -> str:
    """`depth`: how many steps of each place lie outside of what was sent (the type of a control)."""
    faults = exc.errors(include_input=False, include_context=False, include_url=False)
    told = "; ".join(_told(fault["type"], fault["loc"][depth:], fault["msg"]) for fault in faults[:_MOST_FAULTS])
    more = len(faults) - _MOST_FAULTS
    return told[:_MOST_CHARS] + (f"; and {more} more" if more > 0 else "")


def _told(fault: str, place: tuple[int | str, ...], message: str) -> str:
    if fault.startswith("union_tag"):
        return "type: it is one of flush, clear, options, end"
    if fault == "extra_forbidden":  # its name is the sender's own word
        known = ", ".join(SttOptions.model_fields)
        return f"?: there is no such field (options are {known})" if len(place) <= 1 else f"{place[0]}.?: no such field"
    return f"{place[0] if place else 'it'}: {message}"
