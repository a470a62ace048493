"""What a live run waits for, as its journal says: the tool calls, and the letters that it has taken."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from api_contracts.runs import Event
from api_contracts.vocabulary import typed
from workers.core.chat.state import ChatState
from workers.core.runs.frame import later_id

WAITS: Final = "waits for approval"
"""`state` of a call that somebody has to approve first."""

_ID: Final = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. `deadline_at` is in seconds since 1970; `token` settles it, where another service makes it."""

    call_id: str
    name: str
    state: str
    effect: str
    deadline_at: float
    token: str | None


def calls_in(events: Sequence[Event]) -> list[Call]:
    """Return every call of a journal from its beginning; of one that this release cannot read: none."""
    state = ChatState(0.0)
    try:
        for event in events:
            if (said := typed(event)) is not None:
                state.fold(said, event.at / 1000)
    except (ValidationError, KeyError):
        return []
    return [
        Call(
            card.call_id, card.name, WAITS if call.waits else call.state, card.effect, call.deadline_at,
            card.token,
        )
        for call in state.calls.values()
        for card in (call.reserved,)
    ]  # fmt: skip


def letters_taken(events: Sequence[Event]) -> str:
    """Return the id of the last letter that the journal names; `"0"` for none."""
    taken = "0"
    for event in events:
        if isinstance(letter := event.data.get("inbox"), str) and _ID.fullmatch(letter):
            taken = later_id(taken, letter)
    return taken
