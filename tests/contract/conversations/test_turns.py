"""What every store of conversations promises, held against each implementation of the port."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from api_contracts.client.results import SqlResults
from api_contracts.conversations import Conversation
from tests.contract.conversations.worlds import SqlWorld, World, came, life, said, taken, told, turn
from workers.core.runs.turns import ConversationKey, Opened
from workers.ports import Busy, Committed, LeaseLost

pytestmark = pytest.mark.requirement("CHAT-15")


async def texts(world: World, key: ConversationKey) -> list[str]:
    opened = await world.talks.read(key)
    assert opened is not None
    return [str(message["content"]) for message in opened.messages]


async def test_what_nobody_began_is_not_there_and_begins_empty(world: World, key: ConversationKey) -> None:
    assert await world.talks.read(key) is None
    assert await world.talks.open(key, life()) == Opened(0, [])


async def test_each_turn_reads_one_version_and_leaves_the_next(world: World, key: ConversationKey) -> None:
    for number in range(3):
        holder = life()
        opened = await taken(world, key, holder)
        assert (opened.version, list(opened.messages)) == (number, said(*map(str, range(number))))
        assert await world.archive.save(came(holder), turn(key, holder, number, str(number))) == "saved"
    assert await texts(world, key) == ["0", "1", "2"]


async def test_each_tenant_and_each_name_is_a_conversation_of_its_own(world: World, key: ConversationKey) -> None:
    await told(world, key, "mine")
    for other in (ConversationKey("other", key.id), ConversationKey(key.tenant, f"{key.id}x")):
        assert await world.talks.read(other) is None


async def test_a_tenants_name_may_be_any_text(world: World, key: ConversationKey) -> None:
    odd = ConversationKey("a\0 'b\" \ud800", key.id)
    await told(world, odd, "before\0after 😀 \u2028 half \ud83d")
    assert await texts(world, odd) == ["before\0after 😀 \u2028 half \ud83d"]


async def test_it_is_one_runs_until_that_run_ends(world: World, key: ConversationKey) -> None:
    mine, other = life(), life()
    await taken(world, key, mine)
    assert await world.talks.open(key, other) == Busy(mine.run_id)
    assert await world.archive.save(came(other), turn(key, other, 0, "not mine")) == "moved"
    assert await world.archive.load(other.run_id) is None, "neither the turn nor the record"
    assert await world.archive.save(came(mine), turn(key, mine, 0, "mine")) == "saved"
    assert (await taken(world, key, other)).version == 1


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_a_run_that_ends_without_a_turn_lets_go_and_leaves_nothing(
    world: World, key: ConversationKey, status: str
) -> None:
    mine = life()
    await taken(world, key, mine)
    assert await world.archive.save(came(mine, status)) == "saved"
    assert await taken(world, key, life()) == Opened(0, [])


async def test_one_of_many_that_ask_at_once_has_it(world: World, key: ConversationKey) -> None:
    lives = [life() for _ in range(8)]
    stores = [world.another()[0] if number < 2 else world.talks for number in range(8)]
    found = await asyncio.gather(*(store.open(key, each) for store, each in zip(stores, lives, strict=True)))
    winners = [each.run_id for each, said_ in zip(lives, found, strict=True) if isinstance(said_, Opened)]
    assert len(winners) == 1
    assert [each for each in found if isinstance(each, Busy)] == [Busy(winners[0])] * 7


async def test_the_same_life_may_ask_again_and_a_later_one_fences_it(world: World, key: ConversationKey) -> None:
    first = life()
    later = replace(first, life=2)
    for holder in (first, first, later):
        assert await taken(world, key, holder) == Opened(0, [])
    with pytest.raises(LeaseLost):
        await world.talks.open(key, first)
    with pytest.raises(LeaseLost):
        await world.archive.save(came(first), turn(key, first, 0, "a zombie's"))
    assert not await world.talks.commit(turn(key, first, 0, "a zombie's", kind="summary"))
    assert await world.archive.load(first.run_id) is None
    assert await world.archive.save(came(later), turn(key, later, 0, "the successor's")) == "saved"
    assert await texts(world, key) == ["the successor's"]


async def test_a_run_that_began_anew_fences_the_lives_of_its_lost_journal(world: World, key: ConversationKey) -> None:
    lost = life(number=7)
    await taken(world, key, lost)
    anew = replace(lost, queued_at=lost.queued_at + 60, life=1)
    await taken(world, key, anew)
    with pytest.raises(LeaseLost):
        await world.archive.save(came(lost), turn(key, lost, 0, "lost"))


async def test_a_turn_is_there_once_however_often_it_is_told(world: World, key: ConversationKey) -> None:
    holder = life()
    await taken(world, key, holder)
    first, again = came(holder, n=1), came(holder, n=2)
    assert await world.archive.save(first, turn(key, holder, 0, "once")) == "saved"
    assert await world.archive.save(again, turn(key, holder, 0, "twice")) == first, "what stands, stands"
    assert await world.archive.load(holder.run_id) == first
    await told(world, key, "then")
    assert await world.archive.save(again, turn(key, holder, 0, "twice")) == first
    assert await texts(world, key) == ["once", "then"]


async def test_a_life_that_finds_its_runs_turn_told_learns_what_it_came_to(world: World, key: ConversationKey) -> None:
    holder = await told(world, key, "mine")
    successor = replace(holder, life=2)
    found = await world.talks.open(key, successor)
    assert isinstance(found, Committed)
    assert found.record.run_id == holder.run_id
    assert (await taken(world, key, life())).version == 1, "nobody has it"


async def test_what_a_lost_run_has_may_be_taken_from_it(world: World, key: ConversationKey) -> None:
    gone, other = life(), life()
    await taken(world, key, gone)
    assert await world.talks.open(key, other, lost="another") == Busy(gone.run_id)
    assert isinstance(await world.talks.open(key, other, lost=gone.run_id), Opened)
    assert await world.archive.save(came(gone), turn(key, gone, 0, "late")) == "moved"
    assert await world.archive.save(came(gone, "failed")) == "saved"
    assert await world.talks.open(key, life()) == Busy(other.run_id), "the end of the lost run frees nothing"


async def test_a_version_in_place_of_all_before_it_hides_them(world: World, key: ConversationKey) -> None:
    await told(world, key, "a", "b")
    await told(world, key, "only", kind="edit", whole=True)
    await told(world, key, "and this")
    assert await texts(world, key) == ["only", "and this"]
    await told(world, key, whole=True)
    assert await texts(world, key) == []


async def test_a_version_may_come_before_the_turns_end_and_keeps_the_conversation(
    world: World, key: ConversationKey
) -> None:
    await told(world, key, "a", "b", tokens=900)
    holder = life()
    await taken(world, key, holder)
    summary = turn(key, holder, 1, "short", kind="summary", whole=True)
    assert await world.talks.commit(summary)
    assert await world.talks.commit(summary), "the very same"
    assert not await world.talks.commit(turn(key, holder, 0, "older", kind="summary"))
    assert not await world.talks.commit(turn(key, life(), 2, "another's", kind="summary"))
    assert await world.talks.open(key, life()) == Busy(holder.run_id)
    opened = await taken(world, key, replace(holder, life=2))
    assert (opened.version, list(opened.messages), opened.tokens, opened.own) == (2, said("short"), None, 1)


async def test_settings_and_their_version_last_until_they_change(world: World, key: ConversationKey) -> None:
    await told(world, key, "a", settings={"system": "be\0brief"}, settings_version=2)
    await told(world, key, "b", settings_version=2)
    opened = await taken(world, key, life())
    assert (opened.settings, opened.settings_version) == ({"system": "be\0brief"}, 2)


async def test_the_count_is_the_last_turns_and_the_floor_the_first_turns_after_a_summary(
    world: World, key: ConversationKey
) -> None:
    async def counts() -> tuple[int | None, int | None]:
        opened = await world.talks.read(key)
        assert opened is not None
        return opened.tokens, opened.floor

    await told(world, key, "a", tokens=100)
    await told(world, key, "b", tokens=300)
    await told(world, key, "not counted", kind="edit")
    assert await counts() == (300, None)
    await told(world, key, "s", whole=True, kind="summary")
    assert await counts() == (None, 0)
    await told(world, key, "c", tokens=80)
    await told(world, key, "d", tokens=95)
    assert await counts() == (95, 80)
    await told(world, key, "all new", whole=True, kind="edit")
    assert await counts() == (None, None)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
async def test_a_producer_reads_what_the_service_keeps(
    dialect: str, request: pytest.FixtureRequest, key: ConversationKey, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/talks.db" if dialect == "sqlite" else request.getfixturevalue("postgres_url")
    reader = SqlResults(url)
    if dialect == "sqlite":
        assert reader.conversation(*key) is None, "nothing is made by reading"
        shutil.copy(request.getfixturevalue("migrated_talks"), tmp_path / "talks.db")
    world = SqlWorld(url)
    odd = ConversationKey("a\0b", key.id)
    for which in (key, odd):
        await told(world, which, "hidden")
        await told(world, which, "a\0b", whole=True, settings={"top_p": 0.5}, settings_version=2, tokens=7)
        await told(world, which, "c")
        found = await reader.aconversation(*which)
        assert found == Conversation(
            id=which.id, tenant=which.tenant, version=3, messages=said("a\0b", "c"), settings={"top_p": 0.5},
            settings_version=2, tokens=7,
        )  # fmt: skip
    assert reader.conversation("another", key.id) is None
    reader.close()
    await world.close()
