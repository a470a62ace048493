"""How much audio may wait: the producer is told, then held, then the session ends. And what no producer should send."""

import pytest

from api_contracts import stt
from api_contracts.runs import RunStarted
from tests.unit.core.stt.playing import ECHO, OVERLAP_S, RATE, Life, check, kinds, request, segment, sound, update, word
from tests.unit.core.stt.recogniser import Ways, speech, text_of
from tests.unit.core.stt.world import Entry, World
from workers.core.runs.frame import Finish
from workers.core.stt import acts


def lags(life: Life) -> list[tuple[float, bool]]:
    return [(each.behind_s, each.full) for each in life.told(stt.SttLag)]


def held(life: Life) -> list[bool]:
    return [act.full for act in life.done(acts.HoldAudio)]


@pytest.mark.requirement("STT-05", "STT-17")
def test_over_the_bound_the_lag_is_told_and_the_producer_is_held_until_half_is_heard() -> None:
    life = Life(request(backlog_s=20)).opened()
    assert "stt.lag" not in kinds(life.speak(20))
    assert kinds(life.speak(1))[-2:] == ["stt.lag", "HoldAudio"], "told before it is done"
    life.speak(1)
    assert (lags(life), held(life)) == ([(21.0, True)], [True])
    life.says(update(segment(0, word("one", 11.0, 11.5, final=True))))
    assert len(lags(life)) == 1
    life.says(update(segment(0, word("one", 11.0, 11.5, final=True), word("two", 12.0, 12.5, final=True))))
    assert (lags(life)[1:], held(life)[1:]) == ([(9.5, False)], [False])
    assert not life.end
    life.speak(11)
    assert lags(life)[2:] == [(20.5, True)]
    check(life)


@pytest.mark.requirement("STT-17")
@pytest.mark.parametrize("is_connected", [True, False])
def test_at_twice_the_bound_the_session_ends(is_connected: bool) -> None:
    life = Life(request(backlog_s=20)).begin()
    if is_connected:
        life.opened()
    life.speak(40)
    assert (lags(life), life.end) == ([(40.0, True)], None)
    life.speak(0.1)
    assert isinstance(life.end, Finish)
    assert life.end.failure is not None
    assert (life.end.status, life.end.failure.code) == ("failed", "audio_backlog")
    assert [(gap.start, gap.end, gap.cause) for gap in life.result.coverage.gaps] == [(0.0, 40.1, "failed")]
    check(life)


@pytest.mark.requirement("STT-17")
def test_the_next_worker_holds_the_producer_too() -> None:
    life = Life(request(backlog_s=20)).opened()
    life.speak(21)
    again = life.reborn().begin()
    assert held(again) == [True]
    again.feed(acts.AudioArrived("1-0", sound(21)))
    assert lags(again) == [(21.0, True)], "told by the worker before it"
    free = Life().begin()
    assert held(free) == []


@pytest.mark.requirement("STT-17")
def test_audio_is_let_go_only_when_its_words_are_final_and_told() -> None:
    life = Life().opened()
    for _ in range(10):
        life.speak(1)
    life.says(update(segment(0, word("one", 9.0, 9.5))))
    assert life.done(acts.TrimAudio) == []
    told = kinds(life.says(update(segment(0, word("one", 9.0, 9.5, final=True)))))
    assert told.index("stt.final") < told.index("TrimAudio")
    assert life.done(acts.TrimAudio)[0].before_entry_id == f"{int(9.5 - OVERLAP_S)}-0"


# -- what no producer should send --------------------------------------------------------------------------------------

WORDS = [(8_000, 4_000)] * 40


def test_audio_ten_times_faster_than_real_time_costs_no_word() -> None:
    pcm = speech(WORDS)
    pieces = [pcm[start : start + 3_200] for start in range(0, len(pcm), 3_200)]
    entries = [Entry(place / 100, pcm=piece) for place, piece in enumerate(pieces)]
    world = World([*entries, Entry(len(pieces) / 100, control={"type": "end"})], [], Ways())
    life = world.run()
    check(life)
    assert [each.word for each in life.result.words] == [text_of(code) for code in range(1, len(WORDS) + 1)]
    assert life.result.coverage.gaps == []


@pytest.mark.long
def test_silence_for_an_hour_is_silence_and_holds_little() -> None:
    entries = [Entry(at, pcm=sound(5)) for at in range(0, 3_600, 5)]
    world = World([*entries, Entry(3_600, control={"type": "end"})], [], Ways(echoes_traces=True))
    life = world.run(most_s=4_000)
    check(life)
    assert (life.result.status, life.result.text) == ("completed", "")
    assert (life.result.coverage.silence_s, life.result.coverage.share) == (3_600.0, 1.0)
    assert lags(life) == []
    assert life.machine.state.settled - life.machine.state.anchor.at < 60 * RATE
    assert len(life.done(acts.TrimAudio)) > 100


def test_an_entry_of_10_mb_and_odd_sizes_and_audio_after_the_end_are_taken_as_they_are() -> None:
    life = Life().opened()
    life.speak(pcm=bytes(10_000_001))
    assert lags(life) == [(pytest.approx(312.5, abs=0.001), True)]
    life.speak(pcm=b"\x00" * 3)
    life.control(type="nonsense")
    life.control(type="end")
    sent = len(life.sent())
    life.speak(5)
    assert len(life.sent()) == sent
    life.says(ECHO)
    assert life.result.coverage.audio_s == 5_000_002 / RATE
    assert [each.kind for each in life.told(stt.SttTrouble)] == ["control"]
    check(life)


def test_a_session_that_begins_with_too_much_ends_without_a_word_to_the_provider() -> None:
    life = Life(request(backlog_s=10)).begin()
    life.speak(30)
    assert life.told(RunStarted)
    assert life.result.failure is not None
    assert life.result.failure.code == "audio_backlog"
    assert life.done(acts.SendAudio) == []
