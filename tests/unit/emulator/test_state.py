"""What a server remembers, and that it forgets."""

from workers.emulator.scenes import Rule
from workers.emulator.state import EmulatorState, derived


def test_request_ids_are_unique_and_the_same_after_a_reset() -> None:
    state = EmulatorState(seed=7)
    first, second = state.request_id(), state.request_id()
    assert first != second
    state.reset()
    assert state.request_id() == first
    assert EmulatorState(seed=8).request_id() != first


def test_a_rule_is_used_up_until_a_reset() -> None:
    state, rule = EmulatorState(seed=7), Rule(times=1)
    assert state.usable(0, rule)
    state.use(0)
    assert not state.usable(0, rule)
    assert state.usable(1, rule)
    state.reset()
    assert state.usable(0, rule)


def test_a_reset_keeps_count_of_what_is_in_flight() -> None:
    state = EmulatorState(seed=7)
    state.stats.active, state.stats.completed = 2, 5
    state.reset()
    assert (state.stats.active, state.stats.completed) == (2, 0)


def test_memories_are_bounded() -> None:
    state = EmulatorState(seed=7)
    for number in range(20_100):
        state.occurrence(str(number))
    assert state.occurrence("20099") == 1
    assert state.occurrence("0") == 0


def test_what_is_derived_depends_on_every_part() -> None:
    assert len({derived(1, "a"), derived(2, "a"), derived(1, "b"), derived(1, "a", 0)}) == 4
