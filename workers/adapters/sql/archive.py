"""Finished runs in SQL: the port `Archive` on SQLite and PostgreSQL.

Blocking calls run on threads of its own (docs/decisions/0004). It knows rows; it never looks into a result.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy import Engine, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api_contracts.client.results import CONNECT_S, brief, database_url, table_missing
from workers.adapters.sql.engine import open_engine
from workers.adapters.sql.tables import SCHEMA, VERSION_TABLE, filterable, runs
from workers.ports import RunRecord, StoreUnavailable

T = TypeVar("T")

_READERS: Final = 2
_SERVER_WRITERS: Final = 4
_REFUSALS: Final = (DataError, IntegrityError, NotSupportedError, ProgrammingError)


class RecordRefused(Exception):
    """The database does not take this record, and no repeat will change that."""


class SqlArchive:
    """Keeps the results of finished runs. One per process; any coroutine may call it; `close` it at the end.

    Every call raises `StoreUnavailable` when the database cannot be used now: not reached, locked for longer than
    `lock_wait_s` seconds, full, or not migrated. `save` raises `RecordRefused` for a record that never fits.
    A cancelled call may still be carried out.
    """

    def __init__(self, url: str, *, lock_wait_s: float = CONNECT_S) -> None:
        # SQLite has one writer: a second thread would poll for its lock (p99 55 ms instead of 0.5 ms).
        writers = 1 if database_url(url).get_backend_name() == "sqlite" else _SERVER_WRITERS
        self._engine = open_engine(url, connections=writers + _READERS, lock_wait_s=lock_wait_s)
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="fw-sql-write")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="fw-sql-read")

    async def save(self, record: RunRecord) -> None:
        """Write the record unless a later epoch wrote one. When this returns, the record outlives the process."""
        await _on(self._writers, lambda: _save(self._engine, record))

    async def load(self, run_id: str) -> RunRecord | None:
        """Return the record, or None."""
        return await _on(self._readers, lambda: _load(self._engine, run_id))

    async def check(self) -> str:
        """Return the schema's revision; raise `StoreUnavailable` when the archive could not be read or is too old."""
        return await _on(self._readers, lambda: _check(self._engine))

    async def close(self) -> None:
        """Finish the calls that were begun, then close the connections. Later calls raise `StoreUnavailable`."""
        for threads in (self._writers, self._readers):
            await asyncio.to_thread(threads.shutdown)
        await asyncio.to_thread(self._engine.dispose)


async def _on(threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    def guarded() -> T:
        try:
            return call()
        except SQLAlchemyError as error:
            raise _in_our_words(error) from None  # the cause may quote the record

    try:
        running = asyncio.get_running_loop().run_in_executor(threads, guarded)
    except RuntimeError as error:
        raise StoreUnavailable("the archive is closed") from error
    return await running


def _save(engine: Engine, record: RunRecord) -> None:
    insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
    statement = insert(runs).values(_row(record))
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[runs.c.run_id],
        set_={column.name: new[column.name] for column in runs.c if not column.primary_key},
        where=runs.c.epoch <= new.epoch,
    )
    with engine.begin() as connection:
        connection.execute(statement)


def _load(engine: Engine, run_id: str) -> RunRecord | None:
    with engine.connect() as connection:
        row = connection.execute(select(runs).where(runs.c.run_id == run_id)).mappings().first()
    return None if row is None else RunRecord(**row)


def _check(engine: Engine) -> str:
    with engine.connect() as connection:
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


def _in_our_words(error: SQLAlchemyError) -> Exception:
    if table_missing(error):
        return StoreUnavailable("the database has no tables of ours yet: run the migrations")
    if isinstance(error, PoolTimeoutError) or (isinstance(error, DBAPIError) and not isinstance(error, _REFUSALS)):
        return StoreUnavailable(brief(error))
    # Only the kind of error: the driver's text may quote the record.
    cause = getattr(error, "orig", None) or error
    return RecordRefused(f"the database refuses the record: {type(cause).__name__}")
