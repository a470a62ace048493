"""The port `Remains` on SQLite and PostgreSQL: conversations, and notes of runs that have begun."""

from typing import Any

from sqlalchemy import Connection, and_, delete, select

from workers.adapters.sql.database import SqlDatabase
from workers.adapters.sql.tables import begun, commits, conversations, runs
from workers.core.text import filterable
from workers.ports import StoreUnavailable, Whose


class SqlRemains:
    """`Remains` over the process's database, which is closed by whoever brought it."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def ended(self, whose: Whose, limit: int) -> list[str]:
        """See the port."""
        query = select(runs.c.run_id).where(_of(runs, whose)).limit(limit)
        return await self._database.read(lambda connection: list(connection.execute(query).scalars()))

    async def erase(self, whose: Whose, limit: int) -> int:
        """See the port."""
        return await self._database.write(lambda connection: _erase(connection, whose, limit))

    async def compact(self) -> bool:
        """See the port. PostgreSQL's vacuum does it by itself; SQLite keeps what was deleted in free pages."""
        if self._database.dialect != "sqlite":
            return True
        try:
            return await self._database.read(_compact)
        except StoreUnavailable:
            return False


def _erase(connection: Connection, whose: Whose, limit: int) -> int:
    if whose.conversation is None:
        connection.execute(delete(begun).where(begun.c.tenant == filterable(whose.tenant)))
    # By the versions too: a conversation whose row was lost has its text there.
    found = [select(table.c.conversation).where(_of(table, whose)) for table in (conversations, commits)]
    names = connection.execute(found[0].union(found[1]).limit(limit)).scalars().all()
    for table in (commits, conversations):
        its = and_(table.c.tenant == filterable(whose.tenant), table.c.conversation.in_(names))
        connection.execute(delete(table).where(its))
    return len(names)


def _compact(connection: Connection) -> bool:
    connection.exec_driver_sql("VACUUM")
    busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
    return not busy


def _of(table: Any, whose: Whose) -> Any:
    its = table.c.tenant == filterable(whose.tenant)
    return its if whose.conversation is None else and_(its, table.c.conversation == whose.conversation)
