"""The journal: dense, fenced, and safe to say twice."""

import pytest

from tests.contract.run_store.worlds import TIMING, Said, World, given_held_run, given_run, said
from workers.ports import Lease, LeaseLost


def texts(*words: str) -> list[Said]:
    return [Said(text=word) for word in words]


@pytest.mark.requirement("RUN-02")
async def test_events_follow_each_other_without_a_gap(world: World) -> None:
    run_id, granted = await given_held_run(world)
    assert await world.store.append(granted.lease, 1, texts("a", "b")) == 3
    assert await world.store.append(granted.lease, 3, texts("c")) == 4
    journal = await world.store.read(run_id)
    assert [(event.seq, event.epoch) for event in journal] == [(1, 0), (2, 1), (3, 1), (4, 1)]
    assert [event.at for event in journal] == sorted(event.at for event in journal)
    assert await said(world, run_id) == ["a", "b", "c"]


@pytest.mark.requirement("RUN-02")
async def test_reading_from_a_seq_gives_what_came_after_it(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, texts("a", "b"))
    assert [event.seq for event in await world.store.read(run_id, after=1)] == [2, 3]
    assert await world.store.read(run_id, after=3) == []


@pytest.mark.requirement("RUN-02")
async def test_a_journal_longer_than_a_page_is_read_whole(world: World) -> None:
    run_id, granted = await given_held_run(world)
    words = [f"w{number}" for number in range(2500)]
    await world.store.append(granted.lease, 1, texts(*words))
    assert await said(world, run_id) == words
    assert [event.seq for event in await world.store.read(run_id, after=1501)] == list(range(1502, 2502))


@pytest.mark.requirement("RUN-02")
async def test_a_journal_of_exactly_one_page_is_read_whole(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, texts(*("x" * 999)))
    assert len(await world.store.read(run_id)) == 1000


@pytest.mark.requirement("RUN-03")
async def test_an_append_under_a_stale_epoch_writes_nothing(world: World) -> None:
    run_id, stale = await given_held_run(world, "ann")
    await world.store.append(stale.lease, 1, texts("mine"))
    await world.pass_time(TIMING.lease_s)
    current = await world.store.acquire(run_id, "bob", "")
    before = await world.store.read(run_id)
    with pytest.raises(LeaseLost):
        await world.store.append(stale.lease, 2, texts("zombie"))
    with pytest.raises(LeaseLost):
        await world.store.append(stale.lease, 2, texts("zombie's end"), terminal="completed")
    assert await world.store.read(run_id) == before
    assert await world.store.acquire(run_id, "cat", "") != current
    assert await world.store.append(Lease(run_id, 2, "bob"), 2, texts("bob's")) == 3


@pytest.mark.requirement("RUN-03")
@pytest.mark.parametrize("epoch", [0, 2, -1])
async def test_an_append_under_an_epoch_that_nobody_was_given_writes_nothing(world: World, epoch: int) -> None:
    run_id, _ = await given_held_run(world)
    with pytest.raises(LeaseLost):
        await world.store.append(Lease(run_id, epoch, "ann"), 1, texts("x"))
    assert await said(world, run_id) == []


@pytest.mark.requirement("RUN-03")
async def test_before_the_first_lease_nobody_may_append_or_renew(world: World) -> None:
    run_id = await given_run(world)
    with pytest.raises(LeaseLost):
        await world.store.append(Lease(run_id, 0, ""), 1, texts("x"))
    assert await world.store.renew([Lease(run_id, 0, "")]) == {Lease(run_id, 0, "")}
    assert await said(world, run_id) == []


async def test_nobody_may_append_to_an_unknown_run(world: World) -> None:
    run_id = world.new_run_id()
    with pytest.raises(LeaseLost):
        await world.store.append(Lease(run_id, 1, "ann"), 0, texts("x"))
    assert await world.store.read(run_id) == []


@pytest.mark.requirement("RUN-21")
async def test_an_append_that_is_repeated_because_its_reply_was_lost_is_there_once(world: World) -> None:
    run_id, granted = await given_held_run(world)
    first = await world.store.append(granted.lease, 1, texts("a", "b"))
    assert await world.store.append(granted.lease, 1, texts("a", "b")) == first
    await world.store.append(granted.lease, first, texts("c"))
    assert await world.store.append(granted.lease, 1, texts("a", "b")) == first
    assert await said(world, run_id) == ["a", "b", "c"]


async def test_an_append_of_which_a_part_had_landed_is_continued(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, texts("a", "b"))
    assert await world.store.append(granted.lease, 1, texts("a", "b", "c", "d")) == 5
    assert await said(world, run_id) == ["a", "b", "c", "d"]


async def test_an_append_beyond_the_end_of_the_journal_is_refused(world: World) -> None:
    run_id, granted = await given_held_run(world)
    with pytest.raises(LeaseLost):
        await world.store.append(granted.lease, 2, texts("gap"))
    assert await said(world, run_id) == []
    assert await world.store.append(granted.lease, 1, texts("fits")) == 2


async def test_nothing_appended_is_nothing_written(world: World) -> None:
    run_id, granted = await given_held_run(world)
    assert await world.store.append(granted.lease, 1, []) == 1
    assert len(await world.store.read(run_id)) == 1


@pytest.mark.requirement("RUN-02")
async def test_a_megabyte_in_one_event_comes_back_whole(world: World) -> None:
    run_id, granted = await given_held_run(world)
    text = "0123456789abcdé\n" * 65_536
    await world.store.append(granted.lease, 1, texts(text))
    assert await said(world, run_id) == [text]


@pytest.mark.requirement("RUN-02")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "\r\n$3\r\nfoo\r\n",
        "\x1b[31m",
        "ÿþ",
        "\u2028\ufeff\ufffd",
        "👩‍👩‍👧‍👦",
        "\U0010ffff",
        '"\\u0000"',
        "-1",
        "[]",
    ],
)
async def test_text_of_any_kind_comes_back_as_it_was(world: World, text: str) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, texts(text))
    assert await said(world, run_id) == [text]


async def test_it_is_known_of_which_runs_there_is_a_journal(world: World) -> None:
    run_id = await given_run(world)
    assert await world.store.known([run_id, f"x{run_id}"]) == {run_id}
    assert await world.store.known([]) == set()
