"""What becomes of a single tool call: its reservation, and each way to settle it; the texts that the model reads."""

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from api_contracts import chat
from api_contracts.chat import CallReserved
from api_contracts.failure import Failure
from api_contracts.keys import derived_task_id
from workers.core.chat.acts import CallSettled
from workers.core.chat.assembler import Answer
from workers.core.chat.cards import ToolCard
from workers.core.chat.state import Call, Settling
from workers.core.runs.frame import SignalArrived
from workers.core.text import storable

ROUNDS_EXHAUSTED: Final = Failure(
    code="rounds_exhausted", category="limit", at_fault="provider",
    message="the model asked for tools although the last round allows none",
)  # fmt: skip
_NOT_AVAILABLE = "The tool {name} is not available."
_BAD_ARGUMENTS = "The arguments are not a JSON object; call the tool again with a JSON object."
_OVER_LIMIT = "This run may make no more tool calls; answer with what is known."
_TIMED_OUT = "The tool did not answer in time."
_UNKNOWN = "It is not known whether the tool took effect; it was not repeated."
_STOPPED = "The call was stopped."
_FAILED = "The tool failed."
_TOO_LARGE = "The tool's result is too large."

_MOST_BYTES = 64 * 1024
"""A larger result of another service is refused, as one of a tool in the worker is."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that the model asked for, under our own id: `<round>.<place>`, unique in the run."""

    call_id: str
    provider_id: str
    name: str
    arguments: str


def numbered(answer: Answer, round_: int, taken: set[str]) -> tuple[dict[str, Any], list[Wanted]]:
    """Return the answer's message and its calls. Ids that a provider left out or used before are replaced by ours."""
    wanted: list[Wanted] = []
    for place, call in enumerate(answer.calls):
        call_id = f"{round_}.{place}"
        provider_id = call.provider_id
        if not provider_id or provider_id in taken:
            provider_id = f"call_{round_}_{place}"
        while provider_id in taken:
            provider_id += "_"
        taken.add(provider_id)
        wanted.append(Wanted(call_id, provider_id, call.name, call.arguments))
    if not wanted:
        return answer.message, wanted
    shown = [
        {"id": w.provider_id, "type": "function", "function": {"name": w.name, "arguments": w.arguments}}
        for w in wanted
    ]
    return answer.message | {"tool_calls": shown}, wanted


def wanted_in(message: Mapping[str, Any], round_: int) -> list[Wanted]:
    """Return the calls of a message that `numbered` made."""
    return [
        Wanted(f"{round_}.{place}", shown["id"], shown["function"]["name"], shown["function"]["arguments"])
        for place, shown in enumerate(message.get("tool_calls") or ())
    ]


def arguments_of(text: str) -> dict[str, Any] | None:
    """Return the arguments, or None when the text is not a JSON object. No text means no arguments."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def reservation(
    run_id: str, call: Wanted, card: ToolCard | None, now: float, *, free: bool, secret: str
) -> Iterator[CallReserved | chat.CallFailed]:
    """Yield the reservation of a call; for one that cannot be made, its failure too.

    Names of runs and calls are no secret, so the token, which says who may settle the call, is made with `secret`.
    """
    refusal = _refusal(call, card, free=free)
    remote = refusal is None and card is not None and card.task is not None
    task_id = derived_task_id(run_id, call.call_id)
    yield CallReserved(
        call_id=call.call_id,
        provider_id=call.provider_id,
        name=call.name,
        arguments=call.arguments,
        effect=card.effect if card else "pure",
        where="nowhere" if refusal else "task" if remote else "worker",
        task_id=None if refusal else task_id,
        token=hmac.new(secret.encode(), task_id.encode(), hashlib.sha256).hexdigest()[:32] if remote else None,
        deadline_at=now + (card.timeout_s if card else 0.0),
    )
    if refusal:
        yield refused(call.call_id, refusal)


def refused(call_id: str, content: str = _FAILED) -> chat.CallFailed:
    """Settle a call that cannot be made."""
    return chat.CallFailed(call_id=call_id, content=content, detail="refused before it began")


def outcome(fact: CallSettled) -> Settling:
    """Settle a call of this worker."""
    if fact.ok:
        return chat.CallResult(call_id=fact.call_id, content=storable(fact.content))
    return chat.CallFailed(
        call_id=fact.call_id, content=storable(fact.content) or _FAILED, detail=storable(fact.detail)
    )


def delivery(card: CallReserved, letter: SignalArrived) -> Settling:
    """Settle a call by the letter that its service, or anyone with its token, sent."""
    if letter.data.get("ok") is not True:
        detail = storable(str(letter.data.get("detail") or f"failed, see task {card.task_id} in the tool's service"))
        return chat.CallFailed(call_id=card.call_id, content=_FAILED, detail=detail[:2000], inbox=letter.id)
    content = storable(text_of(letter.data.get("value")))
    if (size := len(content.encode())) > _MOST_BYTES:
        return chat.CallFailed(call_id=card.call_id, content=_TOO_LARGE, detail=f"{size} bytes", inbox=letter.id)
    return chat.CallResult(call_id=card.call_id, content=content, inbox=letter.id)


def timed_out(call: Call) -> Settling:
    """Settle a call whose deadline passed: one that must not be repeated may have taken effect all the same."""
    call_id = call.reserved.call_id
    began = call.reserved.where == "task" or call.state == "running"
    if call.reserved.effect == "at_most_once" and began:
        return unknown(call_id)
    return chat.CallTimedOut(call_id=call_id, content=_TIMED_OUT)


def stopped(call: Call, *, begun: bool) -> Settling:
    """Settle a call of a run that ends without it."""
    call_id = call.reserved.call_id
    if call.reserved.effect == "pure" or not begun:
        return chat.CallCancelled(call_id=call_id, content=_STOPPED)
    return unknown(call_id)


def unknown(call_id: str) -> chat.CallOutcomeUnknown:
    """Settle a call of which nobody can say whether it took effect."""
    return chat.CallOutcomeUnknown(call_id=call_id, content=_UNKNOWN)


def text_of(value: Any) -> str:
    """Return what the model reads: text as it is, anything else as JSON. 0, False, [], {}, "" and None are results."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refusal(call: Wanted, card: ToolCard | None, *, free: bool) -> str | None:
    if card is None:
        return _NOT_AVAILABLE.format(name=call.name)
    if not free:
        return _OVER_LIMIT
    if arguments_of(call.arguments) is None:
        return _BAD_ARGUMENTS
    return None
