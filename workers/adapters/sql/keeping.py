"""Taking away what SQL has kept for long enough: the port `Keeping` on SQLite and PostgreSQL.

A piece is one short transaction: some hundred runs, some thousand rows. On PostgreSQL it locks the runs that it takes
and passes over those that another locks; on SQLite, where what is read first is not locked, each statement asks again
whether the run is still to go.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, exists, select, tuple_, update

from workers.adapters.sql.database import SqlDatabase
from workers.adapters.sql.tables import batch_jobs, batch_rows, batches, runs
from workers.ports import Forgotten, OldRun, Stray


class SqlKeeping:
    """`Keeping` over the process's database, which is closed by whoever brought it."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def old(self, before: float, after: OldRun | None, limit: int) -> list[OldRun]:
        """See the port."""
        key = tuple_(runs.c.finished_at, runs.c.run_id)
        query = select(runs.c.finished_at, runs.c.run_id).where(runs.c.finished_at < before).order_by(*key).limit(limit)
        if after is not None:
            query = query.where(runs.c.finished_at >= after.finished_at, key > (after.finished_at, after.run_id))
        return [OldRun(*row) for row in await self._database.read(lambda connection: connection.execute(query).all())]

    async def strays(self, after: str, limit: int) -> list[Stray]:
        """See the port."""
        query = (
            select(batches.c.run_id, batches.c.missing_since)
            .where(batches.c.run_id > after, ~_has_result())
            .order_by(batches.c.run_id)
            .limit(limit)
        )
        return [Stray(*row) for row in await self._database.read(lambda connection: connection.execute(query).all())]

    async def note(self, missing: Sequence[str], found: Sequence[str], now: float) -> None:
        """See the port."""
        column = batches.c.missing_since
        since = update(batches).where(batches.c.run_id.in_(missing), column.is_(None)).values(missing_since=now)
        no_more = update(batches).where(batches.c.run_id.in_(found), column.is_not(None)).values(missing_since=None)

        def write(connection: Connection) -> None:
            connection.execute(since)
            connection.execute(no_more)

        if missing or found:
            await self._database.write(write)

    async def forget(self, run_ids: Sequence[str], before: float, most_rows: int) -> Forgotten:
        """See the port."""
        chosen = select(runs.c.run_id).where(runs.c.run_id.in_(run_ids), runs.c.finished_at < before)
        return await self._forget(chosen, runs, (batch_jobs, batches), most_rows)

    async def forget_strays(self, run_ids: Sequence[str], before: float, most_rows: int) -> Forgotten:
        """See the port."""
        missing = batches.c.missing_since < before
        chosen = select(batches.c.run_id).where(batches.c.run_id.in_(run_ids), missing, ~_has_result())
        return await self._forget(chosen, batches, (batch_jobs,), most_rows)

    async def _forget(self, chosen: Select[Any], last: Table, others: Sequence[Table], most_rows: int) -> Forgotten:
        """Take away what belongs to the chosen, and then those: as long as they stand, there is more to do."""

        def write(connection: Connection) -> Forgotten:
            mine: Any = chosen
            if connection.dialect.name == "postgresql":
                mine = connection.execute(chosen.with_for_update(skip_locked=True, of=last)).scalars().all()
            rows = connection.execute(_some_rows(mine, most_rows)).rowcount
            if rows >= most_rows:
                return Forgotten(0, rows, more=True)
            for table in others:
                connection.execute(delete(table).where(table.c.run_id.in_(mine)))
            return Forgotten(connection.execute(delete(last).where(last.c.run_id.in_(mine))).rowcount, rows, more=False)

        return await self._database.write(write)


def _has_result() -> Any:
    return exists().where(runs.c.run_id == batches.c.run_id)


def _some_rows(run_ids: Any, most: int) -> Any:
    key = batch_rows.c.run_id, batch_rows.c.number
    some = select(*key).where(batch_rows.c.run_id.in_(run_ids)).limit(most)
    return delete(batch_rows).where(tuple_(*key).in_(some))
