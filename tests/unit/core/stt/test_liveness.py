"""Signs of life, and what is done without them: keep-alive, the watchdog, connections that are too old."""

from typing import Any

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import ECHO, OVERLAP_S, RATE, Life, check, kinds, request, segment, sound, update, word
from workers.core.runs.frame import Action, Woke
from workers.core.stt import acts
from workers.core.stt.waiting import UNPROVEN_S, stalled_at

pytestmark = pytest.mark.requirement("STT-13")

SILENCE = bytes(3_200)


def session(**fields: Any) -> Life:
    return Life(request(**{"idle_timeout_s": 3600, **fields})).opened()


def echo(life: Life) -> list[Action]:
    """Let the provider echo every trace of the present connection that it has not echoed."""
    sent = [text for text in life.done(acts.SendText) if text.conn == life.conn]
    return life.says(*({**text.message, "object": "stt.output.trace"} for text in sent if "trace_id" in text.message))


def talk(life: Life, seconds: int) -> None:
    """Speak in real time; the provider echoes what it is asked, and finds nothing to say."""
    for _ in range(seconds):
        life.speak(1)
        echo(life)
        life.later(1)


def signs(done: list[Action]) -> list[Action]:
    return [act for act in done if isinstance(act, acts.SendAudio | acts.SendText)]


def lost_at(life: Life, number: int) -> float:
    return [at for event, at in life.journal if isinstance(event, stt.SttLost)][number]


# -- keep-alive --------------------------------------------------------------------------------------------------------


def test_a_connection_that_is_sent_nothing_is_shown_that_somebody_is_there() -> None:
    life = session(keep_alive_s=20)
    life.speak(1)
    assert signs(life.later(19.9)) == []
    audio, trace = life.later(0.1)
    assert audio == acts.SendAudio(1, SILENCE)
    assert isinstance(trace, acts.SendText)
    assert trace.message["object"] == "stt.input.trace"


def test_a_connection_that_is_fed_needs_no_sign() -> None:
    life = session(keep_alive_s=20)
    talk(life, 60)
    assert life.sent() == sound(60)


@pytest.mark.parametrize(
    ("fields", "expected"), [({"keep_alive": "trace"}, ["SendText"]), ({"keep_alive_s": None}, [])]
)
def test_the_sign_may_be_a_trace_alone_or_none(fields: dict[str, Any], expected: list[str]) -> None:
    life = session(**fields)
    life.speak(1)
    assert kinds(signs(life.later(20))) == expected


def test_every_sign_has_a_name_of_its_own() -> None:
    life = session(keep_alive="trace")
    for _ in range(5):
        life.later(20)
        echo(life)
    names = [text.message["trace_id"] for text in life.done(acts.SendText)]
    assert len(names) == len(set(names)) == 5


def test_silence_of_ours_takes_no_place_on_the_timeline() -> None:
    """What is held for a frame goes out before it; half a sample stays where it is."""
    life = session(keep_alive_s=5)
    life.speak(pcm=sound(0.12) + b"\x01")
    life.later(5)
    life.speak(pcm=b"\x02" + sound(0.98))
    assert life.sent() == sound(0.12) + bytes(960) + SILENCE + b"\x01\x02" + life.sent()[len(SILENCE) + 4_802 :]
    silence = 0.1 + 0.03
    life.says(update(segment(0, word("one", 0.5 + silence, 0.9 + silence, final=True))))
    [told] = life.told(stt.SttFinal)[0].words
    assert (told.start, told.end) == (pytest.approx(0.5, abs=2e-3), pytest.approx(0.9, abs=2e-3))
    life.control(type="end")
    life.says(ECHO)
    assert life.result.coverage.audio_s == pytest.approx(1.1, abs=1e-4)
    check(life)


def test_many_signs_are_held_as_one() -> None:
    life = session(keep_alive_s=1, stall_timeout_s=None)
    life.speak(1)
    for _ in range(100):
        *_, trace = signs(life.later(1))
        assert isinstance(trace, acts.SendText)
        life.says({**trace.message, "object": "stt.output.trace"})
    conn = life.machine._wire.conn
    assert conn is not None
    assert len(conn.course) < 5
    assert len(conn._marks) < 5


def test_a_session_that_heard_only_signs_ends_at_once() -> None:
    life = session(keep_alive_s=20)
    life.later(30)
    assert kinds(life.control(type="end")) == ["stt.usage", "stt.closed", "Disconnect", "Finish"]
    assert life.result.text == ""


def test_while_the_end_is_awaited_no_sign_is_sent() -> None:
    life = session(keep_alive_s=5)
    life.speak(1)
    life.control(type="end")
    assert not any(isinstance(act, acts.SendAudio) for act in life.later(20))


# -- the watchdog ------------------------------------------------------------------------------------------------------


def test_a_connection_that_is_sent_audio_and_says_nothing_is_given_up() -> None:
    life = session(stall_timeout_s=30)
    talk(life, 10)
    life.speak(5)  # its trace is never echoed
    life.later(5 + 29.9)
    assert life.told(stt.SttLost) == []
    done = life.later(0.2)
    assert kinds(done)[:3] == ["Disconnect", "stt.lost", "stt.reconnecting"]
    assert life.told(stt.SttLost)[0].reason == "stalled: it was sent audio and said nothing"
    life.retries()
    life.opened()
    assert life.sent(2) == life.sent(1)[-len(life.sent(2)) :], "what it may not have heard is sent again"
    assert len(life.sent(2)) >= len(sound(5))
    check(life)


def test_whatever_it_says_is_a_sign_of_life() -> None:
    life = session(stall_timeout_s=30)
    talk(life, 10)
    life.speak(5)
    for at in range(10):
        life.later(20)
        life.says(update(segment(0, word("a" * (1 + at % 2), 11, 12))))
    assert life.told(stt.SttLost) == []


def test_the_limit_can_be_lifted() -> None:
    life = session(stall_timeout_s=None)
    life.speak(60)
    life.later(3_000)
    assert life.told(stt.SttLost) == []


def test_a_provider_that_never_echoed_gets_more_time_and_then_ever_more() -> None:
    """It may be all well, and nobody speaks: such a session must not run out of tries."""
    life = session(stall_timeout_s=30, keep_alive_s=None)
    waits: list[float] = []
    while len(waits) < 6:
        life.speak(5)
        since = life.now
        while len(life.told(stt.SttLost)) == len(waits):
            life.later(10)
        waits.append(lost_at(life, len(waits)) - since)
        life.retries()
        life.opened()
    assert waits[0] >= UNPROVEN_S
    assert waits == sorted(waits)
    assert waits[-1] > 1_900
    assert {each.failures for each in life.told(stt.SttReconnecting)} == {1}
    assert not life.end


def test_the_patience_with_such_a_provider_has_an_end() -> None:
    life = session()
    life.speak(5)
    heard_at, conn = life.now + 5, life.machine._wire.conn
    assert conn is not None
    times = [stalled_at(conn, life.request, echoes=False, in_vain=count) or 0.0 for count in range(9)]
    assert [round(at - heard_at) for at in times] == [60, 120, 240, 480, 960, 1920, 3840, 3840, 3840]


def test_a_provider_that_is_silent_while_the_end_is_awaited_is_waited_for() -> None:
    life = session(stall_timeout_s=5)
    talk(life, 5)
    life.speak(5)
    life.control(type="end")
    life.later(29.9)
    assert (life.told(stt.SttLost), life.end) == ([], None)


def test_a_provider_that_never_echoed_owes_no_answer_to_our_own_silence() -> None:
    life = session()
    life.speak(1)
    life.later(3_000)
    assert life.told(stt.SttLost) == []


def test_a_process_that_stood_still_suspects_nobody() -> None:
    """What was said meanwhile is not read yet."""
    life = session(stall_timeout_s=30)
    talk(life, 10)
    life.speak(5)
    life.now += 300
    life.feed(Woke())
    assert life.told(stt.SttLost) == []
    echo(life)
    life.later(19)
    assert life.told(stt.SttLost) == []


def test_a_provider_that_stalls_every_time_ends_the_session_in_the_end() -> None:
    life = session(stall_timeout_s=30, keep_alive_s=10)
    talk(life, 6)
    for _ in range(20):
        if life.end:
            break
        life.later(60)
        if not life.end and life.done(acts.Connect)[-1].conn > len(life.told(stt.SttConnected)):
            life.opened()
    assert life.result.failure
    assert life.result.failure.code == "stt_lost"


# -- the longest -------------------------------------------------------------------------------------------------------


def asked_to_close(life: Life) -> float:
    """Let time pass until the session asks for the rest; return after how many seconds of this life."""
    began = life.now
    while not any(text.message == ECHO for text in life.done(acts.SendText)):
        assert life.now - began < 100, "it goes on"
        life.later(0.5)
    return life.now - began


@pytest.mark.parametrize(
    ("longest", "dead_s", "rest"), [(30, 10, 20.0), (30, 27, 5.0), (30, 300, 5.0), (2, None, 2.0), (30, None, 30.0)]
)
def test_a_session_is_no_longer_than_it_may_be_but_who_takes_it_up_may_read_what_is_there(
    longest: float, dead_s: float | None, rest: float
) -> None:
    life = session(max_duration_s=longest)
    life.speak(1)
    if dead_s is not None:
        life.now += dead_s - 1
        life = life.reborn().opened()  # a second later
        life.feed(acts.AudioArrived("1-0", sound(1)))
    assert asked_to_close(life) == rest


# -- too old -----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_in_the_first_silence_after_its_time_a_connection_is_replaced_before_it_closes() -> None:
    life = session(rollover_s=300)
    talk(life, 298)
    life.speak(1)
    life.says(update(segment(0, word("one", 297.5, 298.0))))
    life.later(3)
    assert len(life.done(acts.Connect)) == 1, "somebody speaks"
    life.says(update(segment(0, word("one", 297.5, 298.0, final=True))))
    assert life.later(0.9) == []
    assert kinds(life.later(0.1)) == ["stt.end_of_speech", "Connect"]
    assert life.done(acts.Connect)[-1].conn == 2
    assert life.done(acts.Disconnect) == []
    life.opened()
    assert kinds(life.trace)[-1] == "Disconnect"
    assert life.told(stt.SttReconnecting)[-1].reason == "the connection was replaced before it is too old"
    start = life.told(stt.SttConnected)[-1].start_at
    assert start == round((298 - OVERLAP_S) * RATE), "so much before the end of what is final"
    check(life)


def test_without_silence_it_is_replaced_when_it_is_a_twentieth_older() -> None:
    life = session(rollover_s=100)
    life.speak(1)
    life.says(update(segment(0, word("one", 0.2, 0.4))))
    life.at(life.now + 104.9)
    assert len(life.done(acts.Connect)) == 1
    life.later(0.1)
    assert len(life.done(acts.Connect)) == 2
    life.opened()
    assert life.sent(2)[: len(sound(1))] == sound(1)
    life.says(update(segment(0, word("one", 0.2, 0.4, final=True))))
    assert life.words == ["one"]


def test_each_connection_has_its_own_age() -> None:
    life = session(rollover_s=100)
    for count in range(1, 5):
        life.later(100)
        assert life.done(acts.Connect)[-1].conn == count + 1
        life.opened()
    assert life.told(stt.SttLost) == []
    assert {each.failures for each in life.told(stt.SttReconnecting)} == {0}


def test_the_rollover_can_be_left_out() -> None:
    life = session(rollover_s=None, stall_timeout_s=None)
    life.later(3_500)
    assert len(life.done(acts.Connect)) == 1


@pytest.mark.parametrize("code", [503, 429, 403])
def test_a_provider_that_takes_no_second_connection_keeps_the_first(code: int) -> None:
    life = session(rollover_s=100, stall_timeout_s=None)
    life.later(100)
    for _ in range(10):
        life.feed(acts.Disconnected(life.conn, code, "no", retryable=code != 403, jitter=1.0))
        life.later(11)
    assert life.told(stt.SttReconnecting) == []
    life.speak(1)
    assert life.sent(1)[-len(sound(1)) :] == sound(1)
    life.opened()
    assert kinds(life.trace)[-1] == "Disconnect"


def test_a_session_that_is_at_its_end_replaces_nothing() -> None:
    life = session(rollover_s=100, stall_timeout_s=None)
    life.speak(1)
    life.later(99)
    life.control(type="end")
    assert not any(isinstance(act, acts.Connect) for act in life.later(5))
    life = session(rollover_s=100, stall_timeout_s=None)
    life.speak(1)
    life.later(100)
    done = life.control(type="end")
    assert acts.Disconnect(2) in done
    assert done[-1] == acts.SendText(1, ECHO)
