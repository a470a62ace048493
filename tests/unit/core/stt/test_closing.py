"""How a session ends, and how its audio adds up."""

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import (
    ECHO,
    OVERLAP_S,
    RATE,
    T0,
    Life,
    check,
    kinds,
    request,
    segment,
    sound,
    update,
    word,
)
from workers.core.runs.frame import Draining, Finish, Release, SignalArrived, Woke
from workers.core.stt import acts


def speaking(*words: dict[str, object], seconds: float = 3.0, **fields: object) -> Life:
    """A session in which this was said of so much audio."""
    life = Life(request(**fields)).opened()
    life.speak(seconds)
    if words:
        life.says(update(segment(0, *words)))
    return life


@pytest.mark.requirement("STT-08")
def test_the_end_flushes_asks_for_the_rest_and_ends_with_the_echo() -> None:
    life = speaking(word("one", 0.1, 0.4, final=True), word("two", 0.5, 0.8))
    life.speak(0.07)
    done = life.control(type="end")
    assert kinds(done) == ["SendAudio", "SendText"]
    assert life.done(acts.SendText)[-1].message == {"checkpoint_id": "final"}
    assert life.sent() == sound(3.07)
    done = life.says(ECHO)
    assert kinds(done) == ["stt.final", "stt.end_of_speech", "stt.usage", "stt.closed", "Disconnect", "Finish"]
    result = life.result
    assert (result.status, result.ended_by, result.text) == ("completed", "end", "one two")
    assert (result.coverage.share, result.coverage.gaps, result.coverage.audio_s) == (1.0, [], 3.07)
    assert (result.audio.sent_s, result.audio.acked_s, result.audio.billable_s) == (3.07, 3.07, 3.07)
    check(life)


@pytest.mark.requirement("STT-08")
def test_what_comes_with_or_before_the_echo_counts() -> None:
    life = speaking()
    life.control(type="end")
    life.says(update(segment(0, word("one", 0.1, 0.4))))
    life.says({**update(segment(0, word("won", 0.1, 0.4))), **ECHO})
    assert life.result.text == "won"


def test_an_echo_that_nobody_asked_for_ends_nothing() -> None:
    life = speaking()
    life.says(ECHO)
    assert not life.end
    life.control(type="end")
    life.says({"checkpoint_id": "other"})
    assert not life.end


@pytest.mark.parametrize("code", [1000, 1005])
def test_a_clean_close_after_the_checkpoint_counts_as_its_echo(code: int) -> None:
    life = speaking(word("one", 0.1, 0.4))
    life.control(type="end")
    life.loses(code)
    assert (life.result.status, life.result.text, life.result.coverage.share) == ("completed", "one", 1.0)


def test_a_connection_lost_while_it_closes_is_tried_again() -> None:
    life = speaking(word("one", 0.1, 0.4))
    life.control(type="end")
    life.loses(1011)
    life.later(1)
    life.opened()
    assert life.sent(2) == sound(3)
    assert life.done(acts.SendText)[-1] == acts.SendText(2, {"checkpoint_id": "final"})
    life.says(update(segment(0, word("one", 0.1, 0.4, final=True))), ECHO)
    assert (life.result.text, life.result.connections) == ("one", 2)


@pytest.mark.requirement("STT-08")
def test_without_an_echo_three_seconds_of_quiet_after_a_final_end_the_session() -> None:
    life = speaking()
    life.later(3)
    life.control(type="end")
    life.later(5)
    life.says(update(segment(0, word("one", 0.1, 0.4, final=True))))
    life.later(2.9)
    assert not life.end
    life.later(0.2)
    assert (life.result.status, life.result.text, life.result.coverage.gaps) == ("completed", "one", [])


@pytest.mark.requirement("STT-08")
def test_a_process_that_stood_still_waits_anew_for_the_end() -> None:
    """It sent nothing meanwhile, and what the provider said is not read yet: a word was taken for silence."""
    life = speaking()
    life.later(3)
    life.control(type="end")
    life.later(5)
    life.says(update(segment(0, word("one", 0.1, 0.4, final=True))))
    life.now += 27
    life.feed(Woke())
    assert not life.end
    life.says(update(segment(0, word("one", 0.1, 0.4, final=True), word("two", 0.5, 0.8, final=True))), ECHO)
    assert (life.result.text, life.result.coverage.gaps) == ("one two", [])


def test_a_provider_that_is_behind_is_given_the_time_that_speech_takes() -> None:
    life = speaking(seconds=60)  # all at once, as after a reconnect
    life.control(type="end")
    life.says(update(segment(0, word("one", 0.1, 0.4, final=True))))
    life.later(29)
    assert not life.end


@pytest.mark.requirement("STT-08")
def test_without_any_word_thirty_seconds_end_the_session_and_the_rest_is_a_gap() -> None:
    life = speaking(word("one", 0.1, 0.4, final=True), word("two", 0.5, 0.8))
    life.control(type="end")
    life.later(29.9)
    assert not life.end
    life.later(0.2)
    result = life.result
    assert (result.status, result.text) == ("completed", "one two")
    assert [(gap.start, gap.end, gap.cause) for gap in result.coverage.gaps] == [(0.8, 3.0, "unconfirmed")]
    check(life)


def test_a_session_without_audio_asks_nobody() -> None:
    life = Life().begin()
    done = life.control(type="end")
    assert kinds(done) == ["stt.closed", "Disconnect", "Finish"]
    assert (life.result.status, life.result.text, life.result.coverage.share) == ("completed", "", 1.0)
    check(life)


def test_an_end_without_a_connection_waits_for_one() -> None:
    life = Life().begin()
    life.speak(1)
    assert life.control(type="end") == []
    life.opened()
    assert kinds(life.trace)[-2:] == ["SendAudio", "SendText"]


def test_audio_after_the_end_is_not_heard() -> None:
    life = speaking()
    life.control(type="end")
    assert life.speak(1) == []
    assert life.control(type="end") == []
    life.says(ECHO)
    assert life.result.coverage.audio_s == 3.0


def test_after_the_end_nothing_is_decided() -> None:
    life = speaking()
    life.control(type="end")
    life.says(ECHO)
    facts = [acts.Said(1, ECHO), acts.AudioArrived("9-0", b"ab"), Draining(0), SignalArrived("1-0", "cancel", {})]
    assert life.feed(*facts) == []
    assert life.machine.state.cancelling is None


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-13")
def test_a_producer_that_falls_silent_ends_the_session() -> None:
    life = speaking(idle_timeout_s=20)
    life.later(10)
    life.speak(1)
    life.later(19.9)
    assert life.done(acts.SendText) == []
    life.later(0.1)
    assert life.done(acts.SendText)[-1].message == ECHO
    life.says(ECHO)
    assert (life.result.status, life.result.ended_by) == ("completed", "idle")
    check(life)


@pytest.mark.requirement("STT-13")
def test_a_session_ends_at_its_longest() -> None:
    life = speaking(max_duration_s=30)
    for _ in range(6):
        life.later(5)
        life.speak(1)
    life.says(ECHO)
    assert (life.result.status, life.result.ended_by, life.result.coverage.audio_s) == (
        "completed",
        "max_duration",
        8.0,
    )


def test_a_session_that_is_taken_up_after_its_longest_still_reads_what_is_there() -> None:
    life = speaking(max_duration_s=30)
    life.now += 60
    again = life.reborn().begin()
    again.speak(1)
    again.opened()
    assert again.done(acts.SendText) == []
    again.later(5.1)
    again.says(ECHO)
    assert again.result.coverage.audio_s == 1.0


def test_the_runs_deadline_fails_it() -> None:
    life = speaking(word("one", 0.1, 0.4), deadline_s=30)
    life.at(T0 + 30)
    assert life.result.failure
    assert (life.result.failure.code, life.result.text) == ("deadline_exceeded", "one")
    assert [gap.cause for gap in life.result.coverage.gaps] == ["failed"]
    check(life)


def test_a_run_that_is_late_before_it_begins_fails_at_once() -> None:
    life = Life(request(deadline_s=5), now=T0 + 6).begin()
    assert kinds(life.trace) == ["run.started", "stt.closed", "Finish"]
    assert life.result.status == "failed"


def test_a_cancel_keeps_what_was_said() -> None:
    life = speaking(word("one", 0.1, 0.4, final=True), word("two", 0.5, 0.8))
    life.feed(SignalArrived("5-0", "cancel", {"reason": "hung up"}))
    assert isinstance(life.end, Finish)
    assert (life.end.status, life.end.reason) == ("cancelled", "hung up")
    assert (life.result.text, life.result.ended_by) == ("one two", "cancelled")
    assert [(gap.start, gap.end, gap.cause) for gap in life.result.coverage.gaps] == [(0.8, 3.0, "cancelled")]
    assert life.machine.cursor == "5-0"
    assert life.done(acts.Disconnect)[-1].conn == 1
    check(life)


def test_a_cancel_before_the_begin_ends_the_run() -> None:
    life = Life()
    life.feed(SignalArrived("5-0", "cancel", {}))
    assert kinds(life.trace) == ["run.cancelling", "stt.closed", "Finish"]


def test_a_cancelled_run_that_is_taken_up_again_ends() -> None:
    life = Life().begin()
    life.speak(1)
    life.feed(SignalArrived("5-0", "cancel", {"reason": "x"}))
    kept = [(event, at) for event, at in life.journal if event.TYPE.startswith("run.")]
    again = Life(journal=kept, now=life.now + 1).begin()
    assert isinstance(again.end, Finish)
    assert (again.end.status, again.end.reason) == ("cancelled", "x")


def test_a_conflicting_message_is_noted() -> None:
    life = Life().begin()
    life.feed(SignalArrived("5-0", "conflict", {"digest": "d"}), SignalArrived("6-0", "tool_result", {}))
    assert life.types[-2:] == ["run.conflict", "run.ignored"]
    assert not life.end


# -- hand-over and crashes ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-11")
def test_a_drain_lets_go_at_once() -> None:
    life = speaking(word("one", 0.1, 0.4), seconds=3.0)
    done = life.feed(Draining(life.now + 30))
    assert kinds(done) == ["stt.usage", "Disconnect", "Release"]
    assert life.told(stt.SttUsage)[-1].audio.sent_s == 3.0
    check(life)
    again = life.reborn().begin()
    assert again.done(acts.ReadAudio)[0].after_entry_id == "0"


def test_a_drain_before_the_begin_begins_nothing() -> None:
    life = Life()
    life.feed(Draining(0))
    assert [type(action) for action in life.trace] == [Release]


def test_a_session_that_was_closed_but_not_finished_is_finished() -> None:
    life = speaking(word("one", 0.1, 0.4))
    life.control(type="end")
    life.says(ECHO)
    again = life.reborn().begin()
    assert kinds(again.trace) == ["run.resumed", "Finish"]
    assert again.result.model_dump(exclude={"timings"}) == life.result.model_dump(exclude={"timings"})


def test_a_failed_session_that_was_closed_but_not_finished_fails_for_the_same_reason() -> None:
    life = Life().begin()
    life.loses(403)
    again = life.reborn().begin()
    assert (again.result.status, again.result.failure) == ("failed", life.result.failure)


@pytest.mark.requirement("STT-10")
def test_a_successor_reads_after_the_anchor_and_hears_what_was_not_final() -> None:
    upto = OVERLAP_S + 2.4
    life = Life().opened()
    for _ in range(20):
        life.speak(0.5)
    life.says(update(segment(0, word("one", upto - 0.4, upto, final=True), word("two", upto + 0.1, upto + 0.6))))
    final = life.told(stt.SttFinal)[0]
    assert (final.anchor_entry, final.anchor_at) == ("4-0", 2 * RATE)
    again = life.reborn().begin()
    assert again.done(acts.ReadAudio)[0].after_entry_id == "4-0"
    again.feed(*(acts.AudioArrived(f"{number}-0", sound(0.5)) for number in range(5, 21)))
    again.opened()
    start = again.told(stt.SttConnected)[-1].start_at
    assert start == round(2.4 * RATE)
    one, two = (
        word("one", OVERLAP_S - 0.4, OVERLAP_S, final=True),
        word("two", OVERLAP_S + 0.1, OVERLAP_S + 0.6, final=True),
    )
    again.says(update(segment(0, one, two)))
    assert again.words == ["one", "two"]
    check(again)


# -- what may be trimmed -----------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-17")
def test_audio_is_trimmed_after_the_event_that_settles_it() -> None:
    one = word("one", OVERLAP_S + 4.5, OVERLAP_S + 4.9, final=True)
    life = Life().opened()
    for _ in range(24):
        life.speak(0.5)
    done = life.says(update(segment(0, one, word("two", OVERLAP_S + 5.5, OVERLAP_S + 6.0))))
    assert kinds(done) == ["stt.start_of_speech", "stt.final", "stt.interim"], "a few seconds are not worth it"
    done = life.says(update(segment(0, one, word("two", OVERLAP_S + 5.5, OVERLAP_S + 6.0, final=True))))
    assert kinds(done) == ["stt.final", "TrimAudio"]
    assert life.done(acts.TrimAudio)[0].before_entry_id == "12-0"


def echoed(life: Life) -> None:
    for text in life.done(acts.SendText):
        life.says({**text.message, "object": "stt.output.trace"})


def test_silence_is_settled_when_the_provider_has_passed_it_and_says_nothing() -> None:
    life = Life(request(idle_timeout_s=3600)).opened()
    for _ in range(60):
        life.speak(0.5)
        life.later(0.5)
        echoed(life)
    settled = [(usage.settled_at / RATE, usage.anchor_at / RATE) for usage in life.told(stt.SttUsage)]
    assert settled == [(0.0, 0.0), (5.0, 5.0 - OVERLAP_S), (15.0, 15.0 - OVERLAP_S)]
    assert [trim.before_entry_id for trim in life.done(acts.TrimAudio)] == [f"{round((15 - OVERLAP_S) / 0.5)}-0"]
    assert life.told(stt.SttUsage)[-1].audio.acked_s == 25.0
    check(life)


def test_an_echo_settles_nothing_where_a_word_is_still_open() -> None:
    life = Life(request(idle_timeout_s=3600)).opened()
    for _ in range(12):
        life.speak(0.5)
        life.later(0.5)
    life.says(update(segment(0, word("one", 2.0, 2.5))))
    echoed(life)
    life.later(60)
    assert life.told(stt.SttUsage)[-1].settled_at == 2 * RATE


def test_an_echo_alone_settles_nothing() -> None:
    """A trace is not a flush (WIRE 7.23): sent at once, 60 s of audio take the provider as long to hear."""
    life = Life(request(idle_timeout_s=3600)).begin()
    for _ in range(60):
        life.speak(1)
    life.opened()
    echoed(life)
    life.later(30)
    assert life.machine.state.settled <= 20 * RATE
    life.later(60)
    assert life.machine.state.settled == 60 * RATE


def test_an_echo_of_nothing_we_sent_is_passed_over() -> None:
    life = speaking(seconds=12)
    life.says({"object": "stt.output.trace", "trace_id": "final"}, {"object": "stt.output.trace", "trace_id": None})
    assert not life.end
    assert life.told(stt.SttTrouble) == []


# -- gaps and meters ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-15")
def test_missing_audio_is_a_gap_and_the_words_after_it_keep_their_place() -> None:
    life = Life().opened()
    life.speak(2)
    life.feed(acts.AudioMissing(3 * RATE))
    [gap] = life.told(stt.SttGap)
    assert (gap.start, gap.end, gap.start_at, gap.end_at, gap.cause) == (2.0, 5.0, 2 * RATE, 5 * RATE, "lost")
    life.speak(2)
    life.says(update(segment(0, word("one", 1.0, 1.5, final=True), word("two", 2.5, 3.0, final=True))))
    assert [(each.start, each.end) for each in life.told(stt.SttFinal)[0].words] == [(1.0, 1.5), (5.5, 6.0)]
    life.control(type="end")
    life.says(ECHO)
    coverage = life.result.coverage
    assert (coverage.audio_s, coverage.words_s, coverage.gaps_s, coverage.silence_s) == (7.0, 1.0, 3.0, 3.0)
    assert coverage.share == pytest.approx(4 / 7)
    assert (life.result.audio.sent_s, life.result.audio.acked_s) == (4.0, 4.0)
    check(life)


def test_a_successor_keeps_the_gaps_that_are_known() -> None:
    life = Life().opened()
    life.speak(2)
    life.feed(acts.AudioMissing(3 * RATE))
    life.speak(2)
    again = life.reborn().opened()
    again.feed(acts.AudioArrived("1-0", sound(2)), acts.AudioMissing(RATE), acts.AudioArrived("2-0", sound(2)))
    assert len(again.told(stt.SttGap)) == 1
    again.says(update(segment(0, word("two", 2.5, 3.0, final=True))))
    assert again.told(stt.SttFinal)[0].start == 5.5
    again.control(type="end")
    again.says(ECHO)
    assert again.result.coverage.audio_s == 7.0
    check(again)


@pytest.mark.requirement("STT-15")
def test_where_it_is_known_how_many_bytes_are_gone_time_is_not_asked() -> None:
    life = Life(request(sample_rate=8_000)).opened()
    life.feed(acts.AudioMissing(9 * RATE, 1_600, size=3 * 1_600))
    assert [(gap.start_at, gap.end_at, gap.after_entry) for gap in life.told(stt.SttGap)] == [(0, 4_800, "0")]


@pytest.mark.requirement("STT-15", "STT-17")
def test_audio_that_is_gone_does_not_wait_to_be_heard() -> None:
    life = Life(request(backlog_s=20)).opened()
    life.speak(2)
    life.feed(acts.AudioMissing(60 * RATE))
    life.speak(18)
    assert (life.told(stt.SttLag), life.end) == ([], None)
    life.speak(1)
    assert [each.behind_s for each in life.told(stt.SttLag)] == [21.0]


def test_nothing_missing_is_no_gap() -> None:
    life = speaking()
    assert life.feed(acts.AudioMissing(0)) == []


def test_the_meters_go_on_in_the_next_life() -> None:
    life = speaking(word("one", 0.1, 0.4, final=True))
    life.feed(Draining(0))
    again = life.reborn().opened()
    again.feed(acts.AudioArrived("1-0", sound(3)), acts.ControlArrived("2-0", {"type": "end"}))
    again.says(ECHO)
    assert (again.result.audio.sent_s, again.result.audio.acked_s) == (6, 3)


# -- the result --------------------------------------------------------------------------------------------------------


def test_the_result_puts_the_segments_together_again() -> None:
    life = speaking(word("one", 0.1, 0.4, final=True), word("two", 0.5, 0.8))
    life.says(update(segment(0, word("one", 0.1, 0.4), word("two", 0.5, 0.8, final=True, language="de"))))
    life.says(update(segment(1, word("three", 1.0, 1.4, final=True))))
    life.control(type="end")
    life.says(ECHO)
    result = life.result
    assert [(each.id, each.text, each.start, each.end) for each in result.segments] == [
        (0, "one two", 0.1, 0.8),
        (1, "three", 1.0, 1.4),
    ]
    assert (result.language, result.connections) == ("en", 1)
    assert len(life.told(stt.SttFinal)) == 3


def test_the_result_carries_only_the_lists_that_were_asked_for() -> None:
    life = speaking(word("one", 0.1, 0.4, final=True), timestamps=["segment"])
    life.control(type="end")
    life.says(ECHO)
    assert life.result.words == []
    assert len(life.result.segments) == 1


def test_the_result_tells_how_long_it_took() -> None:
    life = Life(now=T0 + 1).begin()
    life.now = T0 + 2
    life.opened()
    life.speak(1)
    life.now = T0 + 3
    life.says(update(segment(0, word("one", 0.1, 0.4))))
    life.now = T0 + 4
    life.control(type="end")
    life.says(update(segment(0, word("one", 0.1, 0.4, final=True))))
    life.now = T0 + 5
    life.says(ECHO)
    assert life.result.timings == {
        "queued_s": 1.0, "connected_s": 2.0, "first_text_s": 3.0, "first_final_s": 4.0, "total_s": 5.0,
    }  # fmt: skip
