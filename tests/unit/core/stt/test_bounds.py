"""Nothing grows, waits or goes on for ever, whatever the provider and the producer do."""

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import ECHO, RATE, T0, Life, check, request, segment, sound, update, word
from workers.core.runs.frame import Finish
from workers.core.stt import acts
from workers.core.stt.connection import Connection
from workers.core.stt.link import BUDGET
from workers.core.stt.waiting import CLOSE_WITHIN_S


def listening(seconds: float = 10.0, **fields: object) -> Life:
    life = Life(request(**{"idle_timeout_s": 3600, **fields})).opened()
    life.speak(seconds)
    return life


def words_of(count: int, every_s: float = 0.4, final: int = 0) -> list[dict[str, object]]:
    return [word(f"w{at}", at * every_s, at * every_s + 0.3, final=at < final) for at in range(count)]


# -- words that nobody makes final -------------------------------------------------------------------------------------


def test_a_word_that_is_stuck_does_not_hold_up_a_segment_that_goes_on_growing() -> None:
    life = listening(100)
    for count in range(2, 90):
        told = words_of(count, final=count)
        told[0]["is_final"] = False
        life.says(update(segment(0, *told)))
        life.later(0.4)
    assert life.words[:3] == ["w0", "w1", "w2"]
    assert len(life.words) > 80
    check(life)


def test_of_a_provider_that_makes_nothing_final_only_the_last_half_minute_stays_open() -> None:
    life = listening(100)
    for count in range(1, 200):
        life.says(update(segment(0, *words_of(count))))
        life.later(0.4)
    assert max(len(text.split()) for text in life.interims) < 100
    assert len(life.words) > 100
    assert life.words[:3] == ["w0", "w1", "w2"]
    check(life)


def test_a_text_that_goes_on_growing_leaves_what_has_stood_for_half_a_minute() -> None:
    """No words, no flags, one segment: a pause makes all of it final, and so does time."""
    life = listening(100)
    for count in range(1, 200):
        life.says({"text": " ".join(f"w{at}" for at in range(count))})
        life.later(0.4)
    assert life.words[:3] == ["w0", "w1", "w2"]
    assert 100 < len(life.words) < 150
    life.later(1)
    assert life.words == [f"w{at}" for at in range(199)]
    check(life)


# -- what must not grow ------------------------------------------------------------------------------------------------


def test_segments_without_words_are_not_held() -> None:
    life = listening()
    for number in range(1_000):
        life.says(update(segment(number)))
    conn = life.machine._wire.conn
    assert conn is not None
    assert len(conn.segments) == 0
    assert conn.changed_at is None, "nothing was said"


@pytest.mark.parametrize("whole", [True, False])
def test_an_hour_of_speech_is_held_only_as_its_transcript(whole: bool) -> None:
    """A provider may tell all segments every time (WIRE 2.7.4)."""
    life = Life(request(idle_timeout_s=3600)).opened()
    machine, now, told = life.machine, T0, list[dict[str, object]]()
    for round_ in range(300):
        now += 12
        for act in machine.receive(acts.AudioArrived(f"{round_}-1", sound(12)), now):
            if isinstance(act, acts.SendText):
                machine.receive(acts.Said(1, {**act.message, "object": "stt.output.trace"}), now)
        words = [word(f"w{at}", 12 * round_ + at, 12 * round_ + at + 0.5, final=True) for at in range(10)]
        told.append(segment(round_, *words))
        machine.receive(acts.Said(1, update(*(told if whole else told[-1:]))), now)
    conn, timeline = machine._wire.conn, machine._ledger.timeline
    assert conn is not None
    held = len(conn.segments), len(conn.course), len(conn._marks), len(conn._echoed), len(timeline._held)
    assert max(held) < 10, held
    assert len(machine.state.transcript) == 300


def test_flushes_without_end_do_not_pile_up() -> None:
    conn = Connection(1, T0)
    conn.opened(T0, 0)
    for at in range(0, 200_000, 100):
        conn.feed(2 * at, bytes(200), T0)
        conn.flush(T0)
        [mark] = conn.probe(T0)
        conn.echoed(mark.message["trace_id"])  # type: ignore[attr-defined]
        conn.forget(at - 32_000)
    assert len(conn._echoed) < 400
    assert len(conn.course) < 400


# -- ends that must come -----------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-08")
def test_a_provider_that_talks_on_after_the_checkpoint_is_not_heard_for_ever() -> None:
    life = listening(3)
    life.control(type="end")
    for count in range(1, 100):
        life.says(update(segment(0, word("a" * (1 + count % 2), 0.1, 0.4))))
        life.later(20)
        if life.end:
            break
    assert life.now <= T0 + CLOSE_WITHIN_S + 30
    assert life.result.status == "completed"
    assert [gap.cause for gap in life.result.coverage.gaps] == ["unconfirmed"]


@pytest.mark.requirement("STT-08")
def test_a_long_silence_sent_at_once_is_given_the_time_to_be_heard() -> None:
    life = listening(60)
    life.control(type="end")
    life.later(60)
    assert not life.end
    life.says(update(segment(0, word("late", 59.0, 59.5, final=True))), ECHO)
    assert (life.result.text, life.result.coverage.gaps) == ("late", [])


@pytest.mark.requirement("STT-09")
def test_a_provider_that_never_lets_the_session_end_runs_into_the_budget() -> None:
    life = listening(3)
    life.control(type="end")
    for _ in range(BUDGET):
        life.later(15)
        life.says({"object": "stt.output.trace"})
        life.loses()
        life.retries()
        if life.end:
            break
        life.opened()
    assert isinstance(life.end, Finish)
    assert life.result.failure
    assert life.result.failure.code == "stt_lost"


def test_a_silent_connection_that_is_closed_every_three_minutes_is_healthy() -> None:
    """The provider echoes nothing, and there is nothing to say (FEAT B2)."""
    life = listening(1)
    for _ in range(2 * BUDGET):
        life.later(180)
        life.loses(1000)
        life.retries()
        life.opened()
    assert {each.failures for each in life.told(stt.SttReconnecting)} == {1}


def test_what_is_over_wakes_nobody() -> None:
    life = listening(1, deadline_s=50)
    assert life.machine.deadline is not None
    life.control(type="end")
    life.says(ECHO)
    assert life.machine.deadline is None


# -- what the provider should not say ----------------------------------------------------------------------------------


@pytest.mark.requirement("STT-08")
@pytest.mark.parametrize("rest", [{"segments": None}, {"segments": []}, {}])
def test_an_echo_with_empty_fields_withdraws_nothing(rest: dict[str, object]) -> None:
    """The echo may carry the fields of an update (WIRE 2.5); null is a list like any other (WIRE 2.6)."""
    life = listening()
    life.says(update(segment(0, word("one", 0.1, 0.4)), segment(1, word("two", 0.5, 0.8))))
    life.control(type="end")
    life.says({"task": "transcribe", "language": "en", "text": "", "words": None, **ECHO, **rest})
    assert life.result.text == "one two"


@pytest.mark.requirement("STT-08")
def test_a_text_without_ids_beside_segments_that_have_some_is_not_told_again() -> None:
    life = listening()
    life.says(update(segment(0, word("one", 0.1, 0.4, final=True)), segment(1, word("two", 0.5, 0.8, final=True))))
    life.control(type="end")
    life.says({"task": "transcribe", "language": "en", "text": "one two", **ECHO})
    assert life.result.text == "one two"


@pytest.mark.requirement("STT-16")
def test_an_error_beside_words_costs_no_word() -> None:
    life = listening()
    life.says({**update(segment(0, word("one", 0.1, 0.4, final=True))), "error": "slow"})
    assert [each.message for each in life.told(stt.SttTrouble)] == ["slow"]
    assert life.words == ["one"]


@pytest.mark.requirement("STT-16", "STT-09")
def test_errors_that_end_their_connections_run_into_the_budget_for_those() -> None:
    life = listening()
    for _ in range(BUDGET):
        assert not life.end
        life.says({"error": {"message": "overloaded"}})
        life.loses(1011)
        life.retries()
        if not life.end:
            life.opened()
    assert life.result.failure
    assert life.result.failure.code == "stt_lost"
    assert len(life.told(stt.SttTrouble)) == BUDGET


@pytest.mark.requirement("STT-16")
@pytest.mark.parametrize("error", ["", {}, [], 0])
def test_an_error_that_says_nothing_beside_words_is_none(error: object) -> None:
    life = listening()
    life.says(*({**update(segment(0, word("one", 0.1, 0.4))), "error": error} for _ in range(10)))
    assert life.told(stt.SttTrouble) == []
    assert life.interims == ["one"]


def test_a_word_from_the_far_future_costs_no_word_that_comes_after_it() -> None:
    life = listening(10)
    life.says(update(segment(0, word("ghost", 9e5, 9e5, final=True))))
    life.speak(30)
    life.says(update(segment(1, word("one", 12.0, 12.4, final=True)), segment(2, word("two", 39.0, 39.4))))
    assert life.words == ["ghost", "one"]
    check(life)


# -- what the producer should not say ----------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [{"a": "\ud800"}, {"a": float("nan")}, {"a": "x" * 3_000}, {"\udfff": 1}])
def test_options_that_no_query_or_journal_can_hold_are_passed_over(extra: dict[str, object]) -> None:
    life = listening()
    life.control(type="options", vad={"extra": extra})
    assert [each.kind for each in life.told(stt.SttTrouble)] == ["control"]
    assert life.conn == 1


def test_options_of_a_newer_version_in_the_journal_are_passed_over() -> None:
    life = listening()
    life.control(type="options", language="de")
    life.opened()
    [*_, (connected, at)] = [each for each in life.journal if isinstance(each[0], stt.SttConnected)]
    newer = connected.model_copy(update={"options": {**connected.options, "diarize": True}})  # type: ignore[attr-defined]
    life.machine.fold(newer, at)
    assert life.machine.state.options == stt.SttOptions(language="de")


def test_trouble_with_a_control_is_told_once_whoever_reads_it_again() -> None:
    life = listening()
    life.control(type="shout")
    after = life.reborn().begin()
    after.feed(acts.AudioArrived("1-0", sound(10)), acts.ControlArrived("2-0", {"type": "shout"}))
    after.control(type="whisper")
    assert [each.entry for each in after.told(stt.SttTrouble)] == ["2-0", "3-0"]


def test_a_flush_with_nothing_to_send_says_nothing() -> None:
    life = Life().begin()
    assert life.control(type="flush") == []
    life.opened()
    assert life.control(type="flush") == []
    life.speak(pcm=b"\1")
    assert life.control(type="flush") == [], "half a sample"


def test_entries_of_no_audio_keep_a_session_alive_and_are_nothing_else() -> None:
    life = Life(request(idle_timeout_s=10)).opened()
    for _ in range(5):
        life.later(9)
        assert life.speak(pcm=b"") == []
    life.later(10)
    assert life.result.ended_by == "idle"
    assert life.result.coverage.audio_s == 0.0


def test_a_clock_that_goes_back_over_audio_sent_again_finds_both_places() -> None:
    conn = Connection(1, T0)
    conn.opened(T0, 0)
    conn.feed(0, sound(10), T0)
    conn.feed(8 * RATE * 2, sound(4), T0)
    assert [conn.course.place(server * RATE) for server in (0, 9, 10, 14)] == [0, 9 * RATE, 8 * RATE, 12 * RATE]
