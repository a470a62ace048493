"""How late audio, finals and echoes are, by the times that entries and probes bear."""

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import ECHO, T0, Life, check, segment, sound, update, word
from workers.core.stt import acts
from workers.core.stt.latency import ago


def heard(life: Life, written_at: float, seconds: float = 1.0) -> None:
    """Let audio arrive that was written then; its id says so."""
    life.feed(acts.AudioArrived(f"{round(written_at * 1000)}-0", sound(seconds)))


@pytest.mark.requirement("STT-20")
def test_a_final_tells_how_long_ago_its_last_sound_was_written() -> None:
    life = Life().opened()
    for second in range(5):
        life.at(T0 + second + 0.2)
        heard(life, T0 + second)
    life.at(T0 + 6.0)
    life.says(update(segment(0, word("one", 0.1, 0.9, final=True), word("two", 1.5, 2.0, final=True))))
    life.at(T0 + 6.5)
    life.says(update(segment(1, word("three", 3.2, 3.4, final=True))))
    assert [final.after_s for final in life.told(stt.SttFinal)] == [5.0, 3.5], "written at 1 s and at 3 s"
    life.control(type="end")
    life.says(ECHO)
    check(life)


@pytest.mark.requirement("STT-20")
def test_the_worst_of_each_is_told_with_the_meters_and_begins_anew() -> None:
    life = Life().opened()
    heard(life, T0 - 1.5)
    heard(life, T0 - 0.25, seconds=5)
    [probe] = [text.message for text in life.done(acts.SendText)]
    life.later(0.4)
    life.says({**probe, "object": "stt.output.trace"})
    life.says(update(segment(0, word("one", 0.1, 0.9, final=True))))
    life.later(10)
    heard(life, life.now - 0.125)
    life.later(10)
    first, second = life.told(stt.SttUsage)[:2]
    assert first.latency == stt.SttLatency(audio_s=1.5, final_s=1.9, trace_s=0.4)
    assert second.latency == stt.SttLatency(audio_s=0.125)
    life.says({**probe, "object": "stt.output.trace"})
    life.control(type="end")
    life.says(ECHO)
    assert all(usage.latency is None or usage.latency.trace_s is None for usage in life.told(stt.SttUsage)[1:])
    check(life)


@pytest.mark.requirement("STT-20")
def test_a_final_of_audio_that_is_sent_again_counts_from_its_first_write() -> None:
    life = Life().opened()
    heard(life, T0)
    life.loses()
    life.retries()
    life.opened()
    life.at(T0 + 4)
    life.says(update(segment(0, word("one", 0.1, 0.9, final=True))))
    assert life.told(stt.SttFinal)[0].after_s == 4.0


@pytest.mark.requirement("STT-20")
@pytest.mark.parametrize(("entry", "passed"), [("998500-0", 1.5), ("1000200-3", 0.0), ("1-0", 999.999)])
def test_an_id_is_the_time_of_its_write(entry: str, passed: float) -> None:
    assert ago(entry, T0) == pytest.approx(passed)


@pytest.mark.requirement("STT-20")
def test_an_id_that_a_producer_made_up_tells_nothing() -> None:
    life = Life(now=1.7e9).opened()
    life.feed(acts.AudioArrived("7-0", sound(1)))
    life.says(update(segment(0, word("one", 0.1, 0.9, final=True))))
    life.control(type="end")
    life.says(ECHO)
    assert life.told(stt.SttFinal)[0].after_s is None
    assert all(usage.latency is None for usage in life.told(stt.SttUsage))
