"""A session's effects: the audio stream read and trimmed, connections fed and heard (`runners.stt`)."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.waiting import idle
from workers.adapters.memory.audio import MemoryAudio
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.model import Hold
from workers.adapters.memory.speech import MemoryLine, MemorySpeech
from workers.core.runs.frame import Effect
from workers.core.stt.acts import (
    AudioArrived,
    AudioMissing,
    Connect,
    Connected,
    ControlArrived,
    Disconnect,
    Disconnected,
    Garbled,
    HoldAudio,
    ReadAudio,
    Said,
    SendAudio,
    SendText,
    TrimAudio,
)
from workers.ports import SpeechLost, StoreUnavailable
from workers.runners.stt import SttPerformer

RUN = "run-1"
QUERY = [("language", "en"), ("timestamp_granularities", "word"), ("timestamp_granularities", "segment")]
CONNECT = Connect(1, QUERY, "theirs")
TENTH = bytes(3_200)


class FlakyAudio(MemoryAudio):
    """While `away` it cannot trim; reading goes on by itself, as the one reader does."""

    away = False

    async def trim(self, run_id: str, before: str) -> None:
        self._reach()
        await super().trim(run_id, before)

    async def hold(self, run_id: str, full: bool) -> None:
        self._reach()
        await super().hold(run_id, full)

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable("away")


class SlowToClose(MemoryLine):
    """A connection whose close takes until it is let go."""

    def __init__(self, line: MemoryLine) -> None:
        super().__init__(line.dialled)
        self.go = asyncio.Event()

    async def close(self) -> None:
        await self.go.wait()
        await super().close()


class Defective(MemoryLine):
    """A connection of an adapter with a defect: the `place` where it shows."""

    def __init__(self, line: MemoryLine, place: str) -> None:
        super().__init__(line.dialled)
        self.place = place
        self.stall()  # nothing is offered: `send` has the defect

    async def send(self, message: bytes | str) -> None:
        if self.place == "send":
            raise KeyError(self.place)

    async def receive(self) -> bytes | str:
        if self.place == "receive":
            raise KeyError(self.place)
        return await super().receive()


class Speech(MemorySpeech):
    """`make` turns an opened connection into one of another make."""

    make: Any = None

    async def connect(self, query: Sequence[tuple[str, str]], *, credential: str | None) -> MemoryLine:
        line = await super().connect(query, credential=credential)
        if self.make is not None:
            line = self.lines[-1] = self.make(line)
        return line


class Stage:
    """A performer, what it works with, and what it posted."""

    def __init__(self) -> None:
        self.speech = Speech()
        self.clock = ManualClock()
        self.audio = FlakyAudio(self.clock)
        self.posted: list[Any] = []
        self.performer = SttPerformer(RUN, self.speech, self.audio, self.clock, lambda: 0.25)

    @property
    def line(self) -> MemoryLine:
        return self.speech.lines[-1]

    async def perform(self, *effects: Effect) -> list[Any]:
        for effect in effects:
            self.performer.perform(effect, self.posted.append)
        await idle()
        return self.posted

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await idle()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.performer.close()


# -- one connection ----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-02")
async def test_a_connection_is_opened_with_its_query_and_credential_and_says_when_it_is_open(stage: Stage) -> None:
    stage.speech.add(hold := Hold())
    assert await stage.perform(CONNECT) == []
    hold.go.set()
    assert await stage.perform() == [Connected(1)]
    (dialled,) = stage.speech.dialled
    assert (dialled.query, dialled.credential) == (QUERY, "theirs")


@pytest.mark.requirement("STT-04")
async def test_audio_and_texts_leave_in_the_order_in_which_they_were_decided(stage: Stage) -> None:
    await stage.perform(CONNECT)
    await stage.perform(
        SendAudio(1, b"one"), SendText(1, {"trace_id": "ä", "object": "stt.input.trace"}), SendAudio(1, b"two")
    )
    assert stage.line.sent == [b"one", '{"trace_id":"ä","object":"stt.input.trace"}', b"two"]


@pytest.mark.requirement("STT-04")
async def test_what_is_decided_while_a_connection_opens_or_is_slow_waits_in_order(stage: Stage) -> None:
    stage.speech.add(hold := Hold())
    await stage.perform(CONNECT, *[SendAudio(1, bytes([n])) for n in range(3)])
    hold.go.set()
    await stage.perform()
    stage.line.stall()
    await stage.perform(SendAudio(1, bytes([3])), SendText(1, {"n": 4}))
    assert [type(message) for message in stage.line.sent] == [bytes] * 3
    await stage.perform(SendAudio(1, bytes([5])))
    stage.line.resume()
    await stage.perform(SendAudio(1, bytes([6])))
    assert stage.line.sent == [bytes([0]), bytes([1]), bytes([2]), bytes([3]), '{"n":4}', bytes([5]), bytes([6])]


async def test_a_provider_that_takes_nothing_is_heard_all_the_same(stage: Stage) -> None:
    await stage.perform(CONNECT)
    stage.line.stall()
    stage.line.say('{"segments": []}')
    assert await stage.perform(SendAudio(1, TENTH)) == [Connected(1), Said(1, {"segments": []})]


@pytest.mark.requirement("STT-16")
@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("{", "not JSON"),
        (b"\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "a list, not an object"),
        ("null", "a NoneType, not an object"),
        ('"text"', "a str, not an object"),
    ],
)
async def test_a_message_that_is_no_object_is_told_without_its_content(
    stage: Stage, message: str | bytes, why: str
) -> None:
    await stage.perform(CONNECT)
    stage.line.say(message, json.dumps({"text": "ü"}))
    assert (await stage.perform())[1:] == [Garbled(1, why), Said(1, {"text": "ü"})]


@pytest.mark.requirement("STT-09")
async def test_a_refused_connection_is_a_fact_with_its_status_and_a_throw_of_the_dice(stage: Stage) -> None:
    stage.speech.add(SpeechLost("busy", code=429, retry_after_s=3.0), SpeechLost("bad name", retryable=False))
    await stage.perform(CONNECT)
    await stage.perform(Connect(2, QUERY, None))
    assert stage.posted == [
        Disconnected(1, 429, "busy", True, 0.25, 3.0), Disconnected(2, None, "bad name", False, 0.25),
    ]  # fmt: skip


@pytest.mark.requirement("STT-09")
async def test_a_lost_connection_is_told_once_after_what_it_said(stage: Stage) -> None:
    await stage.perform(CONNECT)
    stage.line.stall()
    await stage.perform(SendAudio(1, TENTH))
    stage.line.say('{"text": "last"}')
    stage.line.drop(1011, "gone")
    assert await stage.perform() == [
        Connected(1), Said(1, {"text": "last"}), Disconnected(1, 1011, "gone", True, 0.25),
    ]  # fmt: skip
    assert not stage.line.is_open


async def test_frames_for_a_connection_that_is_just_lost_go_nowhere(stage: Stage) -> None:
    await stage.perform(CONNECT)
    stage.line.drop()
    await stage.perform()
    await stage.perform(SendAudio(1, TENTH), SendText(1, {}))
    assert stage.line.sent == []
    assert stage.posted == [Connected(1), Disconnected(1, None, "dropped by the script", True, 0.25)]


@pytest.mark.requirement("STT-12")
async def test_after_a_disconnect_the_connection_is_closed_and_what_it_says_does_not_count(stage: Stage) -> None:
    await stage.perform(CONNECT)
    stage.performer.perform(Disconnect(1), stage.posted.append)
    stage.line.say('{"text": "late"}')
    assert await stage.perform() == [Connected(1)]
    assert stage.speech.open == 0


async def test_a_disconnect_stops_a_connection_that_is_being_opened(stage: Stage) -> None:
    stage.speech.add(hold := Hold())
    await stage.perform(CONNECT)
    await stage.perform(Disconnect(1))
    hold.go.set()
    assert await stage.perform() == []
    assert stage.speech.lines == []


async def test_a_disconnect_that_comes_with_its_connect_leaves_nothing(stage: Stage) -> None:
    assert await stage.perform(CONNECT, Disconnect(1), Disconnect(1), Disconnect(7)) == []
    assert stage.speech.open == 0


async def test_a_second_connection_does_not_mix_with_the_first(stage: Stage) -> None:
    await stage.perform(CONNECT)
    await stage.perform(Disconnect(1), Connect(2, [], None), SendAudio(2, b"two"))
    first, second = stage.speech.lines
    assert (first.sent, second.sent) == ([], [b"two"])
    second.say('{"n": 2}')
    assert await stage.perform() == [Connected(1), Connected(2), Said(2, {"n": 2})]


async def test_nothing_is_kept_of_connections_that_are_lost(stage: Stage) -> None:
    for number in range(1, 20):
        await stage.perform(Connect(number, [], None))
        stage.line.drop()
        await stage.perform()
    assert len(stage.performer._lines) <= 1
    assert not stage.performer._closing


@pytest.mark.requirement("STT-09", "STT-12")
async def test_what_is_decided_for_a_connection_before_its_loss_is_heard_goes_nowhere(stage: Stage) -> None:
    """A store that is away holds up the news; meanwhile another connection was asked for, as when options change."""
    await stage.perform(CONNECT)
    stage.line.drop()
    await stage.perform()
    await stage.perform(Connect(2, [], None), SendAudio(1, TENTH), SendText(1, {"a": 1}), SendAudio(2, b"two"))
    assert [type(fact) for fact in stage.posted] == [Connected, Disconnected, Connected]
    assert stage.line.sent == [b"two"]


@pytest.mark.parametrize("place", ["connect", "receive", "send"])
async def test_a_defect_is_posted_as_it_is_and_the_connection_closed(stage: Stage, place: str) -> None:
    def make(line: MemoryLine) -> MemoryLine:
        if place == "connect":
            raise KeyError(place)
        return Defective(line, place)

    stage.speech.make = make
    await stage.perform(CONNECT, SendAudio(1, TENTH))
    defects = [fact for fact in stage.posted if isinstance(fact, Exception)]
    assert len(defects) == 1
    assert "KeyError" in repr(defects[0])
    assert not any(isinstance(fact, Disconnected) for fact in stage.posted)
    assert place == "connect" or not stage.line.is_open


@pytest.mark.parametrize("lost", [True, False])
async def test_a_defect_of_a_connection_that_does_not_count_any_more_is_nobodys_business(
    stage: Stage, lost: bool
) -> None:
    class BadToClose(MemoryLine):
        async def close(self) -> None:
            raise KeyError("close")

    stage.speech.make = lambda line: BadToClose(line.dialled)
    await stage.perform(CONNECT)
    if lost:
        stage.line.drop()
        await stage.perform()
    else:
        await stage.perform(Disconnect(1))
    assert not any(isinstance(fact, Exception) for fact in stage.posted)


# -- the audio stream --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-01")
async def test_the_stream_is_read_from_its_start_and_as_it_grows(stage: Stage) -> None:
    first = stage.audio.add(RUN, b"\x01\x00")
    second = stage.audio.add(RUN, None, {"type": "flush"})
    await stage.perform(ReadAudio("0"))
    third = stage.audio.add(RUN, None)
    assert await stage.perform() == [
        AudioArrived(first, b"\x01\x00"), ControlArrived(second, {"type": "flush"}), ControlArrived(third, {}),
    ]  # fmt: skip


async def test_empty_audio_is_audio(stage: Stage) -> None:
    entry = stage.audio.add(RUN, b"")
    assert await stage.perform(ReadAudio("0")) == [AudioArrived(entry, b"")]


@pytest.mark.requirement("STT-10")
async def test_after_an_entry_that_is_still_there_nothing_is_missing(stage: Stage) -> None:
    anchor = stage.audio.add(RUN, TENTH)
    stage.clock.advance(60)
    entry = stage.audio.add(RUN, TENTH)
    assert await stage.perform(ReadAudio(anchor)) == [AudioArrived(entry, TENTH)]


@pytest.mark.requirement("STT-15")
@pytest.mark.parametrize(("pcm", "followed_by"), [(TENTH, 3_200), (None, 0), (bytes(40_000), 40_000), (b"", 0)])
async def test_after_an_entry_that_is_gone_the_next_one_tells_how_much_is_missing(
    stage: Stage, pcm: bytes | None, followed_by: int
) -> None:
    """A second lies between the two; what the later one holds was spoken just before it was written."""
    anchor = stage.audio.add(RUN, TENTH)
    stage.clock.advance(1)
    entry = stage.audio.add(RUN, pcm)
    await stage.audio.trim(RUN, entry)
    await stage.perform(ReadAudio(anchor))
    assert stage.posted[0] == AudioMissing(16_000, followed_by)
    stage.audio.add(RUN, b"on")
    assert [type(fact) for fact in (await stage.perform())[1:]] == [
        ControlArrived if pcm is None else AudioArrived, AudioArrived,
    ]  # fmt: skip


@pytest.mark.requirement("STT-15")
async def test_what_is_missing_is_told_when_the_next_entry_comes_and_not_before(stage: Stage) -> None:
    assert await stage.perform(ReadAudio("1600000000000-0")) == []
    stage.audio.add(RUN, TENTH)
    assert [type(fact) for fact in await stage.perform()] == [AudioMissing, AudioArrived]


@pytest.mark.requirement("STT-15")
async def test_what_a_producer_trims_while_we_read_is_told_as_entries_like_the_others(stage: Stage) -> None:
    """Four entries at once of which the stream keeps two; those before had 3 200 and 1 600 bytes, this one 2 400."""
    await stage.perform(ReadAudio("0"))
    for pcm in (TENTH, TENTH[:1600]):
        stage.audio.add(RUN, pcm)
        await stage.perform()
    stage.clock.advance(1)
    entries = [stage.audio.add(RUN, pcm, most=2) for pcm in (b"", b"", TENTH[:2400], TENTH)]
    assert (await stage.perform())[2:] == [
        AudioMissing(16_000, 2_400, size=2 * 2_400),
        AudioArrived(entries[2], TENTH[:2400]),
        AudioArrived(entries[3], TENTH),
    ]


@pytest.mark.requirement("STT-15")
@pytest.mark.parametrize(
    ("pcm", "missing"), [(TENTH, AudioMissing(0, 3_200, size=6_400)), (None, AudioMissing(0, 0, size=None))]
)
async def test_what_is_gone_before_the_first_entry_is_guessed_by_it_alone(
    stage: Stage, pcm: bytes | None, missing: AudioMissing
) -> None:
    for _ in range(3):
        stage.audio.add(RUN, pcm, most=1)
    assert (await stage.perform(ReadAudio("0")))[0] == missing


@pytest.mark.requirement("STT-17")
async def test_trimming_drops_what_is_before_the_entry(stage: Stage) -> None:
    ids = [stage.audio.add(RUN, TENTH) for _ in range(3)]
    assert await stage.perform(TrimAudio(ids[1])) == []
    assert stage.audio.ids(RUN) == ids[1:]


@pytest.mark.requirement("RUN-21", "STT-17")
async def test_a_producer_is_held_once_the_store_is_back_and_the_last_word_counts(stage: Stage) -> None:
    stage.audio.away = True
    assert await stage.perform(HoldAudio(full=True)) == []
    stage.audio.away = False
    await stage.pass_time(1)
    assert stage.audio.held == {RUN}
    stage.audio.away = True
    await stage.perform(HoldAudio(full=False), HoldAudio(full=True), HoldAudio(full=False))
    stage.audio.away = False
    await stage.pass_time(1)
    assert stage.audio.held == set()


@pytest.mark.requirement("RUN-21", "STT-17")
async def test_a_store_that_is_away_while_we_trim_costs_nothing(stage: Stage) -> None:
    ids = [stage.audio.add(RUN, TENTH) for _ in range(3)]
    stage.audio.away = True
    assert await stage.perform(TrimAudio(ids[1])) == []
    stage.audio.away = False
    assert await stage.perform(TrimAudio(ids[2])) == []
    assert stage.audio.ids(RUN) == ids[2:]


async def test_a_defect_while_we_trim_is_posted(stage: Stage) -> None:
    class Broken(MemoryAudio):
        async def trim(self, run_id: str, before: str) -> None:
            raise KeyError("trim")

    performer = SttPerformer(RUN, stage.speech, Broken(), stage.clock, lambda: 0.25)
    performer.perform(TrimAudio("1-0"), stage.posted.append)
    await idle()
    assert [repr(fact) for fact in stage.posted] == ["KeyError('trim')"]
    await performer.close()


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_closing_leaves_no_task_and_no_open_connection(stage: Stage) -> None:
    others = asyncio.all_tasks()
    anchor = stage.audio.add(RUN, TENTH)
    stage.audio.away = True
    await stage.perform(CONNECT, ReadAudio(anchor), TrimAudio(anchor), HoldAudio(full=True))
    stage.line.stall()
    await stage.perform(SendAudio(1, TENTH))
    await stage.performer.close()
    assert asyncio.all_tasks() == others
    assert stage.speech.open == 0
    stage.audio.away = False
    stage.audio.add(RUN, TENTH)
    await stage.pass_time(10)
    assert stage.posted == [Connected(1)]
    await stage.performer.close()


async def test_closing_closes_all_connections(stage: Stage) -> None:
    """While one takes over from another there are two."""
    others = asyncio.all_tasks()
    await stage.perform(*[Connect(number, [], None) for number in (1, 2, 3)])
    assert stage.speech.open == 3
    await stage.performer.close()
    assert (asyncio.all_tasks(), stage.speech.open) == (others, 0)


async def test_closing_stops_a_connection_that_is_being_opened_and_the_reading(stage: Stage) -> None:
    others = asyncio.all_tasks()
    stage.speech.add(hold := Hold())
    await stage.perform(CONNECT, ReadAudio("0"))
    await stage.performer.close()
    hold.go.set()
    stage.audio.add(RUN, TENTH)
    await idle()
    assert (asyncio.all_tasks(), stage.speech.lines, stage.posted) == (others, [], [])


@pytest.mark.parametrize("lost", [True, False])
async def test_closing_waits_for_a_connection_that_is_being_closed(stage: Stage, lost: bool) -> None:
    """A close that was begun is not cut short: a socket would stay open."""
    stage.speech.make = SlowToClose
    await stage.perform(CONNECT)
    line = stage.line
    assert isinstance(line, SlowToClose)
    if lost:
        line.drop()
        await stage.perform()
    else:
        await stage.perform(Disconnect(1))
    closing = asyncio.create_task(stage.performer.close())
    await idle()
    assert not closing.done()
    line.go.set()
    await closing
    assert line.gone.is_set()


async def test_an_effect_of_another_kind_of_work_is_refused(stage: Stage) -> None:
    with pytest.raises(TypeError, match="a session has no effect Effect"):
        stage.performer.perform(Effect(), stage.posted.append)
