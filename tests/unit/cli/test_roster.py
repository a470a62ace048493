"""The supervisor's decisions, on a clock that is only a number."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.cli import roster
from workers.cli.roster import (
    Added,
    Bury,
    Exited,
    Interrupted,
    KillGroup,
    KillRequested,
    RestartPolicy,
    Roster,
    Say,
    Send,
    Spawn,
    Started,
    StartFailed,
    StopRequested,
    Tick,
)


def running(*names: str, now: float = 0.0) -> Roster:
    """A roster whose processes have just started."""
    one = Roster(grace_s=30.0, restarts=RestartPolicy())
    for number, name in enumerate(names):
        assert one.receive(Added(name), now) == [Spawn(name)]
        one.receive(Started(name, 100 + number), now)
    return one


def deeds(actions: list[roster.Action]) -> list[roster.Action]:
    return [action for action in actions if not isinstance(action, Say)]


def words(actions: list[roster.Action]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Say)]


def test_a_process_that_exits_is_buried_and_due_again_after_half_a_second():
    one = running("chat")
    actions = one.receive(Exited("chat", 1), 2.0)
    assert deeds(actions) == [Bury("chat")]
    assert words(actions) == ["chat exited with 1 after 2.0 s; starts again in 0.5 s"]
    assert one.deadline == 2.5
    assert one.receive(Tick(), 2.4) == []
    assert one.receive(Tick(), 2.5) == [Spawn("chat")]
    assert one.deadline is None


def test_the_wait_doubles_up_to_thirty_seconds():
    one, now, waits = running("chat"), 0.0, []
    for _ in range(9):
        one.receive(Exited("chat", 1), now)
        waits.append(one.deadline - now)
        now = one.deadline
        one.receive(Tick(), now)
        one.receive(Started("chat", 7), now)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(("lived_s", "wait"), [(29.9, 2.0), (30.0, 0.5)])
def test_a_life_of_thirty_seconds_starts_the_count_anew(lived_s, wait):
    one, now = running("chat"), 0.0
    for _ in range(2):
        one.receive(Exited("chat", 1), now)
        now = one.deadline
        one.receive(Tick(), now)
        one.receive(Started("chat", 7), now)
    now += lived_s
    one.receive(Exited("chat", 0), now)
    assert one.deadline == pytest.approx(now + wait)


def test_a_start_that_fails_is_tried_again_and_counts_as_an_exit():
    one = Roster(grace_s=30.0, restarts=RestartPolicy())
    one.receive(Added("chat"), 0.0)
    assert words(one.receive(StartFailed("chat", "no memory"), 0.0)) == [
        "chat could not be started: no memory; starts again in 0.5 s"
    ]
    one.receive(Tick(), 0.5)
    one.receive(StartFailed("chat", "no memory"), 0.5)
    assert one.deadline == 1.5


def test_the_delay_is_never_an_overflow():
    assert RestartPolicy().delay(100_000) == 30.0


def test_a_death_by_signal_is_named():
    one = running("chat", "stt")
    assert words(one.receive(Exited("chat", -9), 1.0))[0].startswith("chat died of SIGKILL after 1.0 s")
    assert words(one.receive(Exited("stt", -40), 1.0))[0].startswith("stt died of signal 40")


def test_one_exit_does_nothing_to_the_others():
    one = running("chat", "stt")
    actions = one.receive(Exited("chat", 1), 1.0)
    assert deeds(actions) == [Bury("chat")]


def test_stopping_asks_those_that_run_and_forgets_those_that_wait():
    one = running("chat", "stt", "beat")
    one.receive(Exited("beat", 1), 1.0)
    assert deeds(one.receive(StopRequested(), 1.1)) == [Send("chat", signal.SIGTERM), Send("stt", signal.SIGTERM)]
    assert one.deadline == 31.1
    assert deeds(one.receive(Exited("chat", 0), 2.0)) == [Bury("chat")]
    assert not one.finished
    one.receive(Exited("stt", 0), 3.0)
    assert one.finished
    assert one.killed == ()


def test_what_outlasts_the_grace_period_is_killed_once():
    one = running("chat", "stt")
    one.receive(StopRequested(), 0.0)
    one.receive(Exited("stt", 0), 1.0)
    assert deeds(one.receive(Tick(), 30.0)) == [KillGroup("chat")]
    assert one.receive(Tick(), 31.0) == []
    assert one.deadline is None
    one.receive(Exited("chat", -9), 31.0)
    assert one.finished
    assert one.killed == ("chat",)


def test_a_second_stop_changes_nothing():
    one = running("chat")
    one.receive(StopRequested(), 0.0)
    assert one.receive(StopRequested(), 10.0) == []
    assert one.deadline == 30.0


def test_the_first_interrupt_stops_and_the_second_kills():
    one = running("chat")
    assert deeds(one.receive(Interrupted(), 0.0)) == [Send("chat", signal.SIGTERM)]
    assert deeds(one.receive(Interrupted(), 0.1)) == [KillGroup("chat")]
    assert one.killed == ("chat",)


def test_an_interrupt_after_a_stop_kills():
    one = running("chat")
    one.receive(StopRequested(), 0.0)
    assert deeds(one.receive(Interrupted(), 0.1)) == [KillGroup("chat")]


def test_a_signal_goes_only_to_a_process_that_runs():
    one = running("chat")
    assert one.receive(KillRequested("chat", 9), 0.0) == [Send("chat", 9)]
    one.receive(Exited("chat", -9), 0.0)
    assert one.receive(KillRequested("chat", 9), 0.1) == []
    assert one.receive(KillRequested("stranger", 9), 0.1) == []


def test_nothing_joins_while_stopping():
    one = running("chat")
    one.receive(StopRequested(), 0.0)
    assert one.receive(Added("late"), 0.0) == []


FACTS = st.sampled_from(["exit", "tick", "kill", "stop", "interrupt", "add"])


@given(st.lists(st.tuples(FACTS, st.sampled_from("ab"), st.floats(0, 40))))
def test_whatever_happens_each_process_is_there_once_and_none_starts_while_stopping(story):
    one, now, alive, known = Roster(grace_s=30.0, restarts=RestartPolicy()), 0.0, set(), set()

    def perform(actions):
        for action in actions:
            match action:
                case Spawn(name):
                    assert name not in alive
                    assert not one.stopping
                    alive.add(name)
                    perform(one.receive(Started(name, 1), now))
                case Send(name) | KillGroup(name):
                    assert name in alive
                case Bury(name):
                    alive.remove(name)

    for kind, name, later in story:
        now += later
        if kind == "add" and name not in known:
            known.add(name)
            perform(one.receive(Added(name), now))
        elif kind == "exit" and name in alive:
            perform(one.receive(Exited(name, 1), now))
        elif kind in ("kill", "stop", "interrupt", "tick"):
            facts = {"kill": KillRequested(name, 9), "stop": StopRequested(), "interrupt": Interrupted()}
            perform(one.receive(facts.get(kind, Tick()), now))
        assert one.finished == (one.stopping and not alive)
