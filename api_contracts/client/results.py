"""What a producer needs to read finished runs from SQL, without the service: URLs, the table's name, one reader.

Needs the extra `sql`, which is imported on first use. It never writes, and knows nothing of the package `workers`.
"""

import asyncio
import json
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from api_contracts.conversations import Conversation
from api_contracts.keys import check_run_id

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

RUNS_TABLE: Final = "fw_runs"
"""Table of finished runs; the columns `run_id` and `result` (JSON) never change their meaning."""

BATCH_ROWS_TABLE: Final = "fw_batch_rows"
"""Table of the rows of batches; the columns that `SqlResults.batch_rows` reads never change their meaning."""

CONVERSATIONS_TABLE: Final = "fw_conversations"
COMMITS_TABLE: Final = "fw_commits"
"""Tables of conversations and their versions; the columns that `SqlResults.conversation` reads never change their
meaning."""

_ROWS_A_PAGE: Final = 500

CONNECT_S: Final = 5
"""Seconds that a connection to a server, or the lock of a SQLite file, is waited for."""

_DRIVERS: Final = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "sqlite+aiosqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_UNDEFINED_TABLE: Final = "42P01"


_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


class MissingExtra(ImportError):
    """A package of the extra `sql`, or the database's driver, is not installed."""


class BadDatabaseUrl(ValueError):
    """The database URL cannot be used. The text never carries its password."""


class ResultsUnavailable(Exception):
    """The database cannot be asked now; the run may well be there."""


class SqlResults:
    """Reads results of finished runs. Thread-safe; one per process is enough, closed at the end.

    `url` is `sqlite:///path` or `postgresql://...`, as in `FW_DATABASE_URL`. Raises `BadDatabaseUrl`, `MissingExtra`.
    """

    def __init__(self, url: str) -> None:
        parsed = database_url(url)
        self._file = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        self._engine = reader(parsed)

    def get(self, run_id: str) -> dict[str, Any] | None:
        """Return the result object, or None when SQL has none: also before the first worker made file and table.

        Raises `BadRunId`, and `ResultsUnavailable` when the database does not answer.
        """
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        check_run_id(run_id)
        if self._file and not self._file.exists():
            return None
        # The text comes back as the worker wrote it: a driver's own JSON reading would differ between databases.
        query = text(f"SELECT CAST(result AS TEXT) FROM {RUNS_TABLE} WHERE run_id = :run_id")  # noqa: S608 - a constant
        try:
            with self._engine.connect() as connection:
                found = connection.execute(query, {"run_id": run_id}).scalar()
        except SQLAlchemyError as error:
            if table_missing(error):
                return None
            raise ResultsUnavailable(brief(error)) from error
        return None if found is None else dict(json.loads(found))

    def batch_rows(self, run_id: str, after: int, states: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the next page of a batch's rows (`RowResult`) after number `after`, in the order of the input."""
        from sqlalchemy import bindparam, text
        from sqlalchemy.exc import SQLAlchemyError

        check_run_id(run_id)
        if self._file and not self._file.exists():
            return []
        columns = "number, custom_id, state, attempt, response, code, message"
        chosen = " AND state IN :states" if states else ""
        query = text(
            f"SELECT {columns} FROM {BATCH_ROWS_TABLE}"  # noqa: S608 - constants
            f" WHERE run_id = :run_id AND number > :after{chosen} ORDER BY number LIMIT {_ROWS_A_PAGE}"
        )
        given: dict[str, Any] = {"run_id": run_id, "after": after}
        if states:
            query, given = query.bindparams(bindparam("states", expanding=True)), given | {"states": list(states)}
        try:
            with self._engine.connect() as connection:
                found = connection.execute(query, given).mappings().all()
        except SQLAlchemyError as error:
            if table_missing(error):
                return []
            raise ResultsUnavailable(brief(error)) from error
        return [_row_result(dict(row)) for row in found]

    def conversation(self, tenant: str, conversation: str) -> Conversation | None:
        """Return the newest version of a conversation, or None."""
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        if self._file and not self._file.exists():
            return None
        its = {"tenant": _UNSTORABLE.sub("\ufffd", tenant), "conversation": conversation}
        where = "tenant = :tenant AND conversation = :conversation"
        row = text(
            f"SELECT version, CAST(settings AS TEXT) AS settings, settings_version, tokens"  # noqa: S608 - constants
            f" FROM {CONVERSATIONS_TABLE} WHERE {where}"
        )
        # A version is never changed, so what is newer than the one that was read first does not matter.
        upto = f"FROM {COMMITS_TABLE} WHERE {where} AND version <= :version"
        parts = text(
            f"SELECT CAST(messages AS TEXT) {upto} AND version >="
            f" COALESCE((SELECT MAX(version) {upto} AND whole), 0) ORDER BY version"
        )
        try:
            with self._engine.connect() as connection:
                found = connection.execute(row, its).mappings().first()
                if found is None:
                    return None
                kept = connection.execute(parts, its | {"version": found["version"]}).scalars().all()
        except SQLAlchemyError as error:
            if table_missing(error):
                return None
            raise ResultsUnavailable(brief(error)) from error
        given = {**found, "settings": json.loads(found["settings"])}
        messages = [message for part in kept for message in json.loads(part)]
        return Conversation(id=conversation, tenant=tenant, messages=messages, **given)

    async def aconversation(self, tenant: str, conversation: str) -> Conversation | None:
        """Like `conversation`, from a thread of the loop's default executor."""
        return await asyncio.to_thread(self.conversation, tenant, conversation)

    async def abatch_rows(self, run_id: str, after: int, states: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Like `batch_rows`, from a thread of the loop's default executor."""
        return await asyncio.to_thread(self.batch_rows, run_id, after, states)

    async def aget(self, run_id: str) -> dict[str, Any] | None:
        """Like `get`, from a thread of the loop's default executor."""
        return await asyncio.to_thread(self.get, run_id)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def rows_of(results: SqlResults | None) -> SqlResults:
    """Return what rows are read from; raise `BadDatabaseUrl` for a client that knows no database."""
    if results is None:
        raise BadDatabaseUrl("rows of batches and conversations are in SQL: give the client the service's database_url")
    return results


def _row_result(row: dict[str, Any]) -> dict[str, Any]:
    fault = {"code": row["code"], "message": row["message"]} if row["code"] else None
    response = json.loads(row["response"]) if row["response"] else None
    return {
        "number": row["number"], "custom_id": row["custom_id"], "state": row["state"], "attempts": row["attempt"],
        "response": response, "fault": fault,
    }  # fmt: skip


def database_url(url: str) -> "URL":
    """Return the URL with the driver that is used here and, for SQLite, an absolute path.

    Raises `BadDatabaseUrl` and `MissingExtra`.
    """
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ModuleNotFoundError as error:
        raise MissingExtra("SQL needs SQLAlchemy: pip install 'fireworks-workers[sql]'") from error
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Without the cause: what cannot be parsed may hold a password anywhere.
        raise BadDatabaseUrl("the database URL cannot be read: write sqlite:///path or postgresql://...") from None
    if parsed.drivername not in _DRIVERS:
        raise BadDatabaseUrl(
            f"database {parsed.drivername!r} is not supported: write sqlite:///path or postgresql://user@host/name"
        )
    parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
    if parsed.get_backend_name() == "sqlite":
        if "?" in url:  # SQLAlchemy would cut the path here and could drop the rest without a word
            raise BadDatabaseUrl("a SQLite URL is sqlite:///path: it has no options, and the path no question mark")
        return _sqlite_url(parsed)
    return parsed.set(query={"connect_timeout": str(CONNECT_S), **parsed.query})


def engine_of(url: "URL", **options: Any) -> "Engine":
    """Return an engine whose errors never show what was stored. Raises `MissingExtra` without the driver."""
    from sqlalchemy import create_engine

    try:
        return create_engine(url, hide_parameters=True, **options)
    except ModuleNotFoundError as error:
        hint = "pip install 'psycopg[binary]'" if url.get_backend_name() == "postgresql" else "rebuild Python with it"
        raise MissingExtra(f"{url.get_backend_name()} needs the driver {error.name}: {hint}") from error


def reader(url: "URL") -> "Engine":
    """Return an engine that cannot write, for a URL of `database_url`; a SQLite file is never made by it."""
    if url.get_backend_name() != "sqlite":
        return engine_of(url, pool_pre_ping=True, execution_options={"postgresql_readonly": True})
    from sqlalchemy.pool import NullPool

    uri = Path(str(url.database)).as_uri() + "?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=CONNECT_S)

    # A connection per read: a kept one would go on reading a file that was since replaced.
    return engine_of(url, creator=connect, poolclass=NullPool)


def table_missing(error: Exception) -> bool:
    """Whether a SQL error says that nothing was migrated yet."""
    cause = getattr(error, "orig", None)
    return getattr(cause, "sqlstate", None) == _UNDEFINED_TABLE or str(cause).startswith("no such table")


def brief(error: Exception) -> str:
    """Return the driver's own first line, without statement and values."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:300]}"


def _sqlite_url(url: "URL") -> "URL":
    if url.database in (None, "", ":memory:"):
        raise BadDatabaseUrl("SQLite in memory keeps nothing: write sqlite:///path (four slashes for an absolute path)")
    if url.host or str(url.database).startswith("file:"):
        raise BadDatabaseUrl("a SQLite URL is sqlite:///path, without host and 'file:'")
    return url.set(database=str(Path(str(url.database)).absolute()))
