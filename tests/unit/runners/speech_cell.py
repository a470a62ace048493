"""Workers that serve speech sessions in one loop: the producer, the audio stream and a provider that truly listens."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api_contracts.client.scripts import digest_of, spill
from api_contracts.keys import new_run_id
from api_contracts.runs import RunQueued
from api_contracts.stt import SttFinal, SttRequest
from tests.unit.core.stt.recogniser import Recogniser, Ways, speech, text_of
from tests.unit.runners.cell import Cell, Worker
from tests.waiting import idle
from workers.adapters.memory.audio import MemoryAudio
from workers.adapters.memory.speech import MemoryLine, MemorySpeech
from workers.core.runs.frame import Machine
from workers.core.stt.session import SttSession
from workers.ports import SpeechService, StoreUnavailable
from workers.runners.drive import Performer
from workers.runners.reception import Message
from workers.runners.stt import SttPerformer

PIECE_S = 0.1
PIECE = 3_200
"""Bytes of `PIECE_S`."""

WORD_S = 1.0
"""A word of a quarter of a second and the silence before it, as `said` says them."""


def said(words: int) -> bytes:
    """Say so many words; `spoken` tells which."""
    return speech([(4_000, 12_000)] * words)


def spoken(words: int) -> list[str]:
    return [text_of(code) for code in range(1, words + 1)]


class Provider:
    """Listens on each connection with a recogniser of its own. `speech` is the port."""

    def __init__(self, ways: Ways | None = None) -> None:
        self.ways = ways or Ways()
        self.speech = MemorySpeech(answer=self._answer)
        self._ears: dict[MemoryLine, Recogniser] = {}

    @property
    def line(self) -> MemoryLine:
        """The latest connection."""
        return self.speech.lines[-1]

    def heard(self, line: MemoryLine) -> bytes:
        """All audio that a connection brought."""
        return b"".join(message for message in line.sent if isinstance(message, bytes))

    def _answer(self, line: MemoryLine, message: bytes | str) -> None:
        ears = self._ears.setdefault(line, Recogniser(self.ways))
        answers = ears.audio(message) if isinstance(message, bytes) else ears.text(json.loads(message))
        line.say(*[json.dumps(answer) for answer in answers])


class NotedAudio(MemoryAudio):
    """Holds each trim against the journal: what is trimmed must be settled there first. While `away` it cannot act."""

    def __init__(self, cell: "SpeechCell") -> None:
        super().__init__(cell.clock)
        self._cell = cell
        self.away: set[str] = set()
        self.tried: list[str] = []
        self.trimmed: list[str] = []
        self.too_early: list[str] = []

    async def trim(self, run_id: str, before: str) -> None:
        self._reach("trim")
        journal = await self._cell.store.read(run_id)
        if before not in {event.data.get("anchor_entry") for event in journal}:
            self.too_early.append(before)
        self.trimmed.append(before)
        await super().trim(run_id, before)

    def _reach(self, what: str) -> None:
        self.tried.append(what)
        if what in self.away:
            raise StoreUnavailable(f"{what}: away")


class SpeechKinds:
    """`Kinds` of speech sessions only. Another provider than the cell's can be given, to see it fail."""

    def __init__(self, cell: "SpeechCell", speech: SpeechService | None = None) -> None:
        self._cell = cell
        self._speech = speech or cell.provider.speech

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        cell = self._cell
        performer = SttPerformer(run_id, self._speech, cell.audio, cell.clock, lambda: 1.0)
        return SttSession(run_id, SttRequest.model_validate(request), at), performer


class SpeechWorker(Worker):
    """A worker of sessions."""

    def message(self, run_id: str, request: Any = None) -> Message:
        return Message(run_id, "stt", request or {"stored": "d"}, lambda digest: f"{run_id} by {digest}")


@dataclass
class SpeechCell(Cell):
    """What all processes share."""

    provider: Provider = field(default_factory=Provider)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.audio = NotedAudio(self)

    def worker(self, owner: str = "ann", kinds: Any = None) -> SpeechWorker:
        return SpeechWorker(self, owner, kinds or SpeechKinds(self))

    async def submitted(self, run_id: str = "", **fields: Any) -> str:
        run_id = run_id or new_run_id()
        queued, blob = spill(RunQueued(kind="stt", digest=digest_of(fields), request=fields))
        assert await self.store.submit(run_id, queued, blob) == "created"
        return run_id

    async def speak(self, run_id: str, pcm: bytes, together: int = 1) -> list[str]:
        """Say it in real time, so many pieces in one entry; return the ids of the entries."""
        ids = []
        for start in range(0, len(pcm), together * PIECE):
            ids.append(self.audio.add(run_id, pcm[start : start + together * PIECE]))
            await self.pass_time(together * PIECE_S, step=together * PIECE_S)
        return ids

    async def hang_up(self, run_id: str) -> None:
        self.audio.add(run_id, None, {"type": "end"})
        await idle()

    async def words(self, run_id: str) -> list[str]:
        """Every word of every final, in order; fail when two overlap."""
        finals = [SttFinal.model_validate(e.data) for e in await self.journal(run_id) if e.type == SttFinal.TYPE]
        words = [word for final in finals for word in final.words]
        assert all(one.end <= two.start for one, two in itertools.pairwise(words))
        return [word.word for word in words]

    async def told(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        """The data of all events of a type."""
        return [event.data for event in await self.journal(run_id) if event.type == kind]
