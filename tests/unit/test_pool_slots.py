"""The concurrency bound, without threads."""

from dataclasses import dataclass

import pytest

from workers.pool.slots import Slots


@dataclass(eq=False)
class Item:
    pid: int


def slots(limit: int, started: list[int]) -> Slots[Item]:
    return Slots(limit, lambda item: started.append(item.pid))


def test_jobs_over_the_bound_wait_in_order() -> None:
    started: list[int] = []
    line = slots(2, started)
    items = [Item(n) for n in range(4)]
    assert all(line.admit(item) for item in items)
    assert started == [0, 1]
    assert (line.running, line.waiting, line.full) == (2, 2, True)
    line.leave(items[1])
    assert started == [0, 1, 2]


def test_a_slot_is_given_back_once() -> None:
    started: list[int] = []
    line = slots(1, started)
    items = [Item(n) for n in range(3)]
    for item in items:
        line.admit(item)
    line.leave(items[0])
    line.leave(items[0])
    assert started == [0, 1]


def test_a_waiting_job_can_be_withdrawn_and_a_running_one_cannot() -> None:
    started: list[int] = []
    line = slots(1, started)
    running, waiting = Item(1), Item(2)
    line.admit(running)
    line.admit(waiting)
    assert line.withdraw(waiting)
    assert not line.withdraw(waiting)
    assert not line.withdraw(running)
    assert line.find(2) is waiting  # it is dying: shutdown must wait for it
    line.leave(running)
    assert started == [1]
    line.leave(waiting)
    assert line.wait_empty(0)


def test_growing_starts_the_waiting_and_shrinking_starts_nothing() -> None:
    started: list[int] = []
    line = slots(1, started)
    items = [Item(n) for n in range(4)]
    for item in items:
        line.admit(item)
    line.resize(2)
    assert started == [0, 1, 2]
    line.resize(-2)
    line.leave(items[0])
    assert started == [0, 1, 2]
    with pytest.raises(ValueError, match="at least one slot"):
        line.resize(-1)


def test_a_closed_line_starts_nothing_and_forgets_who_waits() -> None:
    started: list[int] = []
    line = slots(1, started)
    running, waiting = Item(1), Item(2)
    line.admit(running)
    line.admit(waiting)
    line.close()
    assert not line.admit(Item(3))
    assert not line.wait_empty(0)
    line.leave(running)
    assert started == [1]
    assert line.wait_empty(0)
    assert line.jobs() == []
