"""What nobody documents of a connection's end (WIRE 2.5, 2.8): each way that it may be, in virtual time.

Asked for the end, a provider may send an echo and close, send one and stay, close without one, break the line, or do
nothing; it may echo anything or nothing of what it is asked before. The session ends in the same instant as the echo.
"""

import pytest

from api_contracts import stt
from tests.unit.core.stt.playing import ECHO, Life, check, kinds, request, segment, update, word
from workers.core.stt import acts
from workers.core.stt.waiting import ECHO_WITHIN_S, QUIET_S

ONE, TWO = word("one", 0.1, 0.4, final=True), word("two", 0.5, 0.8)


def asked(echoes: bool = False, **fields: object) -> Life:
    """A session that has heard two words, one of them not final, and is asked for the rest."""
    life = Life(request(**fields)).opened()
    life.speak(3)
    life.says(update(segment(0, ONE, TWO)))
    if echoes:
        for text in life.done(acts.SendText):
            life.says({**text.message, "object": "stt.output.trace"})
    life.later(3)
    life.control(type="end")
    return life


def check_end(life: Life) -> None:
    """Nothing is left out, and nothing is told twice."""
    assert (life.result.status, life.result.text) == ("completed", "one two")
    assert (life.result.coverage.share, life.result.coverage.gaps) == (1.0, [])
    assert life.words == ["one", "two"]
    assert len(life.told(stt.SttClosed)) == 1
    check(life)


@pytest.mark.requirement("STT-08")
@pytest.mark.parametrize("after_s", [0.0, 0.05, 2.9, 20.0])
@pytest.mark.parametrize("then", ["closes", "closes without a code", "breaks the line", "stays", "talks on"])
def test_the_session_ends_with_the_echo_whatever_comes_after_it(after_s: float, then: str) -> None:
    life = asked()
    life.later(after_s)
    done = life.says(ECHO)
    assert kinds(done)[-3:] == ["stt.closed", "Disconnect", "Finish"], "in the same instant: 0 of 200 ms"
    ended, told = life.now, len(life.journal)
    if then == "talks on":
        life.says(update(segment(0, ONE, word("too", 0.5, 0.8, final=True))), ECHO)
    elif then != "stays":
        life.loses({"closes": 1000, "closes without a code": 1005, "breaks the line": None}[then])
    life.later(60)
    assert (len(life.journal), life.machine.deadline) == (told, None), f"something came after the end at {ended}"
    check_end(life)


@pytest.mark.requirement("STT-08")
@pytest.mark.parametrize("code", [1000, 1005])
@pytest.mark.parametrize("after_s", [0.0, 2.9, 20.0])
def test_a_close_instead_of_the_echo_ends_it_in_the_same_instant(code: int, after_s: float) -> None:
    life = asked()
    life.later(after_s)
    assert kinds(life.loses(code))[-1] == "Finish"
    check_end(life)


@pytest.mark.requirement("STT-08")
@pytest.mark.parametrize("code", [None, 1001, 1006, 1008, 1011, 1012, 4000])
def test_an_end_that_is_no_goodbye_is_asked_for_again_and_costs_no_word(code: int | None) -> None:
    life = asked()
    assert kinds(life.loses(code))[-1] == "stt.reconnecting"
    life.retries()
    life.opened()
    assert life.done(acts.SendText)[-1] == acts.SendText(2, ECHO)
    life.says(update(segment(0, ONE, TWO)), ECHO)
    check_end(life)


@pytest.mark.requirement("STT-08")
def test_neither_echo_nor_close_is_waited_for_three_seconds_after_all_is_final() -> None:
    life = asked()
    life.says(update(segment(0, ONE, word("two", 0.5, 0.8, final=True))))
    life.later(QUIET_S - 0.01)
    assert life.end is None
    life.later(0.02)
    check_end(life)


@pytest.mark.requirement("STT-08")
def test_neither_echo_nor_close_nor_a_word_is_waited_for_thirty_seconds() -> None:
    life = asked()
    life.later(ECHO_WITHIN_S - 0.1)
    assert life.end is None
    life.later(0.2)
    assert (life.result.status, life.result.text) == ("completed", "one two")
    assert [gap.cause for gap in life.result.coverage.gaps] == ["unconfirmed"], "nobody said that this is all"
    check(life)


@pytest.mark.requirement("STT-08")
@pytest.mark.parametrize("shape", ["bare", "with the rest", "as an update"])
def test_the_echo_may_be_bare_or_an_update(shape: str) -> None:
    life = asked()
    rest = update(segment(0, ONE, TWO))
    life.says({"bare": ECHO, "with the rest": rest | ECHO, "as an update": {**rest, "segments": [], **ECHO}}[shape])
    check_end(life)


@pytest.mark.requirement("STT-08")
@pytest.mark.parametrize("echoes", [True, False])
@pytest.mark.parametrize("said", [{"checkpoint_id": "other"}, {"object": "stt.output.trace", "trace_id": "final"}])
def test_no_other_echo_ends_it_and_none_is_needed(said: dict[str, object], echoes: bool) -> None:
    """Whether other checkpoints and traces are echoed is not known; a trace proves arrival and nothing else."""
    life = asked(echoes)
    life.says(said)
    assert life.end is None
    life.says(ECHO)
    check_end(life)
