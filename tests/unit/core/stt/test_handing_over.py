"""A session goes from worker to worker: asked to, or by a crash; at any moment of its life."""

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import ECHO, OVERLAP_S, RATE, Life, check, kinds, request, segment, sound, update, word
from workers.core.runs.frame import Draining, Finish, Release, SignalArrived
from workers.core.stt import acts


def talking() -> Life:
    """Ten seconds are sent, one word is final, one is not."""
    life = Life(request(idle_timeout_s=3600)).opened()
    for _ in range(20):
        life.speak(0.5)
    life.says(update(segment(0, word("one", 7.0, 7.5, final=True), word("two", 9.0, 9.5))))
    return life


def taken_up(life: Life) -> Life:
    """The next worker's life; it has read the stream again."""
    after = life.reborn().begin()
    first = int(after.done(acts.ReadAudio)[0].after_entry_id.partition("-")[0]) + 1
    after.feed(*(acts.AudioArrived(f"{number}-0", sound(0.5)) for number in range(first, 21)))
    return after


@pytest.mark.requirement("STT-11")
def test_a_hand_over_tells_the_meters_lets_go_and_makes_nothing_final() -> None:
    life = talking()
    done = life.feed(Draining(life.now + 30))
    assert kinds(done) == ["stt.usage", "Disconnect", "Release"]
    assert life.words == ["one"]
    check(life)


@pytest.mark.requirement("STT-10", "STT-11")
@pytest.mark.parametrize("asked", [True, False])
def test_a_successor_sends_what_is_not_final_and_the_overlap_before_it_and_nothing_else(asked: bool) -> None:
    life = talking()
    if asked:
        life.feed(Draining(life.now + 30))
    start = 7.5 - OVERLAP_S
    after = taken_up(life)
    after.opened()
    assert after.told(stt.SttConnected)[-1].start_at == round(start * RATE)
    assert len(after.sent()) == round((10 - start) * RATE) * 2
    times = {"one": (7.0, 7.5), "two": (9.0, 9.5), "three": (9.6, 10.0)}
    words = [word(text, begin - start, end - start, final=True) for text, (begin, end) in times.items()]
    after.says(update(segment(0, *words)))
    assert after.words == ["one", "two", "three"]
    assert [each.start for each in after.told(stt.SttFinal)] == pytest.approx([7.0, 9.0])
    check(after)


def test_a_drain_while_the_connection_opens_stops_opening_it() -> None:
    life = Life().begin()
    life.speak(1)
    assert kinds(life.feed(Draining(life.now + 30))) == ["Disconnect", "Release"]
    assert life.feed(acts.Connected(1)) == []
    assert kinds(life.reborn().begin().trace) == ["run.resumed", "ReadAudio", "Connect"]


def test_a_drain_between_two_tries_leaves_the_next_one_to_the_successor() -> None:
    life = Life().begin()
    life.loses(503)
    assert kinds(life.feed(Draining(life.now + 30))) == ["Release"]
    after = life.reborn().begin()
    assert [each.conn for each in after.done(acts.Connect)] == [2], "at once"
    after.loses(503)
    assert after.told(stt.SttReconnecting)[-1].failures == 2


def test_a_drain_while_the_end_is_awaited_has_the_successor_ask_again() -> None:
    life = talking()
    life.control(type="end")
    life.says(update(segment(0, word("one", 7.0, 7.5, final=True), word("two", 9.0, 9.5, final=True))))
    assert isinstance(life.feed(Draining(life.now + 30))[-1], Release)
    after = taken_up(life)
    after.feed(acts.ControlArrived("21-0", {"type": "end"}))
    after.opened()
    assert after.done(acts.SendText)[-1].message == ECHO
    start = after.told(stt.SttConnected)[-1].start_at / RATE
    after.says(update(segment(0, word("two", 9.0 - start, 9.5 - start, final=True))), ECHO)
    assert (after.result.text, after.result.coverage.audio_s, after.result.coverage.gaps) == ("one two", 10.0, [])
    check(after)


def test_a_second_drain_decides_nothing() -> None:
    life = talking()
    life.feed(Draining(life.now + 30))
    assert life.feed(Draining(life.now + 30), SignalArrived("9-0", "cancel", {}), acts.Said(1, ECHO)) == []
    assert life.machine.deadline is None


@pytest.mark.requirement("STT-10")
def test_a_crash_between_the_finals_of_one_message_loses_and_doubles_none() -> None:
    life = talking()
    told = len(life.journal)
    life.says(
        update(
            segment(0, word("one", 7.0, 7.5, final=True), word("two", 9.0, 9.5, final=True)),
            segment(1, word("three", 9.5, 9.8, final=True)),
        )
    )
    for kept in range(told, len(life.journal) + 1):
        after = taken_up(Life(life.request, life.journal[:kept], life.now, entries=life.entries))
        after.opened()
        start = after.told(stt.SttConnected)[-1].start_at / RATE
        heard = [("one", 7.0, 7.5), ("two", 9.0, 9.5), ("three", 9.5, 9.8)]
        after.says(update(segment(0, *(word(text, at - start, end - start, final=True) for text, at, end in heard))))
        assert after.words == ["one", "two", "three"], kept
        check(after)


def test_a_cancel_while_the_connection_opens_ends_the_session() -> None:
    life = Life().begin()
    life.speak(1)
    done = life.feed(SignalArrived("5-0", "cancel", {}))
    assert kinds(done) == ["run.cancelling", "stt.gap", "stt.closed", "Disconnect", "Finish"]
    assert life.result.coverage.gaps_s == 1.0
    check(life)


def test_a_cancel_while_the_end_is_awaited_keeps_what_was_said() -> None:
    life = talking()
    life.control(type="end")
    life.feed(SignalArrived("5-0", "cancel", {}))
    assert isinstance(life.end, Finish)
    assert (life.result.status, life.result.text) == ("cancelled", "one two")
    check(life)


def test_a_deadline_that_passes_while_the_end_is_awaited_fails_the_run() -> None:
    life = Life(request(deadline_s=20)).opened()
    life.speak(1)
    life.control(type="end")
    life.later(20)
    assert life.result.failure
    assert life.result.failure.code == "deadline_exceeded"


def test_a_stream_that_vanished_leaves_what_was_final() -> None:
    """Nothing is read any more, and nobody knows what was in it."""
    life = talking()
    after = Life(request(idle_timeout_s=30), life.journal, life.now + 1).opened()
    after.later(30)
    assert (after.result.status, after.result.ended_by, after.result.text) == ("completed", "idle", "one")
    assert after.result.coverage.audio_s == 7.5
    check(after)
