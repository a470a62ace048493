"""Who writes one run's journal: in order, one append at a time, whoever asks."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from api_contracts.runs import EventData, Status
from workers.ports import Clock, Lease, RunStore, RunWatch, StoreUnavailable


class UntilDone(Protocol):
    """Acts, again and again while a store is away."""

    def __call__(self, act: Callable[[], Awaitable[int]], /) -> Awaitable[int]: ...


class Scribe:
    """Appends under one lease. `begin` before the first word.

    `append` is waited for. `tell` is not: whoever says something a hundred times a run needs no answer each time. What
    is appended next waits until that has landed. `troubled` is called when it did not: `settle` is due then.
    """

    def __init__(
        self, store: RunStore, clock: Clock, watch: RunWatch, until_done: UntilDone, troubled: Callable[[], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._watch = watch
        self._until_done = until_done
        self._troubled = troubled
        self._seq = 0
        self._telling: Sequence[EventData] = ()
        self._landing: asyncio.Future[int] | None = None
        self._fault: BaseException | None = None

    def begin(self, lease: Lease, seq: int) -> None:
        """Go on behind `seq`."""
        self._lease, self._seq = lease, seq

    @property
    def is_settled(self) -> bool:
        """Whether all that was told is in the journal."""
        return not self._telling

    async def append(self, events: Sequence[EventData], terminal: Status | None = None) -> None:
        """Append; wait as long as the store is away. Raise what the store raises."""
        await self.settle()
        store, lease, base = self._store, self._lease, self._seq
        self._seq = await self._until_done(lambda: store.append(lease, base, events, terminal=terminal))
        self._watch.saw(events, self._clock.now())

    def tell(self, events: Sequence[EventData]) -> None:
        """Begin to append, and do not wait. Only when all is settled."""
        self._telling = events
        self._landing = asyncio.ensure_future(self._store.append(self._lease, self._seq, events))
        self._landing.add_done_callback(self._landed)

    def close(self) -> None:
        """Give up what is under way, which may land, and know nobody: he who made us would be held by us for ever."""
        self._until_done, self._troubled, self._fault = _over, _nothing, None
        if self._landing is not None:
            self._landing.cancel()

    async def settle(self) -> None:
        """Return when what was told has landed. Raise what the store raises, once: what was told is then given up."""
        if self._landing is not None:
            await asyncio.wait([self._landing])
        if self._fault is not None:
            fault, self._fault, self._telling = self._fault, None, ()
            try:
                raise fault
            finally:
                del fault  # it holds this frame
        if events := self._telling:
            self._telling = ()
            await self.append(events)

    def _landed(self, landing: asyncio.Future[int]) -> None:
        self._landing = None
        fault = StoreUnavailable("given up") if landing.cancelled() else landing.exception()
        if fault is None:
            self._seq, events, self._telling = landing.result(), self._telling, ()
            self._watch.saw(events, self._clock.now())
        elif not isinstance(fault, StoreUnavailable):  # after an outage it is appended again: that is safe
            self._fault = fault
        if self._telling:
            self._troubled()


def _nothing() -> None:
    """Tell nobody."""


async def _over(_act: object, /) -> int:
    raise StoreUnavailable("the run is over here")
