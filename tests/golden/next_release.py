"""What the next release may leave behind when it is rolled back: more events, more fields, more letters, a higher
schema version. All of it by the rules of docs/decisions/0020.
"""

from collections.abc import Mapping
from typing import Any, Final

from api_contracts import SCHEMA_VERSION
from api_contracts.runs import Event
from tests.golden.files import Around, Golden
from workers.ports import AudioEntry, Letter

LATER: Final = SCHEMA_VERSION + 1
_NEWS: Final = ("run.weighed", "chat.dreamt", "tool.call_priced", "stt.mood", "batch.forecast", "a type of its own")
_MORE: Final[dict[str, Any]] = {"later": {"deep": [1, None, "x"]}, "inbox_of": "9-9"}


def as_next_writes(golden: Golden) -> Golden:
    """Return the journal as a later release would have left it: news between all events but those of one append."""
    found = Golden(golden.story, golden.kind, golden.blobs)
    places = {0: 0}
    for event in golden.journal:
        found.journal.append(_event(found, event.at, event.epoch, event.type, _richer(event)))
        places[event.seq] = len(found.journal)
        if not event.terminal:
            news = _NEWS[event.seq % len(_NEWS)]
            found.journal.append(_event(found, event.at, event.epoch, news, {"call_id": "none", **_MORE}))
    found.letters = [(places[after], letter) for after, letter in golden.letters]
    found.around = [Around(places[each.seq], each.what) for each in golden.around]
    found.audio = _with_strange_controls(golden.audio)
    return found


def strange_letters(run_id: str) -> list[Letter]:
    """Return what a later client may send."""
    return [
        Letter("1-1", "update_mood", {"mood": "good"}),
        Letter("1-2", "tool_result", {"call_id": "of nobody", "token": "x", "outcome": "dream", "of": run_id}),
        Letter("1-3", "", {}),
    ]


def _event(found: Golden, at: int, epoch: int, type_: str, data: Mapping[str, Any]) -> Event:
    return Event(seq=len(found.journal) + 1, type=type_, at=at, epoch=epoch, data=dict(data))


def _richer(event: Event) -> dict[str, Any]:
    more = _MORE | ({"version": LATER} if event.type in ("run.queued", "run.started", "run.resumed") else {})
    return event.data | more


def _with_strange_controls(audio: list[AudioEntry]) -> list[AudioEntry]:
    """Put a control that nobody knows behind each fifth entry; its id lies between those of its neighbours."""
    found = list[AudioEntry]()
    for number, entry in enumerate(audio):
        found.append(entry)
        if number % 5 == 0 and entry.pcm is not None:
            at, count = entry.id.split("-")
            found.append(AudioEntry(f"{at}-{int(count) + 1}", None, {"type": "translate", "into": "fr"}))
    return found
