"""Signals and letters: accepted while the run lives, once per sender's id, delivered in order by one reader."""

import pytest

from tests.contract.run_store.worlds import TIMING, Said, World, given_held_run, given_run, queued
from tests.waiting import eventually_async
from workers.ports import Claimed, Lease, Letter


class Letters(list[Letter]):
    """What was delivered so far."""

    async def until(self, count: int) -> "Letters":
        """Return self once at least `count` letters are here."""

        async def enough() -> bool:
            return len(self) >= count

        await eventually_async(enough)
        return self

    @property
    def types(self) -> list[str]:
        return [letter.type for letter in self]


@pytest.mark.requirement("RUN-06")
async def test_a_signal_is_taken_before_the_start_while_running_and_after_a_release(world: World) -> None:
    run_id = await given_run(world)
    assert await world.store.signal(run_id, "before", {}, "1") == "sent"
    await world.store.acquire(run_id, "ann", "")
    assert await world.store.signal(run_id, "running", {}, "2") == "sent"
    await world.store.release(Lease(run_id, 1, "ann"))
    assert await world.store.signal(run_id, "released", {}, "3") == "sent"
    letters = Letters()
    stop = world.inbox.watch(run_id, "0", letters.append)
    assert (await letters.until(3)).types == ["before", "running", "released"]
    stop()


@pytest.mark.requirement("RUN-06", "RUN-26")
async def test_a_run_that_nobody_holds_is_due_at_once_when_it_is_asked_to_end(world: World) -> None:
    run_id = await given_run(world)
    assert await world.store.claim(run_id) is None
    assert await world.store.signal(run_id, "cancel", {}, "1") == "woken"
    assert await world.store.claim(run_id) == Claimed(run_id, None, cancelled=True, waits_in="fireworks.chat")
    assert await world.store.claim(run_id) is None, "one rings"
    assert await world.store.signal(run_id, "cancel", {}, "1") == "sent"
    await world.store.acquire(run_id, "ann", "")
    assert await world.store.signal(run_id, "cancel", {}, "2") == "sent", "its owner reads it"


@pytest.mark.requirement("RUN-06")
async def test_a_signal_after_the_end_changes_nothing_and_says_so(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, [Said(text="end")], terminal="cancelled")
    assert await world.store.signal(run_id, "cancel", {}, "1") == "finished"
    await world.store.announced(run_id)
    assert await world.store.signal(run_id, "cancel", {}, "1") == "finished"
    assert len(await world.store.read(run_id)) == 2


async def test_a_signal_to_an_unknown_run_says_so(world: World) -> None:
    assert await world.store.signal(world.new_run_id(), "cancel", {}, "1") == "missing"


@pytest.mark.requirement("RUN-06")
async def test_a_signal_that_is_sent_again_is_delivered_once(world: World) -> None:
    run_id = await given_run(world)
    for signal_id in ("a", "a", "b", "a"):
        assert await world.store.signal(run_id, f"signal {signal_id}", {}, signal_id) == "sent"
    await world.store.signal(run_id, "last", {}, "c")
    letters = Letters()
    stop = world.inbox.watch(run_id, "0", letters.append)
    assert (await letters.until(3)).types == ["signal a", "signal b", "last"]
    stop()


async def test_signals_without_an_id_are_all_delivered(world: World) -> None:
    run_id = await given_run(world)
    await world.store.signal(run_id, "one", {}, "")
    await world.store.signal(run_id, "one", {}, "")
    letters = Letters()
    stop = world.inbox.watch(run_id, "0", letters.append)
    assert (await letters.until(2)).types == ["one", "one"]
    stop()


async def test_a_letter_brings_what_was_sent_as_json_has_it(world: World) -> None:
    run_id = await given_run(world)
    await world.store.signal(run_id, "tool_result", {"value": [0, False, None, "", {"ü": "\0"}], "pair": (1, 2)}, "1")
    letters = Letters()
    stop = world.inbox.watch(run_id, "0", letters.append)
    (letter,) = await letters.until(1)
    assert letter.type == "tool_result"
    assert letter.data == {"value": [0, False, None, "", {"ü": "\0"}], "pair": [1, 2]}
    stop()


@pytest.mark.requirement("RUN-04")
async def test_a_successor_reads_on_after_the_letter_that_its_predecessor_took(world: World) -> None:
    run_id = await given_run(world)
    first, second = Letters(), Letters()
    stop = world.inbox.watch(run_id, "0", first.append)
    for kind in ("one", "two", "three"):
        await world.store.signal(run_id, kind, {}, kind)
    await first.until(3)
    stop()
    await world.store.signal(run_id, "four", {}, "four")
    stop = world.inbox.watch(run_id, first[1].id, second.append)
    assert (await second.until(2)).types == ["three", "four"]
    assert second[0] == first[2]
    stop()


async def test_a_watch_delivers_nothing_before_it_is_set_up_and_nothing_after_its_stop(world: World) -> None:
    run_id, other = await given_run(world), await given_run(world)
    await world.store.signal(run_id, "one", {}, "1")
    letters, others = Letters(), Letters()

    def take_and_stop(letter: Letter) -> None:
        letters.append(letter)
        stop()

    stop = world.inbox.watch(run_id, "0", take_and_stop)
    assert letters == []
    await letters.until(1)
    await world.store.signal(run_id, "two", {}, "2")
    await world.store.signal(other, "marker", {}, "1")
    stop_other = world.inbox.watch(other, "0", others.append)
    await others.until(1)
    assert letters.types == ["one"]
    stop_other()
    stop()


async def test_a_letter_that_stops_its_watch_is_the_last(world: World) -> None:
    run_id = await given_run(world)
    for kind in ("one", "two", "three"):
        await world.store.signal(run_id, kind, {}, kind)
    letters, again = Letters(), Letters()

    def take_and_stop(letter: Letter) -> None:
        letters.append(letter)
        stop()

    stop = world.inbox.watch(run_id, "0", take_and_stop)
    await letters.until(1)
    stop_again = world.inbox.watch(run_id, "0", again.append)
    await again.until(3)
    assert letters.types == ["one"]
    stop_again()


async def test_many_runs_get_their_own_letters_through_one_reader(world: World) -> None:
    runs = {await given_run(world): Letters() for _ in range(60)}
    stops = [world.inbox.watch(run_id, "0", letters.append) for run_id, letters in runs.items()]
    for number in range(3):
        for run_id in runs:
            await world.store.signal(run_id, f"{run_id} {number}", {}, f"{number}")
    for run_id, letters in runs.items():
        assert (await letters.until(3)).types == [f"{run_id} {number}" for number in range(3)]
    for stop in stops:
        stop()


async def test_a_box_of_many_letters_is_delivered_whole_and_in_order(world: World) -> None:
    run_id = await given_run(world)
    for number in range(250):
        await world.store.signal(run_id, f"{number}", {}, f"{number}")
    letters = Letters()
    stop = world.inbox.watch(run_id, "0", letters.append)
    assert (await letters.until(250)).types == [f"{number}" for number in range(250)]
    stop()


async def test_letters_outlive_their_first_lease(world: World) -> None:
    run_id, _ = await given_held_run(world)
    await world.store.signal(run_id, "cancel", {}, "1")
    await world.pass_time(TIMING.lease_s)
    await world.store.acquire(run_id, "bob", "")
    letters = Letters()
    stop = world.inbox.watch(run_id, "0", letters.append)
    assert (await letters.until(1)).types == ["cancel"]
    stop()


async def test_a_run_may_be_watched_before_it_is_known(world: World) -> None:
    run_id = world.new_run_id()
    letters = Letters()
    stop = world.inbox.watch(run_id, "0", letters.append)
    assert await world.store.signal(run_id, "early", {}, "1") == "missing"
    await world.store.submit(run_id, queued(), None)
    await world.store.signal(run_id, "cancel", {}, "1")
    assert (await letters.until(1)).types == ["cancel"]
    stop()
