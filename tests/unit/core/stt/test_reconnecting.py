"""Connections come and go: what is sent again, how long is waited, when a session gives up."""

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import OVERLAP_S, RATE, Life, check, kinds, request, segment, sound, update, word
from workers.core.runs.frame import Woke
from workers.core.stt import acts
from workers.core.stt.link import BUDGET, CONNECT_WITHIN_S, chance, pause_s


def test_a_session_connects_at_once_and_reads_its_audio_from_the_start() -> None:
    life = Life(request(language="de", credential="theirs")).begin()
    assert kinds(life.trace) == ["run.started", "ReadAudio", "Connect"]
    assert life.done(acts.ReadAudio)[0].after_entry_id == "0"
    connect = life.done(acts.Connect)[0]
    assert (connect.conn, connect.credential, dict(connect.query)["language"]) == (1, "theirs", "de")


def test_audio_that_came_before_the_connection_is_sent_when_it_opens() -> None:
    life = Life().begin()
    life.speak(0.25)
    life.speak(pcm=b"\1\0" * 800)
    assert life.sent() == b""
    life.opened()
    assert life.told(stt.SttConnected)[0].start_at == 0
    assert life.sent() == sound(0.25) + b"\1\0" * 800


@pytest.mark.requirement("STT-09")
def test_what_is_not_settled_is_sent_again_with_the_overlap_before_it() -> None:
    start = 5.2 - OVERLAP_S
    life = Life().opened()
    for _ in range(14):
        life.speak(0.5)
    life.says(update(segment(0, word("one", 4.5, 5.2, final=True), word("two", 5.3, 5.5))))
    life.loses(1006)
    assert kinds(life.trace)[-2:] == ["stt.lost", "stt.reconnecting"]
    life.speak(0.5)
    life.later(1)
    life.opened()
    assert [each.start_at for each in life.told(stt.SttConnected)] == [0, round(start * RATE)]
    assert len(life.sent(2)) == round((7.5 - start) * RATE) * 2
    one, two = word("one", 4.5 - start, 5.2 - start, final=True), word("two", 5.3 - start, 5.5 - start, final=True)
    life.says(update(segment(0, one, two)))
    assert life.words == ["one", "two"]
    assert life.told(stt.SttFinal)[1].start == pytest.approx(5.3)
    check(life)


def test_ids_and_times_begin_anew_with_a_connection() -> None:
    life = Life().opened()
    life.speak(10)
    life.says(update(segment(5, word("one", 0.1, 0.4, final=True)), segment(6, word("two", 0.5, 0.9, final=True))))
    life.loses()
    life.later(1)
    life.opened()
    life.says(update(segment(0, word("two", 0.5, 0.9, final=True), word("three", 1.0, 1.4, final=True))))
    assert life.words == ["one", "two", "three"]


def test_what_a_lost_connection_still_says_is_not_heard() -> None:
    life = Life().opened()
    life.speak(3)
    life.loses()
    before = len(life.journal)
    life.feed(
        acts.Said(1, update(segment(0, word("one", 0.1, 0.4, final=True)))), acts.Connected(1), acts.Garbled(1, "")
    )
    assert len(life.journal) == before
    life.later(1)
    life.opened()
    life.feed(acts.Disconnected(1, 1006, "late", retryable=True, jitter=1.0))
    assert life.told(stt.SttReconnecting)[-1].failures == 1


def test_a_reconnect_voids_the_interim_and_what_is_heard_again_is_told_again() -> None:
    life = Life().opened()
    life.speak(3)
    life.says(update(segment(0, word("one", 0.1, 0.4))))
    life.loses()
    life.later(1)
    life.opened()
    life.says(update(segment(0, word("one", 0.1, 0.4))))
    assert life.interims == ["one", "one"]
    assert life.told(stt.SttRetracted) == []


@pytest.mark.requirement("STT-09")
def test_failures_in_a_row_wait_longer_and_longer_until_the_budget_is_spent() -> None:
    life = Life(request(idle_timeout_s=3600)).begin()
    for _ in range(BUDGET - 1):
        life.loses(503)
        life.retries()
    waits = [each.wait_s for each in life.told(stt.SttReconnecting)]
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0]
    life.loses(503)
    assert life.result.status == "failed"
    assert life.result.failure
    assert (life.result.failure.code, life.result.failure.retryable) == ("stt_unreachable", True)
    check(life)


def test_a_session_that_was_connected_once_is_lost_when_the_budget_is_spent() -> None:
    life = Life(request(idle_timeout_s=3600)).opened()
    life.speak(2)
    for _ in range(BUDGET):
        life.loses(1006)
        life.retries()
    assert life.result.failure
    assert life.result.failure.code == "stt_lost"
    assert [gap.cause for gap in life.result.coverage.gaps] == ["failed"]


@pytest.mark.requirement("STT-09")
def test_chance_spreads_the_waits() -> None:
    lost = acts.Disconnected(1, 1006, "", retryable=True, jitter=0.5)
    assert pause_s(lost, 3) == 0.5
    assert all(0 <= chance("run", conn) <= 1 for conn in range(100))
    assert chance("run-1", 1) != chance("run-2", 1)


def test_a_retry_after_is_the_least_wait() -> None:
    life = Life().begin()
    life.feed(acts.Disconnected(1, 429, "slow down", retryable=True, jitter=1.0, retry_after_s=7.0))
    assert life.told(stt.SttReconnecting)[0].wait_s == 7.0
    life.later(6.9)
    assert len(life.done(acts.Connect)) == 1
    life.later(0.2)
    assert [each.conn for each in life.done(acts.Connect)] == [1, 2]


@pytest.mark.requirement("STT-09")
@pytest.mark.parametrize(
    ("code", "category"),
    [(400, "bad_request"), (401, "authentication"), (403, "authentication"), (402, "account"), (404, "not_found")],
)
def test_a_refusal_is_not_tried_again(code: int, category: str) -> None:
    life = Life().begin()
    life.loses(code)
    failure = life.result.failure
    assert failure
    assert (failure.code, failure.category, failure.retryable) == ("stt_refused", category, False)
    assert failure.provider_status == code


@pytest.mark.parametrize("code", [408, 429, 500, 503, 1000, 1001, 1006, 1011, None])
def test_everything_else_is_tried_again(code: int | None) -> None:
    life = Life().opened()
    life.speak(1)
    life.loses(code)
    assert not life.end
    assert life.told(stt.SttReconnecting)[0].code == code


def test_what_the_adapter_knows_to_be_hopeless_is_not_tried_again() -> None:
    life = Life().begin()
    life.loses(None, retryable=False)
    assert life.result.failure
    assert life.result.failure.code == "stt_refused"


def test_a_word_further_on_than_any_before_makes_a_connection_healthy() -> None:
    life = Life(request(idle_timeout_s=3600)).opened()
    life.speak(5)
    for place in range(2 * BUDGET):
        life.says(update(segment(0, word("w", 0.0, 0.1 + place / 10))))
        life.loses()
        assert life.told(stt.SttReconnecting)[-1].failures == 1
        life.later(1)
        life.opened()


def test_a_provider_that_falls_over_the_same_audio_each_time_runs_into_the_budget() -> None:
    life = Life(request(idle_timeout_s=3600)).opened()
    life.speak(5)
    for _ in range(BUDGET):
        assert not life.end
        life.says(update(segment(0, word("w", 0.0, 0.4))))
        life.loses()
        life.retries()
        if not life.end:
            life.opened()
    assert life.result.failure
    assert life.result.failure.code == "stt_lost"


def test_a_caller_who_says_nothing_for_an_hour_is_not_lost() -> None:
    """Idle connections are closed every three minutes by some (FEAT B2)."""
    life = Life(request(idle_timeout_s=3600, stall_timeout_s=None)).opened()
    for _ in range(20):
        life.speak(6)
        trace = life.done(acts.SendText)[-1].message
        life.later(180)
        life.says({**trace, "object": "stt.output.trace"})
        life.loses(1001)
        life.later(1)
        life.opened()
    assert {each.failures for each in life.told(stt.SttReconnecting)} == {1}


def test_a_connection_that_does_not_open_in_time_is_given_up() -> None:
    life = Life().begin()
    life.speak(1)
    life.later(CONNECT_WITHIN_S - 0.1)
    assert life.done(acts.Disconnect) == []
    life.later(0.1)
    assert life.done(acts.Disconnect)[0].conn == 1
    assert life.told(stt.SttLost) == [], "it was never there"
    assert life.told(stt.SttReconnecting)[0].failures == 1
    life.feed(acts.Connected(1))
    assert life.told(stt.SttConnected) == []


def test_connections_are_counted_over_all_workers() -> None:
    life = Life().opened()
    life.loses()
    life.later(1)
    life.opened()
    again = life.reborn().opened()
    assert again.conn == 3
    assert again.machine.state.connections == 3


# -- errors in band ----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("STT-16")
@pytest.mark.parametrize("error", ["overloaded", {"message": "overloaded", "code": 503}])
def test_five_errors_in_a_row_end_the_session(error: object) -> None:
    life = Life().opened()
    life.speak(1)
    life.says({"error": error}, {"error": error}, {"error": error}, {"error": error})
    life.says(update(segment(0, word("one", 0.1, 0.2, final=True))))
    life.says({"error": error}, {"error": error}, {"error": error})
    life.feed(acts.Garbled(life.conn, "no JSON"))
    assert not life.end
    life.says({"error": error})
    assert life.result.failure
    assert life.result.failure.code == "stt_errors"
    troubles = life.told(stt.SttTrouble)
    assert (troubles[0].kind, troubles[0].message, troubles[0].conn) == ("error", "overloaded", 1)
    assert troubles[-2].kind == "garbled"
    assert life.result.text == "one"
    check(life)


@pytest.mark.requirement("STT-16")
def test_unknown_messages_are_told_once_and_passed_over() -> None:
    life = Life().opened()
    for _ in range(10):
        life.says({"type": "session.updated"})
    assert [each.kind for each in life.told(stt.SttTrouble)] == ["unknown"]
    assert not life.end


@pytest.mark.parametrize("data", [{}, {"type": "shout"}, {"type": "end", "now": 1}, {"type": "options", "language": 7}])
def test_a_control_that_makes_no_sense_is_told_and_passed_over(data: dict[str, object]) -> None:
    life = Life().opened()
    life.control(**data)
    [trouble] = life.told(stt.SttTrouble)
    assert (trouble.kind, trouble.entry) == ("control", "1-0")
    assert not life.end


def test_an_alarm_that_nobody_set_does_nothing() -> None:
    life = Life().opened()
    assert life.feed(Woke()) == []
