"""Whole sessions through Reception and Driver: what is spoken is in exactly one final, whatever happens meanwhile."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from api_contracts.stt import SttResult
from tests.unit.core.stt.recogniser import Ways
from tests.unit.runners.cell import TIMING, end_of
from tests.unit.runners.speech_cell import (
    PIECE,
    PIECE_S,
    WORD_S,
    Provider,
    SpeechCell,
    SpeechKinds,
    said,
    spoken,
)
from tests.waiting import idle
from workers.adapters.memory.model import Hold
from workers.adapters.memory.speech import MemoryLine, MemorySpeech
from workers.ports import SpeechLost
from workers.runners.outcome import Dropped, Ended, Outcome

Serving = asyncio.Task[Outcome]

TALK = said(20)
HALF = 108 * PIECE
"""Between two pieces, in the middle of the eleventh word, and late enough for audio to be trimmed."""
SPOKEN = HALF + 4 * PIECE
"""Between two pieces: the eleventh word is over, and not yet final."""


@pytest.fixture
async def cell() -> AsyncIterator[SpeechCell]:
    made = SpeechCell()
    yield made
    assert made.audio.too_early == [], "audio was trimmed before what it says was stored"
    assert made.provider.speech.open == 0, "a connection was left open"


async def result_of(serving: Serving) -> SttResult:
    outcome = await end_of(serving)
    assert isinstance(outcome, Ended)
    return SttResult.model_validate(outcome.result)


async def killed_in_the_middle(cell: SpeechCell, run_id: str, upto: int = HALF) -> list[str]:
    """Have a worker killed when so much is spoken; return the ids of the entries until then."""
    ann = cell.worker("ann")
    await ann.begin(run_id)
    ids = await cell.speak(run_id, TALK[:upto])
    await ann.die()
    await cell.pass_time(TIMING.lease_s)
    return ids


@pytest.mark.requirement("STT-05", "STT-08", "STT-18")
async def test_what_is_spoken_arrives_as_finals_and_the_run_completes_with_it(cell: SpeechCell) -> None:
    run_id = await cell.submitted(language="en")
    serving = await cell.worker().begin(run_id)
    await cell.speak(run_id, TALK)
    assert len(await cell.words(run_id)) >= 17, "finals come while one speaks"
    await cell.hang_up(run_id)
    result = await result_of(serving)
    assert (result.status, result.text, result.ended_by) == ("completed", " ".join(spoken(20)), "end")
    assert await cell.words(run_id) == spoken(20)
    assert (result.coverage.share, result.coverage.audio_s, result.connections) == (1.0, 20 * WORD_S, 1)
    types = await cell.types(run_id)
    assert types[:3] == ["run.queued", "run.started", "stt.connected"]
    assert types[-2:] == ["stt.closed", "run.completed"]
    assert ("language", "en") in cell.provider.speech.dialled[0].query
    assert cell.provider.heard(cell.provider.line) == TALK


@pytest.mark.requirement("STT-17")
async def test_audio_is_trimmed_as_soon_as_its_words_are_final_and_stored_and_not_before(cell: SpeechCell) -> None:
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    ids = await cell.speak(run_id, TALK)
    assert ids[0] not in cell.audio.ids(run_id)
    assert cell.audio.trimmed == sorted(cell.audio.trimmed)
    assert len(cell.audio.ids(run_id)) < len(ids)
    assert ids[-1] in cell.audio.ids(run_id)
    await cell.hang_up(run_id)
    await result_of(serving)


async def test_audio_that_was_sent_before_a_worker_came_is_heard(cell: SpeechCell) -> None:
    run_id = await cell.submitted()
    await cell.speak(run_id, TALK)
    await cell.hang_up(run_id)
    assert (await result_of(await cell.worker().begin(run_id))).text == " ".join(spoken(20))


@pytest.mark.requirement("STT-09")
@pytest.mark.parametrize("code", [1006, 1011, None])
async def test_what_was_not_final_when_the_connection_was_lost_is_sent_again(
    cell: SpeechCell, code: int | None
) -> None:
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    await cell.speak(run_id, TALK[:HALF])
    first = cell.provider.line
    first.drop(code)
    await cell.speak(run_id, TALK[HALF:])
    await cell.hang_up(run_id)
    result = await result_of(serving)
    assert await cell.words(run_id) == spoken(20)
    assert (result.text, result.connections, result.coverage.gaps_s) == (" ".join(spoken(20)), 2, 0)
    (connected,) = [data for data in await cell.told(run_id, "stt.connected") if data["conn"] == 2]
    (lost,) = await cell.told(run_id, "stt.lost")
    assert (lost["conn"], lost.get("code")) == (1, code)
    assert cell.provider.heard(cell.provider.line) == TALK[2 * connected["start_at"] :]


@pytest.mark.requirement("STT-09")
async def test_a_provider_that_is_busy_is_tried_again_and_nothing_is_lost_meanwhile(cell: SpeechCell) -> None:
    cell.provider.speech.add(SpeechLost("busy", code=503), SpeechLost("busy", code=429, retry_after_s=1.0))
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    await cell.speak(run_id, TALK)
    await cell.hang_up(run_id)
    assert (await result_of(serving)).text == " ".join(spoken(20))
    again = await cell.told(run_id, "stt.reconnecting")
    assert [(data["code"], data["failures"]) for data in again] == [(503, 1), (429, 2)]
    assert again[1]["wait_s"] >= 1.0


@pytest.mark.requirement("STT-09", "RUN-09")
async def test_a_provider_that_refuses_for_good_fails_the_run_at_once(cell: SpeechCell) -> None:
    cell.provider.speech.add(SpeechLost("no such key", code=401))
    run_id = await cell.submitted()
    result = await result_of(await cell.worker().begin(run_id))
    assert result.failure is not None
    assert (result.failure.code, result.failure.category) == ("stt_refused", "authentication")
    assert len(cell.provider.speech.dialled) == 1


@pytest.mark.requirement("STT-10", "STT-17", "RUN-04")
@pytest.mark.parametrize("upto", [HALF, SPOKEN])
async def test_when_its_worker_is_killed_another_goes_on_and_every_word_is_in_one_final(
    cell: SpeechCell, upto: int
) -> None:
    cell.provider = Provider(Ways(final_delays=(24_000,)))  # when a word is final, the next one is spoken already
    run_id = await cell.submitted()
    await killed_in_the_middle(cell, run_id, upto)
    before = await cell.words(run_id)
    assert 0 < len(before) < 20
    serving = await cell.worker("bob").begin(run_id)
    await cell.speak(run_id, TALK[upto:])
    await cell.hang_up(run_id)
    result = await result_of(serving)
    assert await cell.words(run_id) == spoken(20)
    assert (result.text, result.coverage.share) == (" ".join(spoken(20)), 1.0)
    assert (await cell.types(run_id)).count("run.resumed") == 1
    assert await cell.told(run_id, "stt.gap") == []


@pytest.mark.requirement("STT-11", "RUN-05")
async def test_a_worker_that_is_told_to_stop_hands_the_session_over_at_once(cell: SpeechCell) -> None:
    run_id = await cell.submitted()
    ann = cell.worker("ann")
    serving = await ann.begin(run_id)
    await cell.speak(run_id, TALK[:HALF])
    ann.reception.drain(cell.clock.now() + 30)
    assert isinstance(await end_of(serving), Dropped)
    assert cell.bell.rings[-1].run_id == run_id
    assert cell.provider.speech.open == 0
    serving = await cell.worker("bob").begin(run_id)
    await cell.speak(run_id, TALK[HALF:])
    await cell.hang_up(run_id)
    await result_of(serving)
    assert await cell.words(run_id) == spoken(20)


async def ends_after_a_cut(append: int, when: str) -> bool:
    """Play a session whose worker dies before or after its n-th append; return False when there is no n-th."""
    cell = SpeechCell(provider=Provider(Ways(final_delays=(3_000,), every=5)))
    run_id, talk = await cell.submitted(), 11
    ann = cell.worker("ann")
    ann.line.cut_at = (append, when)
    serving = await ann.begin(run_id)
    await cell.speak(run_id, said(talk), together=5)
    await cell.hang_up(run_id)
    was_cut = ann.line.cut.is_set()
    if was_cut:
        await ann.die()
        await cell.pass_time(TIMING.lease_s)
        serving = await cell.worker("bob").begin(run_id)
    outcome = await end_of(serving)
    assert isinstance(outcome, Ended | Dropped)
    assert await cell.words(run_id) == spoken(talk)
    assert (await cell.last(run_id)).type == "run.completed"
    assert (cell.audio.too_early, cell.provider.speech.open) == ([], 0)
    assert was_cut or cell.audio.trimmed, "the talk is too short to try anything"
    return was_cut


@pytest.mark.requirement("STT-10", "STT-17", "RUN-04")
@pytest.mark.long
async def test_dead_before_and_after_every_append() -> None:
    """The line to the store is cut at each append in turn: no word is lost, none is doubled."""
    for append in itertools.count(1):
        if not await ends_after_a_cut(append, "before"):
            break
        await ends_after_a_cut(append, "after")
    assert append > 10


@pytest.mark.requirement("STT-15")
async def test_audio_that_is_gone_when_another_worker_comes_is_a_gap(cell: SpeechCell) -> None:
    run_id = await cell.submitted()
    ids = await killed_in_the_middle(cell, run_id, SPOKEN)
    assert await cell.words(run_id) == spoken(10)
    await cell.audio.trim(run_id, ids[-1])  # as a Redis that lost its last second
    cell.audio.too_early.clear()
    serving = await cell.worker("bob").begin(run_id)
    await cell.speak(run_id, TALK[SPOKEN:])
    await cell.hang_up(run_id)
    result = await result_of(serving)
    (gap,) = await cell.told(run_id, "stt.gap")
    assert (gap["cause"], gap["end"]) == ("lost", pytest.approx((SPOKEN - PIECE) / 32_000, abs=0.01))
    assert [each.model_dump() for each in result.coverage.gaps] == [
        {"start": gap["start"], "end": gap["end"], "cause": "lost"}
    ]
    assert result.coverage.audio_s == 20.0
    assert await cell.words(run_id) == spoken(20)[:10] + spoken(20)[11:]


@pytest.mark.requirement("STT-01", "STT-16")
async def test_an_entry_that_is_no_control_is_told_and_the_session_goes_on(cell: SpeechCell) -> None:
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    entries = [cell.audio.add(run_id, None, control) for control in ({}, {"type": "sing"}, {"type": "end", "x": 1})]
    await cell.speak(run_id, TALK)
    await cell.hang_up(run_id)
    result = await result_of(serving)
    troubles = await cell.told(run_id, "stt.trouble")
    assert [(data["kind"], data["entry"]) for data in troubles] == [("control", entry) for entry in entries]
    assert result.text == " ".join(spoken(20))


@pytest.mark.requirement("STT-16")
async def test_a_provider_that_talks_nonsense_is_told_about_and_heard_on(cell: SpeechCell) -> None:
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    cell.provider.line.say("{", "[]", '{"hello": 1}')
    await cell.speak(run_id, TALK)
    await cell.hang_up(run_id)
    await result_of(serving)
    assert [data["kind"] for data in await cell.told(run_id, "stt.trouble")] == ["garbled", "garbled", "unknown"]
    assert await cell.words(run_id) == spoken(20)


@pytest.mark.requirement("STT-12")
async def test_options_that_change_open_another_connection_with_them(cell: SpeechCell) -> None:
    run_id = await cell.submitted(language="en")
    serving = await cell.worker().begin(run_id)
    await cell.speak(run_id, TALK[:HALF])
    first = cell.provider.line
    cell.audio.add(run_id, None, {"type": "options", "language": "fr"})
    await cell.speak(run_id, TALK[HALF:])
    await cell.hang_up(run_id)
    await result_of(serving)
    assert [dict(each.query)["language"] for each in cell.provider.speech.dialled] == ["en", "fr"]
    assert first.gone.is_set()
    assert await cell.words(run_id) == spoken(20)


@pytest.mark.requirement("RUN-06")
async def test_a_session_can_be_cancelled_while_it_connects(cell: SpeechCell) -> None:
    cell.provider.speech.add(hold := Hold())
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    assert hold.reached.is_set()
    await cell.store.signal(run_id, "cancel", {"reason": "enough"}, "")
    result = await result_of(serving)
    assert (result.status, result.ended_by, cell.provider.speech.lines) == ("cancelled", "cancelled", [])
    assert (await cell.last(run_id)).data["reason"] == "enough"


@pytest.mark.requirement("RUN-06")
async def test_a_session_that_is_cancelled_keeps_what_is_final_and_says_what_was_not_heard(cell: SpeechCell) -> None:
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    await cell.speak(run_id, TALK)
    final = await cell.words(run_id)
    await cell.store.signal(run_id, "cancel", {}, "")
    result = await result_of(serving)
    assert (await cell.words(run_id))[: len(final)] == final
    assert result.status == "cancelled"
    assert result.text.split() == await cell.words(run_id)
    assert result.coverage.words_s + result.coverage.silence_s + result.coverage.gaps_s == pytest.approx(20.0)


class Defective(MemoryLine):
    """An adapter's connection with a defect, which shows at the first message of the provider. It hands over none."""

    def hand_to(self, take: Callable[[bytes | str], None]) -> None:
        pass

    async def receive(self) -> bytes | str:
        await super().receive()
        raise KeyError("secret")


class DefectiveSpeech(MemorySpeech):
    async def connect(self, query: Sequence[tuple[str, str]], *, credential: str | None) -> MemoryLine:
        line = await super().connect(query, credential=credential)
        self.lines[-1] = made = Defective(line.dialled, lambda line, _: line.say("{}"))
        return made


@pytest.mark.requirement("RUN-09")
async def test_a_defect_in_a_connection_ends_its_run_and_no_other(cell: SpeechCell) -> None:
    good, bad = await cell.submitted(), await cell.submitted()
    others = await cell.worker().begin(good)
    speech = DefectiveSpeech()
    serving = await cell.worker("bob", SpeechKinds(cell, speech)).begin(bad)
    cell.audio.add(bad, TALK)
    outcome = await end_of(serving)
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.at_fault) == ("internal", "us")
    assert "secret" not in str(outcome.result)
    assert speech.open == 0
    await cell.speak(good, TALK)
    await cell.hang_up(good)
    assert (await result_of(others)).text == " ".join(spoken(20))


@pytest.mark.requirement("RUN-21", "STT-17")
async def test_a_store_that_cannot_trim_costs_the_session_nothing(cell: SpeechCell) -> None:
    cell.audio.away = {"trim"}
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    ids = await cell.speak(run_id, TALK)
    assert "trim" in cell.audio.tried
    assert cell.audio.ids(run_id) == ids
    cell.audio.away = set()
    await cell.speak(run_id, said(10))
    assert ids[0] not in cell.audio.ids(run_id), "the next trim drops that audio too"
    await cell.hang_up(run_id)
    assert (await result_of(serving)).status == "completed"


@pytest.mark.requirement("STT-13")
async def test_a_session_to_which_nobody_speaks_ends_by_itself(cell: SpeechCell) -> None:
    run_id = await cell.submitted(idle_timeout_s=5)
    ann = cell.worker()
    serving = await ann.begin(run_id)
    await cell.speak(run_id, said(2))
    await cell.pass_time(4.9)
    assert not serving.done()
    await cell.pass_time(PIECE_S)
    result = await result_of(serving)
    assert (result.status, result.ended_by, result.text) == ("completed", "idle", " ".join(spoken(2)))


async def test_a_provider_that_stops_reading_is_still_heard_and_gets_its_frames_in_order(cell: SpeechCell) -> None:
    run_id = await cell.submitted()
    serving = await cell.worker().begin(run_id)
    await cell.speak(run_id, TALK[:HALF])
    cell.provider.line.stall()
    await cell.speak(run_id, TALK[HALF:])
    await cell.hang_up(run_id)
    assert not serving.done()
    cell.provider.line.resume()
    await idle()
    await result_of(serving)
    assert cell.provider.heard(cell.provider.line) == TALK
    assert await cell.words(run_id) == spoken(20)
