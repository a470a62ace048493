"""Finished runs in SQL: the port `Archive` on SQLite and PostgreSQL. It knows rows; it never looks into a result."""

from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from api_contracts.client.results import CONNECT_S
from workers.adapters.sql.database import RecordRefused, SqlDatabase
from workers.adapters.sql.tables import SCHEMA, VERSION_TABLE, runs
from workers.core.text import filterable
from workers.ports import RunRecord, StoreUnavailable

__all__ = ["RecordRefused", "SqlArchive"]


class SqlArchive:
    """Keeps the results of finished runs. One per process; any coroutine may call it; `close` it at the end.

    It brings the process's `database`, which others may share. Errors are those of `SqlDatabase`.
    """

    def __init__(self, url: str, *, lock_wait_s: float = CONNECT_S) -> None:
        self.database = SqlDatabase(url, lock_wait_s=lock_wait_s)

    async def save(self, record: RunRecord) -> None:
        """Write the record unless a later epoch wrote one. When this returns, the record outlives the process."""
        await self.database.write(lambda connection: _save(connection, record))

    async def load(self, run_id: str) -> RunRecord | None:
        """Return the record, or None."""
        return await self.database.read(lambda connection: _load(connection, run_id))

    async def check(self) -> str:
        """Return the schema's revision; raise `StoreUnavailable` when the archive could not be read or is too old."""
        return await self.database.read(_check)

    async def close(self) -> None:
        """Close the database."""
        await self.database.close()


def _save(connection: Connection, record: RunRecord) -> None:
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(runs).values(_row(record))
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[runs.c.run_id],
        set_={column.name: new[column.name] for column in runs.c if not column.primary_key},
        where=runs.c.epoch <= new.epoch,
    )
    connection.execute(statement)


def _load(connection: Connection, run_id: str) -> RunRecord | None:
    row = connection.execute(select(runs).where(runs.c.run_id == run_id)).mappings().first()
    return None if row is None else RunRecord(**row)


def _check(connection: Connection) -> str:
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    connection.execute(select(runs).limit(1)).first()
    # A newer schema is fine: during a deploy the old workers still run after the migration.
    if found is None or found < SCHEMA:
        raise StoreUnavailable(f"the database has schema {found}, this version needs {SCHEMA}: run the migrations")
    return str(found)


def _row(record: RunRecord) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "kind": record.kind,
        "status": record.status,
        "epoch": record.epoch,
        "tenant": filterable(record.tenant),
        "labels": {filterable(key): filterable(value) for key, value in record.labels.items()},
        "result": dict(record.result),
        "queued_at": record.queued_at,
        "finished_at": record.finished_at,
    }
