"""One connection takes over from another on real websockets: the whole session but its store, on the emulator."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from api_contracts.runs import EventData
from api_contracts.stt import SttConnected, SttFinal, SttLost, SttReconnecting, SttRequest
from tests.contract.scripted_provider import KEY
from tests.unit.emulator.speech.speaking import frames, some_words
from tests.waiting import eventually_async
from workers.adapters.clock import SystemClock
from workers.adapters.fireworks.speech import FireworksLine, FireworksSpeech
from workers.adapters.memory.audio import MemoryAudio
from workers.core.runs.frame import Begin, Emit, Finish, Woke
from workers.core.stt.session import SttSession
from workers.emulator import EmulatorConfig, Running, serve
from workers.emulator.speech import SpeechConfig, encode
from workers.emulator.speech.config import SpeechRule
from workers.runners.stt import SttPerformer

RUN = "run-1"
WAIT = 60.0


async def until(check: Callable[[], object]) -> None:
    async def holds() -> object:
        return check()

    await eventually_async(holds, within=WAIT)


class NotedLine:
    """A connection that tells what was done with it, when it was done."""

    def __init__(self, line: FireworksLine, number: int, notes: list[str]) -> None:
        self._line, self._number, self._notes = line, number, notes
        self.receive, self.hand_to = line.receive, line.hand_to

    async def send(self, message: bytes | str) -> None:
        await self._line.send(message)
        self._notes.append(f"fed {self._number}")

    def offer(self, message: bytes | str) -> bool:
        taken = self._line.offer(message)
        if taken:
            self._notes.append(f"fed {self._number}")
        return taken

    async def close(self) -> None:
        await self._line.close()
        self._notes.append(f"closed {self._number}")


class NotedSpeech:
    def __init__(self, running: Running) -> None:
        self._speech = FireworksSpeech(running.speech_url, lambda _: KEY)
        self.queries: list[dict[str, str]] = []
        self.notes: list[str] = []

    async def connect(self, query: Sequence[tuple[str, str]], *, credential: str | None) -> Any:
        self.queries.append(dict(query))
        number = len(self.queries)
        line = NotedLine(await self._speech.connect(query, credential=credential), number, self.notes)
        self.notes.append(f"open {number}")
        return line


class Desk:
    """Drives a session as the kernel does, without a store. Limits below what a request may ask for make it short."""

    def __init__(self, running: Running, **limits: Any) -> None:
        request = SttRequest(language="en").model_copy(update=limits)
        self.speech, self.audio, self.clock = NotedSpeech(running), MemoryAudio(), SystemClock()
        self.machine = SttSession(RUN, request, self.clock.now())
        self.performer = SttPerformer(RUN, self.speech, self.audio, self.clock, lambda: 0.0)
        self.events: list[EventData] = []
        self.facts: asyncio.Queue[object] = asyncio.Queue()
        self.end: Finish | None = None
        self.task = asyncio.create_task(self._drive())

    async def _drive(self) -> None:
        self.facts.put_nowait(Begin("w"))
        while self.end is None:
            fact: object = Woke()
            due = self.machine.deadline
            with suppress(TimeoutError):
                wait_s = None if due is None else max(0.0, due - self.clock.now())
                fact = await asyncio.wait_for(self.facts.get(), wait_s)
            for action in self.machine.receive(fact, self.clock.now()):
                if isinstance(action, Emit):
                    self.events.append(action.event)
                elif isinstance(action, Finish):
                    self.end = action
                else:
                    self.performer.perform(action, self.facts.put_nowait)  # type: ignore[arg-type]
        await self.performer.close()

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def say(self, words: list[str]) -> None:
        for piece in frames(encode(words)):
            self.audio.add(RUN, piece)

    async def words(self) -> list[str]:
        """Hang up; return every word of every final."""
        self.audio.add(RUN, None, {"type": "end"})
        await asyncio.wait_for(self.task, WAIT)
        assert self.end is not None
        assert self.end.status == "completed"
        assert self.end.result["coverage"]["gaps"] == []
        return [word.word for final in self.told(SttFinal) for word in final.words]


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    rule = SpeechRule.model_validate({"when": {"language": "de"}, "faults": ("400",)})
    stalls = SpeechRule.model_validate({"when": {"prompt": "stall"}, "faults": ("stall_after=250",), "times": 1})
    speech = SpeechConfig(engine="tones", rules=(rule, stalls))
    running = await serve(EmulatorConfig(speech=speech, accepted_keys=frozenset({KEY})))
    yield running
    await running.close()


@pytest.mark.requirement("STT-12")
async def test_options_change_in_mid_speech_and_the_old_connection_closes_after_the_new_one_is_fed(
    emulator: Running,
) -> None:
    spoken = some_words(30)
    desk = Desk(emulator)
    desk.say(spoken[:15])
    await until(lambda: desk.told(SttFinal))
    desk.audio.add(RUN, None, {"type": "options", "language": "de"})  # which this provider refuses
    await until(lambda: len(desk.speech.queries) == 2)
    desk.audio.add(RUN, None, {"type": "options", "language": "fr", "prompt": "names"})
    desk.say(spoken[15:])
    assert await desk.words() == spoken
    assert [query.get("language") for query in desk.speech.queries] == ["en", "de", "fr"]
    notes = desk.speech.notes
    assert notes.index("open 3") < notes.index("fed 3") < notes.index("closed 1")
    assert [each.conn for each in desk.told(SttConnected)] == [1, 3]
    assert desk.told(SttLost) == []


@pytest.mark.requirement("STT-13")
async def test_connections_that_are_too_old_are_replaced_and_every_word_is_heard_once(emulator: Running) -> None:
    spoken = some_words(30)
    desk = Desk(emulator, rollover_s=0.3)
    desk.say(spoken[:15])
    await until(lambda: len(desk.told(SttConnected)) > 2)
    desk.say(spoken[15:])
    assert await desk.words() == spoken
    notes = desk.speech.notes
    assert notes.index("open 2") < notes.index("closed 1")
    assert {each.failures for each in desk.told(SttReconnecting)} == {0}


@pytest.mark.requirement("STT-13")
async def test_an_idle_connection_is_kept_alive_and_one_that_stops_answering_is_given_up(emulator: Running) -> None:
    """Two signs are echoed; the third is not (the emulator's fault `stall_after`), and another connection is opened."""
    spoken = some_words(10)
    desk = Desk(emulator, prompt="stall", keep_alive_s=0.2, stall_timeout_s=1.0)
    await until(lambda: desk.told(SttLost))
    await until(lambda: len(desk.told(SttConnected)) == 2)
    desk.say(spoken)
    assert await desk.words() == spoken
    assert desk.told(SttLost)[0].reason == "stalled: it was sent audio and said nothing"
