"""What is asked at the same time goes together; everyone has its own answer, and nobody another's fault."""

import asyncio

import pytest

from tests.waiting import one_turn
from workers.runners.gathering import Gathering


class Away(Exception):
    """Nobody could be asked."""


class Desk:
    """Answers with the square; may be held up, may be away, refuses odd numbers below zero with the whole batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    async def send(self, asked: list[int]) -> list[int | Exception]:
        self.batches.append(asked)
        await self.open.wait()
        if self.away:
            raise Away
        if any(each < 0 for each in asked):
            raise ValueError(min(asked))
        return [LookupError(each) if each == 13 else each * each for each in asked]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await one_turn()


async def test_what_is_asked_in_one_turn_is_one_batch_in_its_order() -> None:
    desk = Desk()
    gathering = Gathering(desk.send)
    assert await asyncio.gather(*(gathering.ask(each) for each in (3, 1, 2))) == [9, 1, 4]
    assert desk.batches == [[3, 1, 2]]


async def test_what_is_asked_meanwhile_goes_with_the_next_one() -> None:
    desk = Desk()
    desk.open.clear()
    gathering = Gathering(desk.send)
    first = asyncio.create_task(gathering.ask(1))
    await turns()
    later = [asyncio.create_task(gathering.ask(each)) for each in (2, 3)]
    await turns()
    assert desk.batches == [[1]]
    desk.open.set()
    assert await asyncio.gather(first, *later) == [1, 4, 9]
    assert desk.batches == [[1], [2, 3]]


async def test_several_may_be_under_way_and_none_is_larger_than_it_may_be() -> None:
    desk = Desk()
    desk.open.clear()
    gathering = Gathering(desk.send, most=2, at_once=2)
    asked = [asyncio.create_task(gathering.ask(each)) for each in range(3)]
    await turns()
    asked.append(asyncio.create_task(gathering.ask(3)))
    await turns()
    assert desk.batches == [[0, 1], [2]]
    desk.open.set()
    assert await asyncio.gather(*asked) == [0, 1, 4, 9]
    assert desk.batches == [[0, 1], [2], [3]]


async def test_an_answer_that_is_a_failure_is_raised_to_its_asker_alone() -> None:
    gathering = Gathering(Desk().send)
    answers = await asyncio.gather(*(gathering.ask(each) for each in (2, 13)), return_exceptions=True)
    assert answers[0] == 4
    assert isinstance(answers[1], LookupError)


async def test_a_failure_of_the_whole_is_everybodys_and_nothing_is_sent_twice() -> None:
    desk = Desk()
    desk.away = True
    gathering = Gathering(desk.send, whole=(Away,))
    answers = await asyncio.gather(*(gathering.ask(each) for each in (1, 2)), return_exceptions=True)
    assert [type(each) for each in answers] == [Away, Away]
    assert desk.batches == [[1, 2]]


async def test_nobody_fails_for_the_sake_of_another() -> None:
    desk = Desk()
    gathering = Gathering(desk.send, whole=(Away,))
    answers = await asyncio.gather(*(gathering.ask(each) for each in (1, -1, 2)), return_exceptions=True)
    assert [answers[0], answers[2]] == [1, 4]
    assert isinstance(answers[1], ValueError)
    assert desk.batches == [[1, -1, 2], [1], [-1], [2]]


async def test_an_asker_that_gave_up_holds_up_nobody() -> None:
    desk = Desk()
    desk.open.clear()
    gathering = Gathering(desk.send)
    asked = [asyncio.create_task(gathering.ask(each)) for each in (1, 2)]
    await turns()
    asked[0].cancel()
    desk.open.set()
    assert await asked[1] == 4
    with pytest.raises(asyncio.CancelledError):
        await asked[0]
    assert await gathering.ask(3) == 9
