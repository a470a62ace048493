"""A run is recorded once, whoever says it again."""

import asyncio
from collections import Counter

import pytest

from api_contracts.client.scripts import REQUEST_BLOB, RESULT_BLOB
from api_contracts.keys import BadRunId
from tests.contract.run_store.worlds import World, given_held_run, given_run, queued
from workers.ports import Lease, Missing


@pytest.mark.requirement("RUN-01")
async def test_a_run_is_created_once(world: World) -> None:
    run_id = world.new_run_id()
    assert await world.store.submit(run_id, queued(), None) == "created"
    assert await world.store.submit(run_id, queued(), None) == "exists"
    assert len(await world.store.read(run_id)) == 1


@pytest.mark.requirement("RUN-01")
async def test_another_request_under_the_same_id_is_a_conflict_and_changes_nothing(world: World) -> None:
    run_id, granted = await given_held_run(world)
    before = await world.store.read(run_id)
    assert await world.store.submit(run_id, queued("d2"), "its blob") == "conflict"
    assert await world.store.read(run_id) == before
    assert await world.store.blob(run_id, REQUEST_BLOB) is None
    assert await world.store.renew([granted.lease]) == set()


@pytest.mark.requirement("RUN-01")
async def test_of_many_who_submit_at_once_one_creates_the_run(world: World) -> None:
    run_id = world.new_run_id()
    stores = [world.store, await world.another_process()]
    answers = await asyncio.gather(*(store.submit(run_id, queued(), None) for store in stores * 5))
    assert Counter(answers) == {"created": 1, "exists": 9}


@pytest.mark.requirement("RUN-02")
async def test_the_journal_begins_with_the_request_under_epoch_0(world: World) -> None:
    run_id = world.new_run_id()
    given = queued(tenant="acme", labels={"team": "search"}, writer="test", request={"messages": [{"role": "user"}]})
    await world.store.submit(run_id, given, None)
    (event,) = await world.store.read(run_id)
    assert (event.seq, event.type, event.epoch) == (1, "run.queued", 0)
    assert event.at > 1_600_000_000_000
    assert type(given).model_validate(event.data) == given


@pytest.mark.requirement("RUN-25")
async def test_a_large_request_is_kept_beside_the_journal(world: World) -> None:
    run_id = world.new_run_id()
    text = '{"messages": "' + "ä" * 1_000_000 + '"}'
    await world.store.submit(run_id, queued(request=None, request_blob=REQUEST_BLOB), text)
    assert await world.store.blob(run_id, REQUEST_BLOB) == text


async def test_a_spilled_value_comes_back_and_an_unknown_one_is_none(world: World) -> None:
    run_id = await given_run(world)
    await world.store.put_blob(run_id, RESULT_BLOB, "the\0result\r\n\u2028")
    assert await world.store.blob(run_id, RESULT_BLOB) == "the\0result\r\n\u2028"
    assert await world.store.blob(run_id, REQUEST_BLOB) is None
    assert await world.store.blob(world.new_run_id(), REQUEST_BLOB) is None


async def test_a_value_may_be_spilled_before_its_run_is_known(world: World) -> None:
    run_id = world.new_run_id()
    await world.store.put_blob(run_id, RESULT_BLOB, "early")
    assert await world.store.blob(run_id, RESULT_BLOB) == "early"


@pytest.mark.parametrize("run_id", ["", "x", "-ab", "ab-", "a b", "a{b}c", "a" * 129, "ä1", "ab\n"])
async def test_a_malformed_run_id_is_refused_before_anything_is_written(world: World, run_id: str) -> None:
    with pytest.raises(BadRunId):
        await world.store.submit(run_id, queued(), None)


async def test_of_an_unknown_run_there_is_nothing(world: World) -> None:
    run_id = world.new_run_id()
    assert await world.store.read(run_id) == []
    assert await world.store.acquire(run_id, "ann", "") == Missing()
    assert await world.store.renew([Lease(run_id, 1, "ann")]) == {Lease(run_id, 1, "ann")}
    await world.store.release(Lease(run_id, 1, "ann"))
    await world.store.announced(run_id)
    assert await world.store.acquire(run_id, "ann", "its signature") == Missing()
    assert await world.next_look(run_id) is None
