"""Every type of event and of result, and how what is stored becomes a typed value."""

from collections.abc import Mapping
from typing import Any, Final

from api_contracts.batch import BATCH_EVENTS, BatchResult
from api_contracts.chat import CHAT_EVENTS, ChatResult
from api_contracts.citations import CITE_EVENTS, CiteResult
from api_contracts.names import Kind
from api_contracts.runs import RUN_EVENTS, Event, EventData, Result
from api_contracts.stt import STT_EVENTS, SttResult
from api_contracts.stt_files import STT_FILE_EVENTS, SttFileResult

EVENT_TYPES: Final[dict[str, type[EventData]]] = {
    cls.TYPE: cls for cls in (*RUN_EVENTS, *CHAT_EVENTS, *STT_EVENTS, *STT_FILE_EVENTS, *BATCH_EVENTS, *CITE_EVENTS)
}
RESULT_TYPES: Final[dict[Kind, type[Result]]] = {
    "chat": ChatResult, "stt": SttResult, "stt_file": SttFileResult, "batch": BatchResult, "cite": CiteResult,
}  # fmt: skip


def typed(event: Event) -> EventData | None:
    """Return the event's data as its class, or None for a type that a newer writer added."""
    cls = EVENT_TYPES.get(event.type)
    return cls.model_validate(event.data) if cls else None


def typed_result(stored: Mapping[str, Any]) -> Result:
    """Return a stored result as the class of its kind; of a kind that a newer writer added, what all results share."""
    known: dict[Any, type[Result]] = dict(RESULT_TYPES)
    return known.get(stored.get("kind"), Result).model_validate(stored)
