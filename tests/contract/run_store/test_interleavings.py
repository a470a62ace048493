"""Three owners in any order, on memory and on Redis side by side: the same answers, and one true journal."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.contract.run_store.worlds import (
    TIMING,
    MemoryWorld,
    Said,
    WalkingClock,
    World,
    claims,
    given_run,
    redis_world,
)
from workers.ports import Granted, Lease, LeaseLost

OWNERS = st.sampled_from(["ann", "bob", "cat"])
TEXTS = st.lists(st.text(max_size=6), min_size=1, max_size=3)
LOST = "lost"

# Coarser than anything that a slow machine does, finer than any lease or pause between looks.
STEP_S = TIMING.lease_s / 2
ABOUT_S = STEP_S / 3


@dataclass
class Owner:
    """What one owner believes: its lease's epoch, the end of the journal, what it wrote last."""

    epoch: int = 0
    base: int = 0
    last: tuple[int, list[str]] = (0, [])


@dataclass
class Truth:
    """What must be so: whose epoch is current, and the journal, as (epoch, text)."""

    epoch: int = 0
    holder: str = ""
    ended: bool = False
    journal: list[tuple[int, str]] = field(default_factory=list)


class Interleavings(RuleBasedStateMachine):
    """One run, told to both stores step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.worlds = self.loop.run(self._new_worlds())
        self.run_ids = [self.loop.run(given_run(world)) for world in self.worlds]
        self.owners = {name: Owner() for name in ("ann", "bob", "cat")}
        self.truth = Truth()

    def teardown(self) -> None:
        for world in self.worlds:
            self.loop.run(world.close())
        self.loop.close()

    @rule(name=OWNERS)
    def somebody_asks_for_the_run(self, name: str) -> None:
        async def acquire(world: World, run_id: str) -> Any:
            answer = await world.store.acquire(run_id, name, f"by {name}")
            return replace(answer, lease=replace(answer.lease, run_id="")) if isinstance(answer, Granted) else answer

        answer = self._both(acquire)
        if isinstance(answer, Granted):
            assert not self.truth.ended
            assert answer.lease.epoch > self.truth.epoch
            assert answer.seq == 1 + len(self.truth.journal)
            self.truth.epoch, self.truth.holder = answer.lease.epoch, name
            self.owners[name] = Owner(answer.lease.epoch, answer.seq, (answer.seq, []))

    @rule(name=OWNERS, texts=TEXTS)
    def somebody_appends(self, name: str, texts: list[str]) -> None:
        owner = self.owners[name]
        may = self._may_write(name) and not self.truth.ended
        if self._append(name, owner.base, texts) == LOST:
            assert not may
        else:
            assert may
            self._landed(owner, texts)

    @rule(name=OWNERS, more=st.lists(st.text(max_size=2), max_size=2))
    def somebody_repeats_its_last_append_and_goes_on(self, name: str, more: list[str]) -> None:
        owner = self.owners[name]
        base, texts = owner.last
        may = self._may_write(name) and not (self.truth.ended and more)
        answer = self._append(name, base, texts + more)
        assert (answer != LOST) == may
        if may:
            self._landed(owner, more)

    @rule(name=OWNERS)
    def somebody_appends_beyond_the_end(self, name: str) -> None:
        assert self._append(name, len(self.truth.journal) + 2, ["gap"]) == LOST

    @rule(name=OWNERS)
    @precondition(lambda self: len(self.truth.journal) > 3)
    def somebody_ends_the_run(self, name: str) -> None:
        owner = self.owners[name]
        may = self._may_write(name) and not self.truth.ended
        assert (self._append(name, owner.base, ["end"], terminal="completed") != LOST) == may
        if may:
            self._landed(owner, ["end"])
            self.truth.ended = True

    @rule(name=OWNERS)
    def somebody_renews(self, name: str) -> None:
        epoch = self.owners[name].epoch
        kept = self._both(lambda world, run_id: self._kept(world, Lease(run_id, epoch, name)))
        assert kept == (self._may_write(name) and not self.truth.ended)

    @rule(name=OWNERS)
    def somebody_releases(self, name: str) -> None:
        epoch = self.owners[name].epoch
        self._both(lambda world, run_id: world.store.release(Lease(run_id, epoch, name)))
        if self._may_write(name) and not self.truth.ended:
            self.truth.holder = ""

    @rule(steps=st.integers(1, 5))
    def time_passes(self, steps: int) -> None:
        self._both(lambda world, run_id: world.pass_time(steps * STEP_S))

    @rule()
    def somebody_sweeps(self) -> None:
        self._both(self._claimed)

    @rule(signal_id=st.sampled_from(["", "a", "b"]))
    def somebody_signals(self, signal_id: str) -> None:
        said = self._both(lambda world, run_id: world.store.signal(run_id, "cancel", {}, signal_id))
        assert said in (("finished",) if self.truth.ended else ("sent", "woken"))

    @rule()
    def somebody_announces(self) -> None:
        self._both(lambda world, run_id: world.store.announced(run_id))

    @invariant()
    def the_journal_is_dense_and_holds_what_was_acknowledged(self) -> None:
        for world, run_id in zip(self.worlds, self.run_ids, strict=True):
            journal = self.loop.run(world.store.read(run_id))
            assert [event.seq for event in journal] == list(range(1, len(journal) + 1))
            assert [(event.epoch, event.data["text"]) for event in journal[1:]] == self.truth.journal

    @invariant()
    def both_look_again_at_the_same_time(self) -> None:
        ours, theirs = (
            self.loop.run(world.next_look(run_id)) for world, run_id in zip(self.worlds, self.run_ids, strict=True)
        )
        assert (ours is None and theirs is None) or ours == pytest.approx(theirs, abs=ABOUT_S)

    def _may_write(self, name: str) -> bool:
        return self.truth.holder == name and self.owners[name].epoch == self.truth.epoch

    def _landed(self, owner: Owner, texts: list[str]) -> None:
        self.truth.journal += [(owner.epoch, text) for text in texts]
        owner.last = (owner.base, texts) if texts else owner.last
        owner.base += len(texts)

    def _append(self, name: str, base: int, texts: list[str], **how: Any) -> Any:
        events, epoch = [Said(text=text) for text in texts], self.owners[name].epoch

        async def append(world: World, run_id: str) -> int | str:
            try:
                return await world.store.append(Lease(run_id, epoch, name), base, events, **how)
            except LeaseLost:
                return LOST

        return self._both(append)

    def _both(self, ask: Callable[[World, str], Awaitable[Any]]) -> Any:
        """Ask both stores; return their one answer."""

        async def asked(world: World, run_id: str) -> Any:
            return await ask(world, run_id)

        ours, theirs = (self.loop.run(asked(*place)) for place in zip(self.worlds, self.run_ids, strict=True))
        assert ours == theirs
        return ours

    @staticmethod
    async def _new_worlds() -> list[World]:
        # Both clocks go on while we look: else the seconds that a loaded machine takes would be in one world only, and
        # one sequence of steps would have two outcomes, which Hypothesis calls flaky.
        return [MemoryWorld(WalkingClock()), redis_world("fakeredis", lambda: None)]

    @staticmethod
    async def _kept(world: World, lease: Lease) -> bool:
        return await world.store.renew([lease]) == set()

    @staticmethod
    async def _claimed(world: World, run_id: str) -> list[tuple[str | None, bool]]:
        return [(claimed.signature, claimed.cancelled) for claimed in await claims(world.store, run_id)]


@pytest.mark.requirement("RUN-02", "RUN-03")
def test_in_any_order_of_events_both_stores_answer_alike_and_keep_one_true_journal() -> None:
    run_state_machine_as_test(Interleavings, settings=settings(max_examples=40, stateful_step_count=40))
