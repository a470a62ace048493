"""Who writes a run's journal (`runners.scribe`)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from api_contracts.chat import ChatDelta
from api_contracts.runs import EventData
from tests.waiting import idle, one_turn
from workers.adapters.memory.clock import ManualClock
from workers.ports import KeysDamaged, Lease, LeaseLost, RunStore, StoreUnavailable
from workers.runners.scribe import Scribe

pytestmark = pytest.mark.requirement("RUN-02", "RUN-21")


class Journal:
    """The one method of a store that a scribe uses. Each append waits until it is let through, or fails as told."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.asked: list[tuple[int, list[str]]] = []
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, lease: Lease, base_seq: int, events: Sequence[EventData], *, terminal: object = None) -> int:
        words = [event.text for event in events if isinstance(event, ChatDelta)]
        self.asked.append((base_seq, words))
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.words[base_seq:] = words
        return len(self.words)


class Desk:
    def __init__(self) -> None:
        self.journal = Journal()
        self.seen: list[str] = []
        self.troubles: list[bool] = []
        store: RunStore = self.journal  # type: ignore[assignment]
        self.scribe = Scribe(store, ManualClock(), self, self.again, lambda: self.troubles.append(True))  # type: ignore[arg-type]
        self.scribe.begin(Lease("run-1", 1, "ann"), 0)

    def saw(self, events: Sequence[EventData], now: float) -> None:
        self.seen += [event.text for event in events if isinstance(event, ChatDelta)]

    async def again(self, act: Callable[[], Awaitable[int]]) -> int:
        while True:
            try:
                return await act()
            except StoreUnavailable:
                await one_turn()


def words(*texts: str) -> list[EventData]:
    return [ChatDelta(attempt=1, text=text) for text in texts]


async def test_what_is_told_is_waited_for_by_nobody_and_lands() -> None:
    desk = Desk()
    desk.journal.gate.clear()
    desk.scribe.tell(words("a"))
    assert not desk.scribe.is_settled
    desk.journal.gate.set()
    await idle()
    assert (desk.scribe.is_settled, desk.journal.words, desk.seen, desk.troubles) == (True, ["a"], ["a"], [])


async def test_what_is_appended_next_comes_behind_what_was_told() -> None:
    desk = Desk()
    desk.journal.gate.clear()
    desk.scribe.tell(words("a"))
    appending = asyncio.create_task(desk.scribe.append(words("b")))
    await idle()
    assert desk.journal.asked == [(0, ["a"])]
    desk.journal.gate.set()
    await appending
    assert (desk.journal.words, desk.journal.asked) == (["a", "b"], [(0, ["a"]), (1, ["b"])])


async def test_what_was_told_into_an_outage_is_appended_again_before_anything_else() -> None:
    desk = Desk()
    desk.journal.failures += [StoreUnavailable("away"), StoreUnavailable("away")]
    desk.scribe.tell(words("a"))
    await idle()
    assert (desk.troubles, desk.scribe.is_settled, desk.journal.words) == ([True], False, [])
    await desk.scribe.append(words("b"))
    assert (desk.journal.words, desk.seen) == (["a", "b"], ["a", "b"])


@pytest.mark.parametrize("fault", [LeaseLost("run-1"), KeysDamaged("run-1"), ValueError("refused for good")])
async def test_what_makes_a_word_impossible_is_heard_by_whoever_settles(fault: Exception) -> None:
    desk = Desk()
    desk.journal.failures.append(fault)
    desk.scribe.tell(words("a"))
    await idle()
    assert desk.troubles == [True]
    with pytest.raises(type(fault)):
        await desk.scribe.append(words("b"))
    assert desk.journal.words == []


async def test_one_that_is_closed_leaves_no_append_under_way() -> None:
    desk = Desk()
    desk.journal.gate.clear()
    desk.scribe.tell(words("a"))
    await idle()
    desk.scribe.close()
    await idle()
    assert len(asyncio.all_tasks()) == 1
