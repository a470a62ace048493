"""A chat's way to its conversation: opened, waited for, taken from a run that is gone."""

from collections.abc import Awaitable, Callable, Sequence

import structlog

from api_contracts.runs import Result
from workers.core.chat.acts import CommitVersion, OpenTurn, TurnHeld, TurnOpened, TurnOver, VersionCommitted
from workers.core.runs.turns import Opened
from workers.ports import Busy, Clock, Committed, Conversations, StoreUnavailable

_log = structlog.get_logger(__name__)

_PAUSE_S = 0.5
"""Between tries to reach a store that is away."""


class Talks:
    """Conversations as a run finds them. `known` returns those of some runs of which there is a journal."""

    def __init__(
        self, conversations: Conversations, known: Callable[[Sequence[str]], Awaitable[set[str]]], clock: Clock
    ) -> None:
        self._conversations = conversations
        self._known = known
        self._clock = clock

    async def open(self, wanted: OpenTurn) -> TurnOpened | TurnHeld | TurnOver:
        """Ask until somebody answers. Raises `LeaseLost` when a later life of the run has the conversation."""
        while True:
            try:
                return _told(await self._open(wanted))
            except StoreUnavailable as exc:
                _log.warning("conversation.waiting", run_id=wanted.holder.run_id, error=str(exc))
                await self._clock.sleep_until(self._clock.now() + _PAUSE_S)

    async def commit(self, wanted: CommitVersion) -> VersionCommitted:
        """Add a version, however long SQL is away."""
        while True:
            try:
                return VersionCommitted(await self._conversations.commit(wanted.commit))
            except StoreUnavailable as exc:
                _log.warning("conversation.waiting", run_id=wanted.commit.holder.run_id, error=str(exc))
                await self._clock.sleep_until(self._clock.now() + _PAUSE_S)

    async def _open(self, wanted: OpenTurn) -> Opened | Busy | Committed:
        found = await self._conversations.open(wanted.key, wanted.holder)
        if not isinstance(found, Busy) or await self._known([found.run_id]):
            return found
        # Its journal is gone, and it did not end, or it would have let go: nobody will end it.
        _log.warning("conversation.taken_from_lost", run_id=wanted.holder.run_id, lost=found.run_id)
        return await self._conversations.open(wanted.key, wanted.holder, lost=found.run_id)


def _told(found: Opened | Busy | Committed) -> TurnOpened | TurnHeld | TurnOver:
    match found:
        case Opened():
            return TurnOpened(found)
        case Busy():
            return TurnHeld()
        case Committed(record):
            frame = Result.model_validate(record.result)
            return TurnOver(frame.status, record.result, frame.failure)
