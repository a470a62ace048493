"""A line of a job's output: an answer, a failure, or nothing that can be used. Tolerant, because half of it is unseen.

Answers are flat (WIRE 3.4). The rows of `error-data` have never been seen by anyone who told: whatever has a custom id
and an error in it is a failure. OpenAI's wrapped form is understood too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson

from api_contracts.batch_rows import RowFault, RowResult, RowState

OutputFile = Literal["answers", "errors"]

_NAMES: Final[dict[str, OutputFile]] = {"BIJOutputSet.jsonl": "answers", "error-data": "errors"}
_NOT_A_CODE: Final = re.compile(r"[^a-z0-9]+")
_IN_VAIN: Final = frozenset(
    {"400", "401", "402", "403", "404", "412", "413", "422", "bad_request", "invalid_argument", "invalid_request",
     "invalid_request_error", "permission_denied", "unauthenticated", "unauthorized", "not_found"}
)  # fmt: skip
"""Codes that the same row would meet again: what is wrong with it, or with the account."""
_LONGEST_MESSAGE: Final = 1000


class Tokens(NamedTuple):
    """Counts of one answer, or the sum of many."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """A chat completion. `response` is its JSON; `tokens` is None when the provider counted none."""

    custom_id: str
    response: bytes
    finish_reasons: tuple[str, ...]
    tokens: Tokens | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider failed at the row. `again`: another attempt may do better."""

    custom_id: str
    code: str
    message: str
    again: bool


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A line that says nothing of any row."""

    why: str


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What is to be written of a row. `pending` is a failure that another attempt may mend."""

    number: int
    state: RowState
    code: str = ""
    message: str = ""
    response: bytes | None = None
    tokens: Tokens | None = None


def file_of(name: str) -> OutputFile | None:
    """Return which of a job's files this is, by its base name: the path may say anything (WIRE 7.30)."""
    return _NAMES.get(name.rpartition("/")[2])


def read_output(data: bytes) -> Answered | Failed | Corrupt:
    """Return what a line of either file says."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return Corrupt("not JSON")
    if not isinstance(value, dict):
        return Corrupt("not an object")
    custom_id = value.get("custom_id")
    if isinstance(custom_id, int) and not isinstance(custom_id, bool):
        custom_id = str(custom_id)
    if not isinstance(custom_id, str):
        return Corrupt("no custom id")
    response = value.get("response")
    if isinstance(response, dict) and isinstance(response.get("body"), dict) and "choices" not in response:
        response = response["body"]
    error = value.get("error") or (response.get("error") if isinstance(response, dict) else None)
    if error:
        return _failed(custom_id, error)
    if not isinstance(response, dict):
        return Failed(custom_id, "no_response", "the line holds neither a response nor an error", again=True)
    return _answered(custom_id, response)


def outcome_of(said: Answered | Failed, number: int, fail_on: Iterable[str], *, last: bool) -> RowOutcome:
    """Return what becomes of row `number`: a failure waits for another attempt, unless that is in vain or over."""
    if isinstance(said, Failed):
        state: RowState = "pending" if said.again and not last else "failed"
        return RowOutcome(number, state, said.code, said.message)
    bad = next((reason for reason in fail_on if reason in said.finish_reasons), None)
    if bad is None:
        return RowOutcome(number, "succeeded", response=said.response, tokens=said.tokens)
    message = f"the answer ended by {bad!r}, which counts as a failure (fail_on)"
    state = "failed" if last else "pending"
    return RowOutcome(number, state, f"finish_{bad}", message, said.response, said.tokens)


def _answered(custom_id: str, response: dict[str, Any]) -> Answered | Failed | Corrupt:
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        return Failed(custom_id, "no_choices", "the response holds no choice", again=True)
    try:
        text = orjson.dumps(response)
    except orjson.JSONEncodeError:
        return Corrupt("nested too deeply")
    return Answered(custom_id, text, tuple(str(each.get("finish_reason")) for each in choices), _tokens(response))


def _tokens(response: Mapping[str, Any]) -> Tokens | None:
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    return Tokens(
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
        _count(usage.get("prompt_tokens_details"), "cached_tokens"),
        _count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _failed(custom_id: str, error: Any) -> Failed:
    said = error if isinstance(error, dict) else {"message": error}
    code = said.get("code") if said.get("code") not in (None, "") else said.get("type")
    word = _NOT_A_CODE.sub("_", str(code if code is not None else "").lower()).strip("_")[:40]
    message = said.get("message")
    told = message if isinstance(message, str) else "the provider gave no reason"
    return Failed(custom_id, f"provider_{word or 'error'}", told[:_LONGEST_MESSAGE], again=word not in _IN_VAIN)


def result_of_row(
    number: int, custom_id: str | None, state: RowState, attempts: int, response: str | None, code: str, message: str
) -> RowResult:
    """Return a row as a reader sees it, from what is kept: `code` and `response` are empty where there is none."""
    return RowResult(
        number=number, custom_id=custom_id, state=state, attempts=attempts,
        response=orjson.loads(response) if response else None,
        fault=RowFault(code=code, message=message) if code else None,
    )  # fmt: skip
