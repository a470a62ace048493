"""What is read before a run is driven: its journal, and the request of a foreign message. Decides nothing."""

import json
from collections.abc import Mapping
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from api_contracts.client.scripts import canonical
from api_contracts.conversations import TakesPart
from api_contracts.runs import Event, RunQueued
from api_contracts.runs import Request as Frame
from api_contracts.vocabulary import typed
from workers.core.runs.frame import Machine
from workers.core.runs.later import check_needs, check_written_later
from workers.runners.drive import OF_NO_EFFECT, Performer

_log = structlog.get_logger(__name__)


def model_of(request: Mapping[str, Any] | None) -> str:
    """Return the model that a request names, or nothing."""
    model = (request or {}).get("model")
    return model if isinstance(model, str) else ""


def queued_in(events: list[Event]) -> RunQueued | None:
    """Return the first event of a journal, if it can be read."""
    try:
        queued = typed(events[0]) if events else None
    except ValidationError:
        return None
    return queued if isinstance(queued, RunQueued) else None


def check_queued(events: list[Event]) -> None:
    """Raise `NeedsLater` if a later release wrote the first event."""
    try:
        _ = typed(events[0]) if events else None
    except ValidationError as exc:
        check_written_later(events, events[0], exc)


def folded(made: tuple[Machine, Performer], events: list[Event]) -> tuple[Machine, Performer]:
    """Return what was made, its machine folded over the journal. Raises `NeedsLater`, and what a bad event makes it."""
    for event in events[1:]:
        check_needs(event)
        try:
            if (data := typed(event)) is not None:
                made[0].fold(data, event.at / 1000)
        except Exception as exc:
            check_written_later(events, event, exc)
            raise
    return made


def futile_in(events: list[Event]) -> int:
    """Return how many letters of no effect a journal tells of."""
    return sum(event.type in (cls.TYPE for cls in OF_NO_EFFECT) for event in events)


def object_in(text: str | None) -> Mapping[str, Any] | None:
    """Return the JSON object in a blob, None without one; raise ValueError for what no writer of ours writes."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except RecursionError as exc:
        raise ValueError("too deep") from exc
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def deadline_in(request: Mapping[str, Any] | None) -> float | None:
    """Return the deadline of a request that cannot be read as a whole."""
    try:
        return Frame.model_validate({"deadline_s": (request or {}).get("deadline_s")}).deadline_s
    except ValidationError:
        return None


def stored_digest(request: Any) -> str | None:
    """Return the digest from the reference that our client sends instead of the request. A later one may say more."""
    match request:
        case {"stored": str(digest)}:
            return digest
        case _:
            return None


def object_of(request: Any) -> dict[str, Any]:
    """Return the request, or an object that is refused with the reason when the run begins."""
    if not isinstance(request, dict):
        return {"request": f"a {type(request).__name__}, not a JSON object"}
    try:
        canonical(request).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        return {"request": f"cannot be stored as JSON: {type(exc).__name__}"}
    return request


def frame_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the frame of a foreign request as far as it is right; the rest is refused when the run begins."""
    frame: dict[str, Any] = {}
    for name in ("tenant", "labels", "lane", "idempotency_key", "deadline_s"):
        if name in request:
            try:
                frame[name] = getattr(Frame.model_validate({name: request[name]}), name)
            except ValidationError:
                _log.info("run.bad_frame", field=name)
    if (conversation := _conversation_in(request)) is not None:
        frame["conversation"] = conversation
    return frame


def _conversation_in(request: Mapping[str, Any]) -> str | None:
    """Return the id of the conversation that a request names, in either form, if it is one."""
    try:
        return TypeAdapter(TakesPart).validate_python(request.get("conversation")).id
    except ValidationError:
        return None
