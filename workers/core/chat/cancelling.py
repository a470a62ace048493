"""The tool with which a model cancels what runs in the background for it (TOOL-19): what it offers and answers. Pure.

It is ours, runs nowhere and is settled as it is begun: what it cancels is on record, and so is its own result, before
a tool is stopped. `dispatch` owns when.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from workers.core.chat.cards import ToolCard
from workers.core.chat.state import Call

CANCEL: Final = "fw_cancel_call"
"""Its name. A tool of the request that has it takes its place."""

CARD: Final = ToolCard(
    CANCEL,
    "Cancel a call that runs in the background.",
    {
        "type": "object",
        "properties": {"id": {"type": "string", "description": "Which call; not needed while only one runs."}},
        "additionalProperties": False,
    },
    "idempotent",
)
_NOTHING: Final = "No call that can be cancelled runs in the background."
_WHICH: Final = "Nothing was cancelled. Give the id of one of the calls that run in the background: {calls}."
_CANCELLED: Final = "The call {id} ({name}) was cancelled."
_IN_DOUBT: Final = "The call {id} ({name}) is given up. It is not known whether it took effect."
_MOST_SHOWN: Final = 200


def chosen(arguments: Mapping[str, Any], running: Sequence[Call]) -> Call | str:
    """Return the call that is to be cancelled, or what the model reads if that cannot be said."""
    if not running:
        return _NOTHING
    wanted = arguments.get("id")
    found = [call for call in running if call.reserved.provider_id == wanted] if wanted is not None else running
    if len(found) == 1:
        return found[0]
    return _WHICH.format(calls=_listed(running))


def told(call: Call) -> str:
    """Return what the model reads of a call that was just cancelled."""
    text = _IN_DOUBT if call.state == "outcome_unknown" else _CANCELLED
    return text.format(id=call.reserved.provider_id, name=call.reserved.name)


def _listed(running: Iterable[Call]) -> str:
    shown = [
        f"{json.dumps(card.provider_id)} ({card.name} {card.arguments[:_MOST_SHOWN]})"
        for card in (call.reserved for call in running)
    ]
    return ", ".join(shown)
