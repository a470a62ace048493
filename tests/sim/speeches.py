"""Speech in the simulated world: somebody speaks in real time, and a provider truly listens."""

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from api_contracts.runs import Event
from api_contracts.stt import SttFinal
from tests.sim.process import Line, Process
from tests.unit.core.stt.recogniser import Recogniser, Ways, speech, text_of
from workers.adapters.memory.audio import MemoryAudio
from workers.adapters.memory.speech import MemoryLine, MemorySpeech
from workers.ports import SpeechLost

if TYPE_CHECKING:
    from tests.sim.world import World

PIECE: Final = 3_200
"""Bytes of a tenth of a second."""
PIECE_S: Final = 0.1
_DROPPED: Final = 0.005
"""Of the frames to a provider that breaks off: four seconds that are sent again are forty frames, and of eight
connections in a row one must last."""
CHANGING: Final[dict[str, Any]] = {"language": "en", "rollover_s": 5, "keep_alive_s": 1, "stall_timeout_s": 5}
"""What is asked for where options change, and connections are replaced, in mid-speech."""


class Watched(MemoryAudio):
    """Notes what is trimmed before the journal has settled it."""

    def __init__(self, world: "World") -> None:
        super().__init__(world.clock)
        self._world = world

    def wipe(self) -> None:
        """Lose everything."""
        self._streams.clear()

    async def trim(self, run_id: str, before: str) -> None:
        """See the port."""
        journal = await self._world.store.read(run_id)
        if before not in {event.data.get("anchor_entry") for event in journal}:
            self._world.found.append(f"{before} was trimmed too early")
        await super().trim(run_id, before)


class Listener:
    """The provider: each connection has ears of its own. In a lossy world it drops one in ten in the middle."""

    def __init__(self, world: "World") -> None:
        self.speech = MemorySpeech(answer=self._answer)
        self._world = world
        self._ears: dict[MemoryLine, Recogniser] = {}

    def _answer(self, line: MemoryLine, message: bytes | str) -> None:
        ears = self._ears.setdefault(line, Recogniser(Ways()))
        answers = ears.audio(message) if isinstance(message, bytes) else ears.text(json.loads(message))
        line.say(*[json.dumps(answer) for answer in answers])
        if self._world.plan.lossy and self._world.chance.random() < _DROPPED:
            line.drop(1011)


class Dialling:
    """A process's way to the provider: a connection it opens is a line of its own."""

    def __init__(self, process: Process, listener: Listener) -> None:
        self._process = process
        self._listener = listener

    async def connect(self, query: Sequence[tuple[str, str]], *, credential: str | None) -> Any:
        """See the port."""
        opened = await self._listener.speech.connect(query, credential=credential)
        return Line(self._process, "line", opened, raises=SpeechLost)


async def speak(world: "World", run_id: str, words: int, *, changes: bool) -> None:
    """Say so many words in real time, and hang up. With `changes`, other options hold from the middle of a word on."""
    pcm = speech([(4_000, 12_000)] * words)
    change_at = 29 * PIECE
    for start in range(0, len(pcm), PIECE):
        if changes and start == change_at:
            world.audio.add(run_id, None, {"type": "options", "language": "fr"})
        world.audio.add(run_id, pcm[start : start + PIECE])
        await world.clock.sleep_until(world.clock.now() + PIECE_S)
    world.audio.add(run_id, None, {"type": "end"})


def faults_of(events: Sequence[Event], result: dict[str, Any], words: int) -> list[str]:
    """Each word that was said is in one final, none overlaps another, and nothing was missed."""
    finals = [SttFinal.model_validate(event.data) for event in events if event.type == SttFinal.TYPE]
    heard = [word for final in finals for word in final.words]
    said = [text_of(code) for code in range(1, words + 1)]
    wrong = []
    if [word.word for word in heard] != said:
        wrong.append(f"heard {[word.word for word in heard]}, said {said}")
    if not all(one.end <= two.start for one, two in itertools.pairwise(heard)):
        wrong.append("words overlap")
    if result["coverage"]["gaps"]:
        wrong.append(f"gaps: {result['coverage']['gaps']}")
    return wrong


def faults_of_changes(world: "World") -> list[str]:
    """A connection had both changes: the control's and the signal's."""
    asked = [dict(each.query) for each in world.listener.speech.dialled]
    if any((each.get("language"), each.get("prompt")) == ("fr", "names") for each in asked):
        return []
    return [f"no connection had the changed options: {asked}"]
