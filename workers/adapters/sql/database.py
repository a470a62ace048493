"""One database of a process: its connections, and the threads on which blocking calls run (docs/decisions/0004)."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api_contracts.client.results import CONNECT_S, brief, database_url, table_missing
from workers.adapters.sql.engine import NotJson, open_engine
from workers.ports import StoreUnavailable

T = TypeVar("T")

_READERS: Final = 2
_SERVER_WRITERS: Final = 4
_REFUSALS: Final = (DataError, IntegrityError, NotSupportedError, ProgrammingError)
_STUCK_S: Final = 30.0
_BOUND: Final = text("SELECT set_config('idle_in_transaction_session_timeout', :ms, true)")
"""True: for this transaction only, so that a connection pooler between us and the server hands nothing on."""


class RecordRefused(Exception):
    """The database does not take this record, and no repeat will change that."""


class SqlDatabase:
    """Any coroutine may call it; `close` it at the end.

    Every call raises `StoreUnavailable` when the database cannot be used now: not reached, locked for longer than
    `lock_wait_s` seconds, full, or not migrated; and `RecordRefused` for what never fits. A cancelled call may still
    be carried out.

    A server ends a transaction in which nothing happens for `stuck_s` seconds: a worker that is paused or cut off in
    the middle of one would otherwise keep its locks, and its successor waiting, for hours.
    """

    def __init__(self, url: str, *, lock_wait_s: float = CONNECT_S, stuck_s: float = _STUCK_S) -> None:
        # SQLite has one writer: a second thread would poll for its lock (p99 55 ms instead of 0.5 ms).
        writers = 1 if database_url(url).get_backend_name() == "sqlite" else _SERVER_WRITERS
        self._engine = open_engine(url, connections=writers + _READERS, lock_wait_s=lock_wait_s)
        self._stuck_ms = str(int(stuck_s * 1000))
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="fw-sql-write")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="fw-sql-read")

    @property
    def dialect(self) -> str:
        """Return `sqlite` or `postgresql`."""
        return self._engine.dialect.name

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run a transaction: all of it is there when this returns, or nothing is."""

        def transact() -> T:
            with self._engine.begin() as connection:
                if self.dialect == "postgresql":
                    connection.execute(_BOUND, {"ms": self._stuck_ms})
                return call(connection)

        return await _on(self._writers, transact)

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run queries."""

        def ask() -> T:
            with self._engine.connect() as connection:
                return call(connection)

        return await _on(self._readers, ask)

    async def close(self) -> None:
        """Finish the calls that were begun, then close the connections. Later calls raise `StoreUnavailable`."""
        for threads in (self._writers, self._readers):
            await asyncio.to_thread(threads.shutdown)
        await asyncio.to_thread(self._engine.dispose)


async def _on(threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    def guarded() -> T:
        try:
            return call()
        except (SQLAlchemyError, NotJson) as error:
            raise _in_our_words(error) from None  # the cause may quote the record

    try:
        running = asyncio.get_running_loop().run_in_executor(threads, guarded)
    except RuntimeError as error:
        raise StoreUnavailable("the archive is closed") from error
    return await running


def _in_our_words(error: SQLAlchemyError | NotJson) -> Exception:
    if table_missing(error):
        return StoreUnavailable("the database has no tables of ours yet: run the migrations")
    if isinstance(error, PoolTimeoutError) or (isinstance(error, DBAPIError) and not isinstance(error, _REFUSALS)):
        return StoreUnavailable(brief(error))
    # Only the kind of error: the driver's text may quote the record.
    cause = getattr(error, "orig", None) or error
    return RecordRefused(f"the database refuses the record: {type(cause).__name__}")
