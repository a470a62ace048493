"""One world per implementation of the row store: its store, another process's, and what is truly kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import select

from api_contracts.batch_rows import RowFault
from workers.adapters.memory.batch_rows import KeptRow, MemoryBatchRows
from workers.adapters.sql.batches import SqlBatches
from workers.adapters.sql.database import SqlDatabase
from workers.adapters.sql.tables import batch_jobs, batch_rows
from workers.core.batch.jobs import JobView
from workers.core.batch.rows import line_of
from workers.ports import NewRow, RowStore, WatchedJob

BODY = b'{"messages":[{"role":"user","content":"hi"}]}'


class World(Protocol):
    """Rows, wherever they are."""

    @property
    def store(self) -> RowStore:
        """The store of the process that the test plays."""
        ...

    def another(self) -> RowStore:
        """Return the store of another process over the same rows."""
        ...

    async def kept(self, run_id: str) -> list[KeptRow]:
        """Return all rows of a run, in order."""
        ...

    async def close(self) -> None:
        """End what was started."""
        ...


class MemoryWorld:
    """One dictionary for every process."""

    def __init__(self) -> None:
        self.store = MemoryBatchRows()

    def another(self) -> RowStore:
        return self.store

    async def kept(self, run_id: str) -> list[KeptRow]:
        return self.store.rows(run_id)

    async def close(self) -> None:
        return None


class SqlWorld:
    """A migrated database; each process has connections of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self._url = url
        self.database = SqlDatabase(url, **options)
        self._others: list[SqlDatabase] = []
        self.store = SqlBatches(self.database)

    def another(self, **options: Any) -> SqlBatches:
        self._others.append(SqlDatabase(self._url, **options))
        return SqlBatches(self._others[-1])

    async def kept(self, run_id: str) -> list[KeptRow]:
        query = select(batch_rows).where(batch_rows.c.run_id == run_id).order_by(batch_rows.c.number)
        found = await self.database.read(lambda connection: connection.execute(query).mappings().all())
        return [_row(each) for each in found]

    async def forget_jobs(self) -> None:
        """Drop the jobs of other tests: whose run they are of does not matter to a poller."""
        await self.database.write(lambda connection: connection.execute(batch_jobs.delete()))

    async def close(self) -> None:
        for database in (self.database, *self._others):
            await database.close()


def _row(found: Any) -> KeptRow:
    names = ("number", "custom_id", "state", "shard", "attempt", "size", "code", "message")
    response = found["response"]
    return KeptRow(
        **{name: found[name] for name in names}, body=found["body"].encode(),
        response=None if response is None else response.encode(),
    )  # fmt: skip


def sqlite_url(file: Path) -> str:
    return f"sqlite:///{file}"


# -- what tests put there ----------------------------------------------------------------------------------------------


def row(number: int, custom_id: str | None = None, *, shard: int = 1, body: bytes = BODY) -> NewRow:
    """Return a row that waits in a shard."""
    custom_id = f"row-{number}" if custom_id is None else custom_id
    return NewRow(number, custom_id, shard, len(line_of(custom_id, body)), body)


def bad(number: int, custom_id: str | None = None, code: str = "not_json", message: str = "no") -> NewRow:
    """Return a row that was set aside."""
    return NewRow(number, custom_id, fault=RowFault(code=code, message=message))


def watched(run_id: str, shard: int = 1, **changes: Any) -> WatchedJob:
    seen = JobView(f"job-{shard}", "VALIDATING")
    given = {"job": f"job-{shard}", "credential": None, "submitted_at": 1.25, "changed_at": 2.5, "seen": seen}
    return WatchedJob(run_id, shard, **(given | changes))


async def lines_of_shard(store: RowStore, run_id: str, shard: int) -> bytes:
    return b"".join([data async for data in store.lines(run_id, shard)])


async def given(store: RowStore, run_id: str, rows: Sequence[NewRow], life: int = 1) -> None:
    """Read a batch: its rows are kept, and all of them are new."""
    await store.restart(run_id, life)
    assert await store.add(run_id, life, rows) == set()
