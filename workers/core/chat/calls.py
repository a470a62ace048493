"""What becomes of a single tool call: its reservation, and each way to settle it; the texts that the model reads."""

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api_contracts import chat
from api_contracts.chat import CallReserved
from api_contracts.failure import Failure
from api_contracts.keys import derived_task_id
from workers.core.chat.acts import CallReconciled, CallSettled
from workers.core.chat.arguments import Unfit, checked
from workers.core.chat.assembler import Answer
from workers.core.chat.cards import ToolCard
from workers.core.chat.schema import Schema
from workers.core.chat.state import INVALID_ARGUMENTS, REPEATED, Call, Settling
from workers.core.runs.frame import SignalArrived
from workers.core.runs.signals import sender
from workers.core.text import storable

ROUNDS_EXHAUSTED: Final = Failure(
    code="rounds_exhausted", category="limit", at_fault="provider",
    message="the model asked for tools although the last round allows none",
)  # fmt: skip
_NOT_AVAILABLE = "The tool {name} is not available."
_UNFIT = "The arguments were refused: {why}. Call the tool again with arguments that fit its schema."
_UNFIT_AGAIN = "The arguments were refused again, and the call failed. Go on without it."
_OVER_LIMIT = "This run may make no more tool calls; answer with what is known."
_REPEATED = "This call was made {times} times already and is not made again; answer with what is known."
_TIMED_OUT = "The tool did not answer in time."
_UNKNOWN = "It is not known whether the tool took effect; it was not repeated."
_NOBODY_APPROVED = "Nobody approved the call in time; it was not made."
_REJECTED = "The call was not approved, and not made."
_DID_NOT_HAPPEN = "The call was lost before it took effect; it may be made again."
_STOPPED = "The call was stopped."
_FAILED = "The tool failed."
_TOO_LARGE = "The tool's result is too large."

MOST_PROGRESS: Final = 4096
"""Characters of what is kept of a call's news."""
_MOST_BYTES = 64 * 1024
"""A larger result of another service is refused, as one of a tool in the worker is."""


NOT_AVAILABLE: Final = "not_available"
OVER_LIMIT: Final = "over_limit"
REJECTED: Final = "rejected"
"""Why a call was not made: `code` of `tool.call_failed`."""
OUTCOME_UNKNOWN: Final = "outcome_unknown"
"""`code` of a fact: the tool was lost while it worked, and must not be repeated."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not made: a word for programs, and what the model reads."""

    code: str
    content: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that the model asked for, under our own id: `<round>.<place>`, unique in the run (but see `again`)."""

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


def again(call_id: str) -> str:
    """Return the id of the next try of a call: `1.0`, then `1.0.2`, `1.0.3`. All of them have one key."""
    first = first_of(call_id)
    return f"{first}.{int(call_id[len(first) + 1 :] or 1) + 1}"


def first_of(call_id: str) -> str:
    """Return the id of the first try."""
    return ".".join(call_id.split(".")[:2])


def made(ledger: Iterable[str]) -> int:
    """Return how many calls the ids of a ledger stand for."""
    return len({first_of(call_id) for call_id in ledger})


def tries(batch: Sequence[str], ledger: Mapping[str, Call]) -> list[str]:
    """Return the ids under which the calls of a batch are made when the run is retried."""
    return [again(each) if each in ledger and _may_try_again(ledger[each]) else each for each in batch]


def _may_try_again(call: Call) -> bool:
    """Whether a call that ended with its run may be made: it never began, or has a key."""
    unknown_yet = call.state == "outcome_unknown" and call.reserved.effect != "at_most_once"
    return call.state == "cancelled" or unknown_yet


def reservation(
    run_id: str, call: Wanted, card: ToolCard | None, now: float, *, refusal: Refusal | None, secret: str
) -> Iterator[CallReserved | chat.CallFailed]:
    """Yield the reservation of a call; for one that cannot be made, its failure too.

    Names of runs and calls are no secret, so the token, which says who may settle the call, is made with `secret`.
    """
    remote = refusal is None and card is not None and card.task is not None
    approval_s = card.approval_s if card and not refusal else None
    task_id = derived_task_id(run_id, first_of(call.call_id))
    yield CallReserved(
        call_id=call.call_id,
        provider_id=call.provider_id,
        name=call.name,
        arguments=call.arguments,
        effect=card.effect if card else "pure",
        where="nowhere" if refusal else "task" if remote else "worker",
        task_id=None if refusal else task_id,
        token=hmac.new(secret.encode(), task_id.encode(), hashlib.sha256).hexdigest()[:32] if remote else None,
        deadline_at=now + (approval_s or (card.timeout_s if card else 0.0)),
        show="state" if card and card.show == "state" else None,
        wait=False if card and not card.wait and not refusal else None,
        approval=None if approval_s is None else True,
    )
    if refusal:
        yield refused(call.call_id, refusal)


def refusal_of(call: Wanted, card: ToolCard | None, schema: Schema | None, *, free: bool, told: bool) -> Refusal | None:
    """Return why a call cannot be made, None if it can. `told`: the model has had its one chance to mend arguments."""
    if card is None or schema is None:
        return not_available(call.name)
    if not free:
        return Refusal(OVER_LIMIT, _OVER_LIMIT)
    try:
        checked(call.arguments, schema)
    except Unfit as exc:
        return unfit(str(exc), told=told)
    return None


def not_available(name: str) -> Refusal:
    """Refuse a call to a tool that is not there, or not any more."""
    return Refusal(NOT_AVAILABLE, _NOT_AVAILABLE.format(name=name))


def repeated(times: int) -> Refusal:
    """Refuse a call that the run has made so often already."""
    return Refusal(REPEATED, _REPEATED.format(times=times))


def unfit(why: str, *, told: bool) -> Refusal:
    """Refuse arguments: once with what is wrong with them, after that for good (TOOL-04)."""
    return Refusal(INVALID_ARGUMENTS, storable(_UNFIT_AGAIN if told else _UNFIT.format(why=why)))


def refused(call_id: str, refusal: Refusal | None = None) -> chat.CallFailed:
    """Settle a call that cannot be made; where nothing else is known, there were too many."""
    why = refusal or Refusal(OVER_LIMIT, _OVER_LIMIT)
    return chat.CallFailed(call_id=call_id, content=why.content, detail="refused before it began", code=why.code)


def outcome(fact: CallSettled, *, told: bool) -> Settling:
    """Settle a call of this worker."""
    if fact.code == INVALID_ARGUMENTS:
        return refused(fact.call_id, unfit(fact.content, told=told))
    if fact.code == OUTCOME_UNKNOWN:
        return unknown(fact.call_id)
    if fact.ok:
        return chat.CallResult(call_id=fact.call_id, content=storable(fact.content), run_llm=fact.run_llm)
    return chat.CallFailed(
        call_id=fact.call_id, content=storable(fact.content) or _FAILED, detail=storable(fact.detail)
    )


def delivery(card: CallReserved, letter: SignalArrived) -> Settling:
    """Settle a call by the letter that its service, or anyone with its token, sent."""
    told: dict[str, Any] = {"call_id": card.call_id, "inbox": letter.id, "by": sender(letter)}
    if letter.data.get("ok") is not True:
        detail = storable(str(letter.data.get("detail") or f"failed, see task {card.task_id} in the tool's service"))
        return chat.CallFailed(**told, content=_FAILED, detail=detail[:2000])
    content = storable(text_of(letter.data.get("value")))
    if (size := len(content.encode())) > _MOST_BYTES:
        return chat.CallFailed(**told, content=_TOO_LARGE, detail=f"{size} bytes")
    run_llm = letter.data.get("run_llm")
    return chat.CallResult(**told, content=content, run_llm=run_llm if isinstance(run_llm, bool) else None)


def judged(call: Call, letter: SignalArrived, now: float, timeout_s: float) -> chat.CallApproved | chat.CallFailed:
    """Take an `approve` or a `reject`. The model is told the reason of a refusal."""
    call_id, reason = call.reserved.call_id, storable(str(letter.data.get("reason") or "")) or None
    told: dict[str, Any] = {"call_id": call_id, "inbox": letter.id, "by": sender(letter)}
    if letter.type == "approve":
        return chat.CallApproved(**told, deadline_at=now + timeout_s, reason=reason)
    content = f"{_REJECTED} The reason given: {reason}" if reason else _REJECTED
    return chat.CallFailed(**told, content=content, detail="rejected", code=REJECTED)


def reconciled(fact: CallReconciled) -> Settling:
    """Settle a call that was lost by what its tool says of it."""
    if fact.happened:
        return chat.CallResult(call_id=fact.call_id, content=storable(fact.content))
    if fact.happened is None:
        return unknown(fact.call_id)
    return chat.CallFailed(call_id=fact.call_id, content=_DID_NOT_HAPPEN, detail="lost; its tool says: not done")


def progress(card: CallReserved, letter: SignalArrived) -> chat.CallProgress:
    """Keep what a service tells of a call that goes on."""
    content = storable(text_of(letter.data.get("value")))[:MOST_PROGRESS]
    return chat.CallProgress(call_id=card.call_id, content=content, inbox=letter.id, by=sender(letter))


def late(card: CallReserved, letter: SignalArrived) -> chat.CallLateResult:
    """Record a result that came after its call was settled."""
    came = delivery(card, letter)
    ok, content = isinstance(came, chat.CallResult), came.content
    return chat.CallLateResult(call_id=card.call_id, inbox=letter.id, by=sender(letter), ok=ok, content=content)


def timed_out(call: Call) -> Settling:
    """Settle a call whose deadline passed: one that must not be repeated may have taken effect all the same."""
    call_id = call.reserved.call_id
    if call.waits:
        return chat.CallTimedOut(call_id=call_id, content=_NOBODY_APPROVED)
    began = call.reserved.where == "task" or call.state == "running"
    if call.reserved.effect == "at_most_once" and began:
        return unknown(call_id)
    return chat.CallTimedOut(call_id=call_id, content=_TIMED_OUT)


def stopped(call: Call, *, begun: bool, letter: SignalArrived | None = None, by: str | None = None) -> Settling:
    """Settle a call of a run that ends without it, or that an interrupt or the model (`by` a call) stops."""
    told: dict[str, Any] = {"call_id": call.reserved.call_id, "by": by}
    if letter is not None:
        told |= {"inbox": letter.id, "by": sender(letter)}
    if call.reserved.effect == "pure" or not begun:
        return chat.CallCancelled(**told, content=_STOPPED)
    return chat.CallOutcomeUnknown(**told, content=_UNKNOWN)


def unknown(call_id: str) -> chat.CallOutcomeUnknown:
    """Settle a call of which nobody can say whether it took effect."""
    return chat.CallOutcomeUnknown(call_id=call_id, content=_UNKNOWN)


def text_of(value: Any) -> str:
    """Return what the model reads: text as it is, anything else as JSON. 0, False, [], {}, "" and None are results."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
