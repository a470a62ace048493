"""Make before break: options change, connections grow old, and the transcript goes on without a hole or a seam."""

from typing import Any

import pytest

from api_contracts import stt
from api_contracts.runs import RunIgnored
from tests.unit.core.stt.playing import ECHO, OVERLAP_S, T0, Life, check, kinds, request, segment, sound, update, word
from workers.core.runs.frame import Draining, SignalArrived
from workers.core.stt import acts
from workers.core.stt.link import CONNECT_WITHIN_S

pytestmark = pytest.mark.requirement("STT-12")


def asked(**fields: Any) -> Life:
    """A session in English that has spoken for three seconds; one word of it is final."""
    life = Life(request(language="en", idle_timeout_s=3600, keep_alive_s=None, stall_timeout_s=None, **fields)).opened()
    life.speak(3)
    life.says(update(segment(0, word("one", 0.2, 0.4, final=True), word("two", 2.5, 2.9))))
    return life


def refused(life: Life, code: int | None = 400, conn: int | None = None) -> list[Any]:
    number = life.conn if conn is None else conn
    return life.feed(acts.Disconnected(number, code, "no", retryable=code is None or code >= 500, jitter=1.0))


def says_on(life: Life, conn: int, *words: dict[str, Any]) -> list[Any]:
    return life.feed(acts.Said(conn, update(segment(0, *words))))


# -- options -----------------------------------------------------------------------------------------------------------


def test_the_connection_with_the_new_options_is_open_and_fed_before_the_old_one_closes() -> None:
    life = asked()
    assert kinds(life.control(type="options", language="fr", prompt="names")) == ["Connect"]
    query = dict(life.done(acts.Connect)[-1].query)
    assert (query["language"], query["prompt"]) == ("fr", "names")
    assert life.done(acts.Disconnect) == []
    done = life.opened().trace[-36:]
    told = [kind for kind in kinds(done) if kind not in ("SendAudio", "SendText", "stt.repeat")]
    assert told[-3:] == ["stt.reconnecting", "stt.connected", "Disconnect"]
    assert kinds(life.trace)[-1] == "Disconnect"
    assert life.done(acts.Disconnect)[-1].conn == 1
    assert life.sent(2) == sound(3)
    connected = life.told(stt.SttConnected)[-1]
    assert connected.options == {"language": "fr", "prompt": "names", "text_timeout_s": 1.0}
    again = life.told(stt.SttReconnecting)[-1]
    assert (again.conn, again.failures, again.wait_s, again.reason) == (1, 0, 0, "the options were changed")
    check(life)


def test_while_the_next_connection_opens_the_present_one_is_fed_and_heard() -> None:
    start = 5.9 - OVERLAP_S
    life = asked()
    life.speak(3)
    life.control(type="options", language="fr")
    life.speak(1)
    assert life.sent(1) == sound(7)
    says_on(life, 1, word("one", 0.2, 0.4, final=True), word("two", 5.5, 5.9, final=True), word("three", 6.2, 6.6))
    assert (life.words, life.interims[-1]) == (["one", "two"], "three")
    life.opened()
    assert life.sent(2) == sound(7 - start), "from the overlap before the last final word's end on"
    life.says(update(segment(0, word("three", 6.2 - start, 6.6 - start, final=True))))
    assert life.words == ["one", "two", "three"]
    check(life)


def test_words_after_the_change_are_made_final_under_the_new_options() -> None:
    """However fast the provider is with the old ones."""
    life = asked()
    life.control(type="options", language="fr")
    life.speak(2)
    says_on(life, 1, word("two", 2.5, 2.9, final=True), word("free", 3.2, 3.6, final=True))
    assert (life.words, life.interims[-1]) == (["one", "two"], "free")
    life.opened()
    start = life.told(stt.SttConnected)[-1].start_at / 16_000
    life.says(update(segment(0, word("trois", 3.2 - start, 3.6 - start, final=True))))
    assert life.words == ["one", "two", "trois"]
    check(life)


def test_where_the_next_connection_does_not_open_the_words_are_held_back_no_longer() -> None:
    life = asked()
    life.control(type="options", language="fr")
    life.speak(2)
    says_on(
        life, 1, word("one", 0.2, 0.4, final=True), word("two", 2.5, 2.9, final=True), word("three", 3.2, 3.6, True)
    )
    life.later(CONNECT_WITHIN_S - 0.1)
    assert life.words == ["one", "two"]
    life.later(0.1)
    assert life.words == ["one", "two", "three"]
    assert life.done(acts.Disconnect)[-1].conn == 2, "what does not open is given up"
    [trouble] = life.told(stt.SttTrouble)
    assert (trouble.kind, trouble.conn) == ("error", 2)
    life.later(1)
    assert life.conn == 3, "and tried again"
    assert dict(life.done(acts.Connect)[-1].query)["language"] == "fr"
    life.opened()
    assert life.told(stt.SttConnected)[-1].conn == 3
    check(life)


def test_a_provider_that_is_busy_is_asked_again_for_as_long_as_the_present_connection_lasts() -> None:
    """More often than a session without a connection would."""
    life = asked()
    life.control(type="options", language="fr")
    for _ in range(20):
        refused(life, 503)
        life.later(11)
    assert len(life.told(stt.SttTrouble)) == 1
    assert life.told(stt.SttReconnecting) == []
    assert not life.end
    life.opened()
    assert life.told(stt.SttConnected)[-1].options["language"] == "fr"


def test_options_that_the_provider_refuses_are_told_and_those_before_stay() -> None:
    life = asked()
    done = life.control(type="options", language="fr")
    refused(life, 400)
    [trouble] = life.told(stt.SttTrouble)
    assert (trouble.kind, trouble.entry, "(400)" in trouble.message) == ("control", "2-0", True)
    life.later(60)
    assert len(life.done(acts.Connect)) == 2
    assert life.control(type="options", prompt="x") != [], "the next change is another one"
    assert dict(life.done(acts.Connect)[-1].query) | {"prompt": "x"} == dict(life.done(acts.Connect)[-1].query)
    assert dict(life.done(acts.Connect)[-1].query)["language"] == "en"
    assert kinds(done) == ["Connect"]
    check(life)


def test_refused_options_end_no_session_that_lost_its_connection_meanwhile() -> None:
    life = asked()
    life.control(type="options", language="fr")
    life.feed(acts.Disconnected(1, 1006, "gone", True, 1.0))
    refused(life, 400, conn=2)
    life.later(1)
    assert not life.end
    assert dict(life.done(acts.Connect)[-1].query)["language"] == "en"


def test_a_successor_whose_changed_options_are_refused_goes_back_to_those_before() -> None:
    life = asked()
    life.control(type="options", language="fr")
    again = life.reborn().begin()
    again.feed(acts.AudioArrived("1-0", sound(3)), acts.ControlArrived("2-0", {"type": "options", "language": "fr"}))
    refused(again, 400)
    again.later(0)
    again.opened()
    assert dict(again.done(acts.Connect)[-1].query)["language"] == "en"
    assert again.sent(again.conn) == sound(3)


def test_a_key_that_is_refused_ends_the_session_as_ever() -> None:
    life = asked()
    life.loses(1006)
    life.retries()
    refused(life, 403)
    assert life.result.failure
    assert life.result.failure.code == "stt_refused"


def test_when_the_present_connection_is_lost_the_one_that_opens_takes_its_place() -> None:
    life = asked()
    life.control(type="options", language="fr")
    life.feed(acts.Disconnected(1, 1006, "gone", True, 1.0))
    assert [kinds([each]) for each in life.done(acts.Connect)] == [["Connect"], ["Connect"]]
    assert life.told(stt.SttReconnecting)[-1].wait_s == 0
    life.opened()
    assert life.sent(2) == sound(3)
    assert life.done(acts.Disconnect) == []
    check(life)


def test_two_changes_in_a_row_open_the_last_options_only() -> None:
    life = asked()
    life.control(type="options", language="fr")
    done = life.control(type="options", prompt="x")
    assert kinds(done) == ["Disconnect", "Connect"]
    assert (done[0].conn, dict(done[1].query)["language"], dict(done[1].query)["prompt"]) == (2, "fr", "x")
    life.feed(acts.Connected(2))
    assert len(life.told(stt.SttConnected)) == 1, "what was called off counts no more"


def test_a_change_that_is_taken_back_leaves_the_connection_as_it_is() -> None:
    life = asked()
    life.control(type="options", language="fr")
    assert kinds(life.control(type="options", language="en")) == ["Disconnect"]
    life.later(60)
    assert len(life.done(acts.Connect)) == 2


def test_options_that_change_nothing_open_nothing() -> None:
    life = asked()
    assert life.control(type="options", language="en") == []
    assert life.control(type="options") == []
    assert life.control(type="options", vad=None) == []


def test_an_option_may_go_back_to_the_providers_own() -> None:
    life = asked()
    life.control(type="options", language=None)
    assert "language" not in dict(life.done(acts.Connect)[-1].query)


def test_what_follows_a_change_is_heard_under_it_even_when_the_producer_hangs_up_at_once() -> None:
    life = asked()
    life.control(type="options", language="fr")
    life.speak(1)
    assert life.control(type="end") == []
    assert kinds(life.opened().trace)[-2:] == ["SendText", "Disconnect"]
    assert life.done(acts.SendText)[-1] == acts.SendText(2, ECHO)
    life.says(ECHO)
    assert life.result.status == "completed"
    check(life)


def test_a_producer_who_hung_up_waits_for_one_try_only() -> None:
    life = asked()
    life.control(type="options", language="fr")
    life.control(type="end")
    refused(life, 503)
    assert life.done(acts.SendText)[-1] == acts.SendText(1, ECHO)
    life.feed(acts.Said(1, ECHO))
    assert life.result.status == "completed"


@pytest.mark.parametrize("how", ["cancel", "drain"])
def test_at_the_end_of_a_life_neither_connection_stays(how: str) -> None:
    life = asked()
    life.control(type="options", language="fr")
    life.feed(SignalArrived("5-0", "cancel", {}) if how == "cancel" else Draining(T0 + 30))
    assert {each.conn for each in life.done(acts.Disconnect)} == {1, 2}


def test_a_successor_goes_on_with_the_options_in_force_and_takes_no_entry_twice() -> None:
    life = Life(request(language="en")).opened()
    life.speak(1)
    life.control(type="options", language="de")
    life.control(type="options", language="fr")
    life.opened()
    again = life.reborn().begin()
    assert dict(again.done(acts.Connect)[0].query)["language"] == "fr"
    again.feed(
        acts.AudioArrived("1-0", sound(1)),
        acts.ControlArrived("2-0", {"type": "options", "language": "de"}),
        acts.ControlArrived("3-0", {"type": "options", "language": "fr"}),
    )
    assert len(again.done(acts.Connect)) == 1


def test_options_that_no_connection_saw_are_read_again_by_a_successor() -> None:
    life = Life().opened()
    life.control(type="options", language="de")
    again = life.reborn().begin()
    again.feed(acts.ControlArrived("1-0", {"type": "options", "language": "de"}))
    assert dict(again.done(acts.Connect)[-1].query)["language"] == "de"


# -- by signal ---------------------------------------------------------------------------------------------------------


def settle(life: Life, letter: str = "5-0", **settings: Any) -> list[Any]:
    return life.feed(SignalArrived(letter, "update_settings", {"settings": settings, "by": "ann"}))


def test_a_signal_changes_options_as_a_control_does() -> None:
    life = asked()
    done = settle(life, language="fr", vad={"threshold": 0.2})
    assert kinds(done) == ["stt.settings", "Connect"]
    told = life.told(stt.SttSettingsChanged)[-1]
    assert (told.inbox, told.by, told.changed["language"]) == ("5-0", "ann", "fr")
    query = dict(life.done(acts.Connect)[-1].query)
    assert (query["language"], query["vad_kwargs"]) == ("fr", '{"threshold":0.2}')
    life.opened()
    assert kinds(life.trace)[-1] == "Disconnect"
    check(life)


def test_what_a_signal_changed_outlives_the_worker_that_took_it() -> None:
    life = asked()
    settle(life, language=None, prompt="x")
    before = dict(life.reborn().begin().done(acts.Connect)[0].query)
    assert ("language" in before, before["prompt"]) == (False, "x")
    life.opened()
    settle(life, "6-0", prompt=None)
    after = dict(life.reborn().begin().done(acts.Connect)[0].query)
    assert ("language" in after, "prompt" in after) == (False, False)
    settle(life, "7-0", language="en")
    life.opened()
    last = life.reborn().begin()
    assert dict(last.done(acts.Connect)[0].query)["language"] == "en"
    assert last.machine.state.changed == {}


def test_a_signal_that_changes_nothing_opens_nothing() -> None:
    life = asked()
    assert kinds(settle(life, language="en")) == ["stt.settings"]


def test_a_signal_before_the_begin_holds_from_the_first_connection_on() -> None:
    life = Life(request(language="en"))
    settle(life, language="fr")
    life.begin()
    assert [dict(each.query)["language"] for each in life.done(acts.Connect)] == ["fr"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"language": 7}, "language: Input should be a valid string"),
        ({"text_timeout_s": 0.5}, "text_timeout_s: Input should be greater than or equal to 1"),
        ({"idle_timeout_s": 5}, "?: there is no such field (options are language, prompt,"),
        ({"vad": {"treshold": 1}}, "vad.?: no such field"),
        ("fr", "settings is no JSON object"),
        (None, "settings is no JSON object"),
    ],
)
def test_a_signal_that_makes_no_sense_is_refused_with_the_reason(settings: object, reason: str) -> None:
    life = asked()
    done = life.feed(SignalArrived("5-0", "update_settings", {"settings": settings}))
    assert kinds(done) == ["run.ignored"]
    assert reason in life.told(RunIgnored)[0].reason
    assert "treshold" not in life.told(RunIgnored)[0].reason, "nothing of what was sent is shown"


def test_a_signal_after_the_end_is_told_as_ignored() -> None:
    life = asked()
    life.control(type="end")
    assert kinds(settle(life, language="fr")) == ["run.ignored"]
    assert "at its end" in life.told(RunIgnored)[0].reason


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        ({}, "type: it is one of flush, clear, options, end"),
        ({"type": "shout"}, "type: it is one of flush, clear, options, end"),
        ({"type": "options", "temperature": 2}, "temperature: Input should be less than or equal to 1"),
        ({"type": "options", "secret word": 1}, "?: there is no such field (options are language"),
    ],
)
def test_a_control_that_makes_no_sense_is_told_with_the_reason(control: dict[str, Any], reason: str) -> None:
    life = asked()
    life.control(**control)
    [trouble] = life.told(stt.SttTrouble)
    assert (trouble.kind, reason in trouble.message, "secret" in trouble.message) == ("control", True, False)
