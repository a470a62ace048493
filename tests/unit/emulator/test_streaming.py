"""When tokens leave, on a clock that only moves when slept on."""

import asyncio

import pytest

from tests.unit.emulator.making import chat, take
from workers.emulator.disturbance import cutter, disturb
from workers.emulator.sse import frames
from workers.emulator.streaming import Player

pytestmark = pytest.mark.requirement("EMU-01")


class VirtualClock:
    """Sleeping moves it, and so does `slip`; sleeping without end is recorded and cancelled."""

    def __init__(self) -> None:
        self.time = 100.0
        self.sleeps: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float | None) -> None:
        if seconds is None:
            raise asyncio.CancelledError
        self.sleeps.append(seconds)
        self.time += seconds


async def _play(*faults: str, slow_write_s: float = 0.0) -> tuple[list[float], VirtualClock, list[bytes], int]:
    """The time of each content chunk since the start, the clock, the writes, and the tokens counted."""
    answer, clock = take(chat(stream=True, max_tokens=6), *faults), VirtualClock()
    times, writes, counted = [], [], []

    async def write(data: bytes) -> None:
        writes.append(data)
        clock.time += slow_write_s
        if b'"content"' in data:
            times.append(round(clock.time - 100.0, 6))

    player = Player(write, cutter(answer.faults), counted.append, clock)
    await player.play(disturb(frames(answer.completions, answer.envelope), answer.faults), answer.pace)
    return times, clock, writes, sum(counted)


async def test_each_token_is_due_at_its_place_in_the_pace() -> None:
    times, _, _, counted = await _play("pace=10")
    assert times == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert counted == 6


async def test_a_slow_client_does_not_push_back_the_schedule() -> None:
    times, *_ = await _play("pace=10", slow_write_s=0.05)
    assert times == [0.15, 0.25, 0.35, 0.45, 0.55, 0.65]


async def test_a_slow_first_token_comes_before_everything() -> None:
    times, *_ = await _play("pace=10", "slow_first_token=2")
    assert times[0] == 2.1


async def test_without_a_pace_nothing_waits() -> None:
    times, clock, *_ = await _play("pace=0")
    assert len(times) == 6
    assert clock.time == 100.0
    assert 0 in clock.sleeps  # yet others get their turn


async def test_the_parts_of_a_split_event_leave_apart() -> None:
    _, clock, writes, _ = await _play("split_utf8")
    assert len([pause for pause in clock.sleeps if pause > 0]) == len(writes) // 2


async def test_a_stalled_stream_ends_only_with_its_client() -> None:
    with pytest.raises(asyncio.CancelledError):
        await _play("stall_after=2")


async def test_a_cut_stream_says_so() -> None:
    answer, clock = take(chat(stream=True), "cut_after=1"), VirtualClock()

    async def write(data: bytes) -> None:
        return None

    player = Player(write, cutter(answer.faults), lambda _: None, clock)
    assert await player.play(disturb(frames(answer.completions, answer.envelope), answer.faults), 0) is False
    assert await player.play(frames(answer.completions, answer.envelope), 0) is True
