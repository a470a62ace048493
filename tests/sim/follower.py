"""Somebody who follows the journal live: what was read once stays so, and comes once, in order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from api_contracts.runs import Event

if TYPE_CHECKING:
    from tests.sim.world import World


class Follower:
    """Reads now and then from where it is."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._read: list[Event] = []

    async def follow(self, run_id: str) -> None:
        """Go on for ever. A journal that is gone is followed from its new beginning."""
        world = self._world
        while True:
            await world.clock.sleep_until(world.clock.now() + world.chance.uniform(0.1, 3.0))
            if not await world.store.known([run_id]) or (world.forgot and not await self._is_the_same(run_id)):
                self._read.clear()
            self._read += await world.store.read(run_id, len(self._read))

    async def _is_the_same(self, run_id: str) -> bool:
        return (await world_events(self._world, run_id))[: len(self._read)] == self._read

    def faults(self, events: Sequence[Event]) -> list[str]:
        """Hold what was read against the journal as it is in the end."""
        if self._world.forgot or list(events[: len(self._read)]) == self._read:
            return []
        return ["a follower has read what is not in the journal"]


async def world_events(world: "World", run_id: str) -> list[Event]:
    """Return the journal."""
    return await world.store.read(run_id)
