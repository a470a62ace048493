"""Every type of event, and how an entry of a journal becomes a typed value."""

from typing import Final

from api_contracts.chat import CHAT_EVENTS
from api_contracts.runs import RUN_EVENTS, Event, EventData

EVENT_TYPES: Final[dict[str, type[EventData]]] = {cls.TYPE: cls for cls in (*RUN_EVENTS, *CHAT_EVENTS)}


def typed(event: Event) -> EventData | None:
    """Return the event's data as its class, or None for a type that a newer writer added."""
    cls = EVENT_TYPES.get(event.type)
    return cls.model_validate(event.data) if cls else None
