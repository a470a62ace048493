"""A golden journal as it lies in the repository: one folder for each release, one file of JSON lines for each story.

The first line says what the run was; each other line is an entry of a stream, in the order in which it came: `journal`
(the fields of the Redis stream as they are stored there), `inbox`, `audio`, or `around` (what else outlives a worker).
"""

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from api_contracts.names import Kind
from api_contracts.runs import Event
from workers.ports import AudioEntry, Letter

FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Around:
    """What stood outside of the journal once it had `seq` events: SQL rows and the provider's jobs, as JSON."""

    seq: int
    what: Mapping[str, Any]


@dataclass
class Golden:
    """A recorded run. `letters` and `around` say after how many events they came."""

    story: str
    kind: Kind
    blobs: dict[int, str] = field(default_factory=dict)
    journal: list[Event] = field(default_factory=list)
    letters: list[tuple[int, Letter]] = field(default_factory=list)
    audio: list[AudioEntry] = field(default_factory=list)
    around: list[Around] = field(default_factory=list)

    @property
    def result(self) -> dict[str, Any]:
        """What the run came to."""
        end = self.journal[-1].data
        found: dict[str, Any] = end["result"] if "result" in end else json.loads(self.blobs[end["result_blob"]])
        return found

    def around_at(self, seq: int) -> Mapping[str, Any] | None:
        """Return what stood around the journal when it had so many events."""
        found = [each.what for each in self.around if each.seq <= seq]
        return found[-1] if found else None


def path_of(release: str, story: str) -> Path:
    return FOLDER / release / f"{story}.jsonl"


def contracts_of(release: str) -> Path:
    """Return the file with the JSON Schemas that a release published, by name."""
    return FOLDER / release / "contracts.json"


def releases() -> list[str]:
    """Return every release of which there are journals."""
    return sorted(path.name for path in FOLDER.iterdir() if next(path.glob("*.jsonl"), None))


def stories_of(release: str) -> list[str]:
    return sorted(path.stem for path in (FOLDER / release).glob("*.jsonl"))


def written(golden: Golden) -> str:
    """Return the file's text."""
    head = {"story": golden.story, "kind": golden.kind, "blobs": golden.blobs}
    lines = [head, *({"journal": _fields(event)} for event in golden.journal)]
    lines += [
        {"inbox": {"after": at, "id": each.id, "type": each.type, "data": each.data}} for at, each in golden.letters
    ]
    lines += [{"audio": _sound(each)} for each in golden.audio]
    lines += [{"around": {"seq": each.seq, "what": each.what}} for each in golden.around]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read(release: str, story: str) -> Golden:
    """Return a journal as it was recorded."""
    return parsed(path_of(release, story).read_text())


def parsed(text: str) -> Golden:
    """Return what `written` wrote. Lines end at line feeds only: text may hold others."""
    head, *lines = map(json.loads, text.removesuffix("\n").split("\n"))
    found = Golden(head["story"], head["kind"], {int(number): text for number, text in head["blobs"].items()})
    found.journal = [Event.from_fields(each) for each in _of("journal", lines)]
    found.letters = [(e["after"], Letter(e["id"], e["type"], e["data"])) for e in _of("inbox", lines)]
    found.audio = [_entry(each) for each in _of("audio", lines)]
    found.around = [Around(**each) for each in _of("around", lines)]
    return found


def _of(what: str, lines: Iterable[Mapping[str, Any]]) -> Iterable[Any]:
    return (line[what] for line in lines if what in line)


def _fields(event: Event) -> dict[str, str]:
    """Return an event as Redis holds it: text."""
    plain = {name: str(value) for name, value in event.model_dump(exclude={"data"}).items()}
    return plain | {"data": json.dumps(event.data, ensure_ascii=False)}


def _sound(entry: AudioEntry) -> dict[str, Any]:
    if entry.pcm is None:
        return {"id": entry.id, "c": dict(entry.control)}
    return {"id": entry.id, "a": base64.b64encode(zlib.compress(entry.pcm, 9)).decode()}


def _entry(fields: Mapping[str, Any]) -> AudioEntry:
    pcm = zlib.decompress(base64.b64decode(fields["a"])) if "a" in fields else None
    return AudioEntry(fields["id"], pcm, fields.get("c", {}))
