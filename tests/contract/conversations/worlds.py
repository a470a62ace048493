"""One world per implementation of conversations: the store, the archive that ends turns, another process's of each."""

from typing import Any, Protocol

from api_contracts.keys import new_run_id
from workers.adapters.memory.archive import MemoryArchive
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.conversations import SqlConversations
from workers.core.runs.turns import Commit, ConversationKey, Holder, Opened
from workers.ports import Archive, Conversations, RunRecord


class World(Protocol):
    """Conversations, wherever they are."""

    @property
    def talks(self) -> Conversations: ...

    @property
    def archive(self) -> Archive: ...

    def another(self) -> tuple[Conversations, Archive]:
        """Return those of another process over the same."""
        ...

    async def close(self) -> None: ...


class MemoryWorld:
    """One dictionary for every process."""

    def __init__(self) -> None:
        self.archive = MemoryArchive()
        self.talks = self.archive.conversations

    def another(self) -> tuple[Conversations, Archive]:
        return self.talks, self.archive

    async def close(self) -> None:
        return None


class SqlWorld:
    """A migrated database; each process has connections of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.archive = SqlArchive(url)
        self.talks = SqlConversations(self.archive.database)
        self._others: list[SqlArchive] = []

    def another(self) -> tuple[Conversations, Archive]:
        self._others.append(SqlArchive(self._url))
        return SqlConversations(self._others[-1].database), self._others[-1]

    async def close(self) -> None:
        for archive in (self.archive, *self._others):
            await archive.close()


# -- what tests put there ----------------------------------------------------------------------------------------------


def life(run_id: str | None = None, number: int = 1, queued_at: float = 10.25) -> Holder:
    return Holder(run_id or new_run_id(), queued_at, number)


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


def turn(key: ConversationKey, holder: Holder, base: int, *texts: str, **changes: Any) -> Commit:
    given: dict[str, Any] = {"kind": "turn", "messages": said(*texts)}
    return Commit(key, holder, base, **(given | changes))


def came(holder: Holder, status: Any = "completed", **result: Any) -> RunRecord:
    """Return what the run of a holder came to."""
    given = {"run_id": holder.run_id, "kind": "chat", "status": status} | result
    return RunRecord(holder.run_id, "chat", status, holder.life, "acme", {}, given, holder.queued_at, 99.5)


async def taken(world: World, key: ConversationKey, holder: Holder) -> Opened:
    opened = await world.talks.open(key, holder)
    assert isinstance(opened, Opened)
    return opened


async def told(world: World, key: ConversationKey, *texts: str, **changes: Any) -> Holder:
    """Have a whole turn of a run of its own."""
    holder = life()
    base = (await taken(world, key, holder)).version
    assert await world.archive.save(came(holder), turn(key, holder, base, *texts, **changes)) == "saved"
    return holder
