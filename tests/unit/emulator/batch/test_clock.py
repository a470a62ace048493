"""Virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.emulator.batch import VirtualClock

pytestmark = pytest.mark.requirement("EMU-06")


class Hands:
    """A real clock that the test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_virtual_seconds_pass_at_the_speed() -> None:
    hands = Hands()
    clock = VirtualClock(60, start=500.0, real=hands)
    hands.at += 2
    assert clock.now() == 620.0


def test_a_change_of_speed_keeps_what_has_passed() -> None:
    hands = Hands()
    clock = VirtualClock(60, start=0.0, real=hands)
    hands.at += 1
    clock.run_at(2)
    hands.at += 10
    assert (clock.now(), clock.speed) == (80.0, 2)


def test_a_clock_that_stands_still_moves_by_hand() -> None:
    hands = Hands()
    clock = VirtualClock(0, start=100.0, real=hands)
    hands.at += 1000
    clock.advance(7.5)
    assert clock.now() == 107.5


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 2e9])
def test_what_is_no_time_is_refused(value: float) -> None:
    clock = VirtualClock(1)
    with pytest.raises(ValueError, match="seconds must be"):
        clock.advance(value)
    with pytest.raises(ValueError, match="speed must be"):
        clock.run_at(value)
    assert clock.speed == 1


@given(st.lists(st.tuples(st.sampled_from(["wait", "advance", "speed"]), st.floats(0, 1e6)), max_size=20))
def test_time_never_goes_back(acts: list[tuple[str, float]]) -> None:
    hands = Hands()
    clock = VirtualClock(1, start=0.0, real=hands)
    for act, amount in acts:
        before = clock.now()
        if act == "wait":
            hands.at += amount
        elif act == "advance":
            clock.advance(amount)
        else:
            clock.run_at(amount)
        assert clock.now() >= before
