"""Facts that a driver decides where they come in: nothing else may notice."""

from collections.abc import Mapping
from typing import Any

import pytest

from api_contracts.runs import RunQueued
from api_contracts.stt import SttRequest
from tests.unit.runners.cell import end_of
from tests.unit.runners.speech_cell import SpeechCell, SpeechKinds
from tests.waiting import idle, one_turn
from workers.core.runs.frame import Action, Effect, Machine
from workers.core.stt.acts import AudioArrived, SendAudio
from workers.core.stt.frames import FRAME_BYTES
from workers.core.stt.session import SttSession
from workers.runners.drive import Performer
from workers.runners.outcome import Ended
from workers.runners.speech_line import Post
from workers.runners.stt import SttPerformer

FRAME = bytes(FRAME_BYTES)


@pytest.mark.requirement("STT-02")
async def test_a_frame_is_sent_in_the_turn_in_which_its_audio_comes() -> None:
    cell = SpeechCell()
    run_id = await cell.submitted()
    worker = cell.worker()
    await worker.begin(run_id)
    await idle()
    line = cell.provider.line
    cell.audio.add(run_id, FRAME)
    await one_turn()
    assert line.sent == [FRAME], "the turn that brought it"
    await worker.die()


@pytest.mark.requirement("STT-02")
async def test_audio_that_comes_while_events_are_written_waits_its_turn() -> None:
    cell = SpeechCell()
    run_id = await cell.submitted()
    worker = cell.worker()
    serving = await worker.begin(run_id)
    await idle()
    line = cell.provider.line
    cell.audio.add(run_id, FRAME)
    await idle()
    worker.line.away.add("append")
    line.say('{"segments": [{"id": 0, "text": "hello", "words": [{"word": "hello", "start": 0, "end": 0.1}]}]}')
    await idle()
    cell.audio.add(run_id, FRAME)
    await idle()
    assert line.sent == [FRAME]
    worker.line.away.clear()
    await cell.pass_time(1)
    assert line.sent == [FRAME, FRAME]
    assert not serving.done()
    await worker.die()


class DefectiveSession(SttSession):
    def receive(self, fact: object, now: float) -> list[Action]:
        if isinstance(fact, AudioArrived):
            raise KeyError("secret")
        return super().receive(fact, now)


class DefectivePerformer(SttPerformer):
    def perform(self, effect: Effect, post: Post) -> None:
        if isinstance(effect, SendAudio):
            raise KeyError("secret")
        super().perform(effect, post)


class OtherKinds(SpeechKinds):
    """Sessions of another make."""

    def __init__(self, cell: SpeechCell, machine: type[SttSession], performer: type[SttPerformer]) -> None:
        super().__init__(cell)
        self._of = cell
        self._machine = machine
        self._performer = performer

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        cell = self._of
        performer = self._performer(run_id, cell.provider.speech, cell.audio, cell.clock, lambda: 1.0)
        return self._machine(run_id, SttRequest.model_validate(request), at), performer


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize(("machine", "performer"), [(DefectiveSession, SttPerformer), (SttSession, DefectivePerformer)])
async def test_a_defect_that_audio_brings_to_light_ends_its_run(
    machine: type[SttSession], performer: type[SttPerformer]
) -> None:
    cell = SpeechCell()
    run_id = await cell.submitted()
    serving = await cell.worker(kinds=OtherKinds(cell, machine, performer)).begin(run_id)
    await idle()
    cell.audio.add(run_id, FRAME)
    outcome = await end_of(serving)
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert outcome.failure.code == "internal"


async def test_effects_beside_an_event_wait_for_it() -> None:
    cell = SpeechCell()
    run_id = await cell.submitted(backlog_s=10)
    worker = cell.worker()
    await worker.begin(run_id)
    await idle()
    line = cell.provider.line
    cell.audio.add(run_id, FRAME * 101)
    await one_turn()
    assert line.sent == [], "the lag is told first"
    await idle()
    assert "stt.lag" in await cell.types(run_id)
    assert cell.provider.heard(line) == FRAME * 101
    await worker.die()
