"""What becomes of the audio: three meters, and a ledger of what is missing and what was sent twice."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_contracts import stt
from tests.unit.core.stt.playing import ECHO, OVERLAP_S, RATE, Life, check, request, segment, sound, update, word
from tests.unit.core.stt.recogniser import Ways
from tests.unit.core.stt.test_session_properties import CHUNKS, TROUBLES, WAYS, WORDS, Words, entries_of
from tests.unit.core.stt.world import Trouble, World
from workers.core.runs.frame import Draining, SignalArrived
from workers.core.stt import acts


def talking(seconds: float, life: Life | None = None) -> Life:
    """Speak in real time, in entries of 0.1 s."""
    life = life or Life().opened()
    for _ in range(round(seconds * 10)):
        life.later(0.1)
        life.speak(0.1)
    return life


def repeats(life: Life) -> list[tuple[float, float, str]]:
    return [(each.start, each.end, each.cause) for each in life.told(stt.SttRepeat)]


@pytest.mark.requirement("STT-14")
def test_usage_is_told_every_10_seconds_while_audio_flows_and_at_the_end() -> None:
    life = talking(60.0)
    at = [at for event, at in life.journal if isinstance(event, stt.SttUsage)]
    assert len(at) == 5
    assert all(10.0 <= later - one < 10.2 for one, later in pairwise(at))
    assert [round(event.audio.sent_s) for event in life.told(stt.SttUsage)] == [10, 20, 30, 40, 50]
    life.control(type="end")
    life.says(ECHO)
    last = life.told(stt.SttUsage)[-1].audio
    assert life.types[-2:] == ["stt.usage", "stt.closed"]
    assert (last.sent_s, last.acked_s, last.billable_s) == (60.0, 60.0, 60.0)
    assert life.result.audio == last
    check(life)


@pytest.mark.requirement("STT-14")
def test_while_nothing_flows_there_is_nothing_to_tell() -> None:
    life = talking(12.0, Life(request(idle_timeout_s=3600, stall_timeout_s=None)).opened())
    life.later(40)
    told = len(life.told(stt.SttUsage))
    life.later(600)
    assert len(life.told(stt.SttUsage)) == told


@pytest.mark.requirement("STT-15")
def test_audio_that_is_sent_again_is_told_with_its_place_and_why() -> None:
    """0.05 s wait for the rest of their frame when the line is lost: they were not sent before."""
    life = talking(8.0)
    life.speak(0.05)
    life.says(update(segment(0, word("one", 4.0, 4.5, final=True))))
    life.loses()
    life.retries()
    life.opened()
    again = 4.5 - OVERLAP_S
    assert repeats(life) == [(again, 8.0, "lost")]
    talking(1.0, life)
    life.control(type="clear")
    assert repeats(life)[1:] == [(again, 9.05, "cleared")]
    life.control(type="options", language="de")
    life.opened()
    assert repeats(life)[2:] == [(again, 9.05, "planned")]
    life.control(type="end")
    life.says(ECHO)
    assert life.result.repeated_s == pytest.approx(8.0 + 9.05 + 9.05 - 3 * again)
    check(life)


@pytest.mark.requirement("STT-15")
def test_a_worker_that_goes_on_tells_what_it_sends_again() -> None:
    """After a hand-over to the sample; after a kill at least what is known to have been sent."""
    life = talking(8.0)
    life.says(update(segment(0, word("one", 4.0, 4.5, final=True))))
    killed, after = life.reborn(), [acts.AudioArrived(f"{n}-0", sound(0.1)) for n in range(1, 81)]
    killed.begin().feed(*after)
    killed.opened()
    assert repeats(killed) == [(4.5 - OVERLAP_S, 4.5, "resumed")]
    life.feed(Draining(0))
    drained = life.reborn()
    drained.begin().feed(*after)
    drained.opened()
    assert repeats(drained) == [(4.5 - OVERLAP_S, 8.0, "resumed")]


@pytest.mark.requirement("STT-14", "STT-15")
@settings(max_examples=40, deadline=None)
@given(words=WORDS, chunks=CHUNKS, ways=WAYS, troubles=TROUBLES)
def test_what_was_sent_is_the_audio_once_and_what_the_ledger_says_again(
    words: Words, chunks: list[int], ways: Ways, troubles: list[Trouble]
) -> None:
    """To the sample, but for the silence that fills a last frame (50 ms at most) and what a killed worker sent."""
    survivable = [trouble for trouble in troubles if trouble.kind != "kill"]
    life = World(entries_of(words, chunks), survivable, replace(ways, jitter=0, drift=0)).run()
    check(life)
    audio, coverage = life.result.audio, life.result.coverage
    again = round((audio.sent_s - coverage.audio_s - life.result.repeated_s) * RATE)
    assert 0 <= again <= 800 * life.result.connections
    assert audio.acked_s == coverage.audio_s


@pytest.mark.requirement("STT-15")
@pytest.mark.parametrize("way", ["cancelled", "failed", "unconfirmed"])
def test_whatever_ends_a_session_all_audio_that_was_taken_is_accounted_for(way: str) -> None:
    life = talking(8.0, Life(request(sample_rate=8_000)).opened())  # a second of bytes is two of sound
    life.says(update(segment(0, word("one", 4.0, 4.5, final=True))))
    if way == "cancelled":
        life.feed(SignalArrived("1-0", "cancel", {}))
    elif way == "failed":
        life.loses(403)
    else:
        life.control(type="end")
        life.later(400)
    coverage = life.result.coverage
    assert coverage.audio_s == 16.0
    assert [(gap.start, gap.end, gap.cause) for gap in coverage.gaps] == [(4.5, 16.0, way)]
    assert (coverage.words_s, coverage.silence_s, coverage.share) == (0.5, 4.0, 4.5 / 16)
    assert life.told(stt.SttGap)[-1].end_at == 16 * RATE
    check(life)


@pytest.mark.requirement("STT-14")
@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from((0.3, 4.0, 11.0)), min_size=1, max_size=5))
def test_meters_only_go_up_whoever_goes_on(spoken: list[float]) -> None:
    life = Life().opened()
    for seconds in spoken:
        talking(seconds, life)
        life.feed(Draining(0))
        life = life.reborn().opened()
    told = [event.audio for event in life.told(stt.SttUsage)]
    for meter in ("sent_s", "acked_s", "billable_s"):
        values = [getattr(each, meter) for each in told]
        assert values == sorted(values)


@pytest.mark.requirement("STT-14")
def test_the_meters_tell_what_was_sent_heard_and_will_be_billed() -> None:
    life = Life(request(idle_timeout_s=3600)).opened()
    again = 9 - 6.5 + OVERLAP_S
    for _ in range(9):
        life.speak(1)
    life.says(update(segment(0, word("one", 6.0, 6.5, final=True))))
    life.loses()
    life.later(1)
    life.opened()
    life.later(9)
    meters = life.told(stt.SttUsage)[-1].audio
    assert (meters.sent_s, meters.acked_s, meters.billable_s) == (9 + again, 6.5, 6.5)
    life.control(type="end")
    life.says(ECHO)
    meters = life.result.audio
    assert (meters.sent_s, meters.acked_s, meters.billable_s) == (9 + again, 9, 6.5 + again)
    check(life)
