"""Checks that end, whatever they ask (`telemetry.health`), and what is kept of what was looked at."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.waiting import eventually
from workers.adapters.memory.clock import ManualClock
from workers.ports import StoreUnavailable, Waiting
from workers.runners.queues import QueueWatch
from workers.telemetry import Heart, LoopAnswers, Readiness, Verdict, WorstLately, on_loop


class Moment:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that turns in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.requirement("OPS-08")
def test_checks_run_side_by_side_and_one_that_raises_says_so_without_its_text() -> None:
    together = threading.Barrier(2)

    def meets() -> Verdict:
        together.wait(5)
        return Verdict(True, "met")

    def raises() -> Verdict:
        together.wait(5)
        raise ValueError("a secret")

    found = Readiness({"one": meets, "two": raises}).look()
    assert (found["one"].ok, found["one"].says) == (True, "met")
    assert (found["two"].ok, found["two"].says) == (False, "ValueError")
    assert found["one"].ms >= 0


@pytest.mark.requirement("OPS-08")
def test_a_check_that_hangs_is_told_in_time_and_never_begun_twice() -> None:
    gate, begun = threading.Event(), list[int]()

    def hangs() -> Verdict:
        begun.append(1)
        gate.wait(10)
        return Verdict(True, "at last")

    ready = Readiness({"slow": hangs, "quick": lambda: Verdict(True, "here")}, bound_s=0.05, fresh_s=0.0)
    for _ in range(3):
        found = ready.look()
        assert (found["quick"].ok, found["slow"].ok) == (True, False)
        assert found["slow"].says.startswith("no answer for 0.")
    assert begun == [1]
    gate.set()
    eventually(lambda: ready.look()["slow"].ok)


@pytest.mark.requirement("OPS-08")
def test_a_crowd_of_probes_is_answered_by_one_look() -> None:
    looks = list[int]()

    def counts() -> Verdict:
        looks.append(1)
        return Verdict(True, "")

    ready = Readiness({"counted": counts}, fresh_s=60)
    crowd = [threading.Thread(target=ready.look) for _ in range(20)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert looks == [1]


@pytest.mark.requirement("OPS-08")
def test_a_heart_lives_while_it_beats() -> None:
    moment = Moment()
    heart = Heart(30, moment)
    moment.now += 30
    assert heart().ok
    moment.now += 1
    assert heart() == Verdict(False, "the last tick was 31.0 s ago, 30 s are allowed")
    heart.beat()
    assert heart().ok


@pytest.mark.requirement("OPS-08")
def test_a_loop_that_hangs_does_not_live_and_is_not_buried_in_questions(loop: asyncio.AbstractEventLoop) -> None:
    gate, live = threading.Event(), LoopAnswers(loop, bound_s=0.05)
    assert live().ok
    loop.call_soon_threadsafe(gate.wait, 10)
    assert not live().ok
    asked = live._asked
    assert [live().ok for _ in range(5)] == [False] * 5
    assert live._asked is asked
    gate.set()
    eventually(lambda: live().ok)


@pytest.mark.requirement("OPS-08")
def test_a_loop_that_is_closed_does_not_live_and_answers_no_check() -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    async def ask() -> str:
        return "never"

    assert LoopAnswers(loop)() == on_loop(loop, ask)() == Verdict(False, "the event loop is closed")


@pytest.mark.requirement("OPS-08")
def test_a_check_on_the_loop_says_what_it_returns_or_why_not(loop: asyncio.AbstractEventLoop) -> None:
    async def answers() -> str:
        return "schema 0002"

    async def away() -> str:
        raise StoreUnavailable("Redis: ConnectionError")

    found = Readiness({"sql": on_loop(loop, answers), "redis": on_loop(loop, away)}).look()
    assert (found["sql"].ok, found["sql"].says) == (True, "schema 0002")
    assert (found["redis"].ok, found["redis"].says) == (False, "StoreUnavailable: Redis: ConnectionError")


@pytest.mark.requirement("OPS-09")
def test_the_worst_is_that_of_the_last_seconds() -> None:
    moment = Moment()
    worst = WorstLately(moment)
    worst.note(3.0)
    worst.note(1.0)
    assert worst() == 3.0
    moment.now += 11
    worst.note(0.5)
    assert worst() == 3.0
    moment.now += 11
    assert worst() == 0.5
    moment.now += 100
    assert worst() == 0.0


class _Store:
    def __init__(self) -> None:
        self.away = False

    async def waiting(self) -> dict[str, Waiting]:
        if self.away:
            raise StoreUnavailable("away")
        return {"full": Waiting(2, 10.0), "empty": Waiting(0, 0.0)}


@pytest.mark.requirement("OPS-09")
async def test_what_waits_grows_older_between_two_looks_and_is_not_told_when_it_is_not_known() -> None:
    store, moment = _Store(), Moment()
    watch = QueueWatch(store, ManualClock(), moment)
    assert watch() == {}
    await watch.look()
    moment.now += 4
    assert watch() == {"full": Waiting(2, 14.0), "empty": Waiting(0, 0.0)}
    store.away = True
    with pytest.raises(StoreUnavailable):
        await watch.look()
    moment.now += 12
    assert watch() == {}
