"""Each signal to each kind of run at each stage: kept until the end, and after it refused without a trace."""

from collections.abc import Awaitable, Callable
from typing import get_args

import pytest

from api_contracts.names import Kind
from api_contracts.runs import Status
from api_contracts.signals import SIGNALS
from tests.contract.run_store.worlds import Said, World, claims, queued
from tests.unit.test_signals import GOOD
from workers.ports import Claimed, Granted

pytestmark = pytest.mark.requirement("RUN-06")

Stage = Callable[[World, Kind], Awaitable[str]]


async def submitted(world: World, kind: Kind) -> str:
    run_id = world.new_run_id()
    await world.store.submit(run_id, queued(kind=kind), None)
    return run_id


async def held(world: World, kind: Kind) -> tuple[str, Granted]:
    run_id = await submitted(world, kind)
    granted = await world.store.acquire(run_id, "ann", "")
    assert isinstance(granted, Granted)
    return run_id, granted


async def running(world: World, kind: Kind) -> str:
    return (await held(world, kind))[0]


async def released(world: World, kind: Kind) -> str:
    run_id, granted = await held(world, kind)
    await world.store.release(granted.lease)
    return run_id


async def lost(world: World, kind: Kind) -> str:
    """Its worker died: the lease ran out."""
    run_id, _ = await held(world, kind)
    await world.pass_time(40)
    return run_id


async def parked(world: World, kind: Kind) -> str:
    run_id, granted = await held(world, kind)
    assert await world.store.park(granted.lease, "0", None) == "parked"
    return run_id


async def reopened(world: World, kind: Kind) -> str:
    run_id, granted = await held(world, kind)
    await world.store.append(granted.lease, 1, [Said(text="x")], terminal="failed")
    await world.store.announced(run_id)
    said = await world.store.retry(run_id, "ann", "")
    if said == "session":  # a speech session stays over
        return await submitted(world, kind)
    assert said == "reopened"
    return run_id


KINDS = pytest.mark.parametrize("kind", get_args(Kind))
BEFORE_THE_END = pytest.mark.parametrize(
    "stage", [submitted, running, released, lost, parked, reopened], ids=lambda stage: stage.__name__
)


@KINDS
@BEFORE_THE_END
async def test_every_signal_before_the_end_is_kept_for_whoever_takes_the_run(
    world: World, kind: Kind, stage: Stage
) -> None:
    run_id = await stage(world, kind)
    before, journal = len(await world.inbox.backlog(run_id, "0")), await world.store.read(run_id)
    for signal, data in GOOD.items():
        assert await world.store.signal(run_id, signal, data, f"id {signal}") in ("sent", "woken")
        assert await world.store.signal(run_id, signal, data, f"id {signal}") in ("sent", "woken"), "a repeat"
    letters = (await world.inbox.backlog(run_id, "0"))[before:]
    assert [(letter.type, letter.data) for letter in letters] == list(GOOD.items())
    assert await world.store.read(run_id) == journal, "only the holder of the lease writes events"


@pytest.mark.parametrize("signal", SIGNALS)
async def test_every_signal_wakes_a_parked_run_once(world: World, signal: str) -> None:
    run_id = await parked(world, "chat")
    assert await claims(world.store, run_id) == []
    assert await world.store.signal(run_id, signal, GOOD[signal], "") == "woken"
    claimed = await world.store.claim(run_id)
    assert isinstance(claimed, Claimed)
    assert claimed.cancelled == (signal == "cancel")
    assert await world.store.claim(run_id) is None


@KINDS
@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("status", get_args(Status))
async def test_every_signal_after_the_end_changes_nothing_and_says_so(
    world: World, kind: Kind, status: Status, *, announced: bool
) -> None:
    run_id, granted = await held(world, kind)
    await world.store.append(granted.lease, 1, [Said(text="x")], terminal=status)
    if announced:
        await world.store.announced(run_id)
    journal, look = await world.store.read(run_id), await world.next_look(run_id)
    for signal, data in GOOD.items():
        assert await world.store.signal(run_id, signal, data, "") == "finished"
    assert await world.inbox.backlog(run_id, "0") == []
    assert await world.store.read(run_id) == journal
    assert ((await world.next_look(run_id)) is None) == (look is None)
