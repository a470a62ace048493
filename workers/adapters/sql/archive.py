"""Finished runs in SQL: the port `Archive` on SQLite and PostgreSQL. It knows rows; it never looks into a result."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite

from api_contracts.client.results import CONNECT_S
from api_contracts.runs import TERMINAL
from workers.adapters.sql.conversations import end_turn, let_go
from workers.adapters.sql.database import RecordRefused, SqlDatabase
from workers.adapters.sql.tables import SCHEMA, VERSION_TABLE, begun, runs
from workers.core.runs.turns import Commit
from workers.core.text import filterable
from workers.ports import Begun, RunRecord, StoreUnavailable
from workers.ports.register import RunLine, Wanted
from workers.runners.gathering import Gathering

_BEGINNING = 2000
_FAILURE = re.compile(r'"failure": ?\{"code": ?"([a-z0-9_]+)"')
_MOST = 64
"""Runs in one transaction: a result may be large."""
_SETTLE = delete(begun).where(begun.c.run_id == bindparam("ended"), begun.c.queued_at <= bindparam("since"))
_ASKED: BindParameter[Any] = bindparam("asked", expanding=True)
_KNOWN = union_all(*(select(table.c.run_id).where(table.c.run_id.in_(_ASKED)) for table in (runs, begun)))
_END_OF = {status: type_ for type_, status in TERMINAL.items()}

__all__ = ["RecordRefused", "SqlArchive"]


class SqlArchive:
    """Keeps the results of finished runs. One per process; any coroutine may call it; `close` it at the end.

    It brings the process's `database`, which others may share. Errors are those of `SqlDatabase`. Records that many
    runs save at the same time are one transaction, and what they ask is one query.
    """

    def __init__(self, url: str, *, lock_wait_s: float = CONNECT_S) -> None:
        self.database = SqlDatabase(url, lock_wait_s=lock_wait_s)
        self._saves = Gathering(self._save_all, whole=(StoreUnavailable,), most=_MOST)
        self._asks = Gathering(self._remembered_all, whole=(StoreUnavailable,), most=_MOST)

    async def save(self, record: RunRecord, turn: Commit | None = None) -> RunRecord | Literal["saved", "moved"]:
        """See the port. When this returns, what was written outlives the process."""
        if turn is not None:
            return await self.database.write(lambda connection: _save_turn(connection, record, turn))
        await self._saves.ask(record)
        return "saved"

    async def load(self, run_id: str) -> RunRecord | None:
        """Return the record, or None."""
        return (await self.remembered(run_id))[0]

    async def note(self, noted: Begun) -> bool:
        """See the port."""
        return await self.database.write(lambda connection: _note(connection, noted))

    async def remembered(self, run_id: str) -> tuple[RunRecord | None, Begun | None]:
        """See the port."""
        return await self._asks.ask(run_id)

    async def finished(self, wanted: Wanted, limit: int) -> list[RunLine]:
        """See the port `FinishedRuns`."""
        return await self.database.read(lambda connection: _finished(connection, wanted, limit))

    async def check(self) -> str:
        """Return the schema's revision; raise `StoreUnavailable` when the archive could not be read or is too old."""
        return await self.database.read(_check)

    async def close(self) -> None:
        """Close the database."""
        await self.database.close()

    async def _save_all(self, records: list[RunRecord]) -> list[None]:
        await self.database.write(lambda connection: _save(connection, records))
        return [None] * len(records)

    async def _remembered_all(self, run_ids: list[str]) -> list[tuple[RunRecord | None, Begun | None]]:
        records, notes = await self.database.read(lambda connection: _remembered(connection, run_ids))
        return [(records.get(run_id), notes.get(run_id)) for run_id in run_ids]


def _save(connection: Connection, records: Sequence[RunRecord]) -> None:
    # By run: two processes that save the same runs (one is a zombie) take their rows in the same order.
    ordered = sorted(records, key=lambda record: record.run_id)
    connection.execute(_upsert(connection.dialect.name), [_row(record) for record in ordered])
    connection.execute(_SETTLE, [{"ended": record.run_id, "since": record.queued_at} for record in ordered])
    for record in ordered:
        if record.kind == "chat" and record.status != "completed":  # who completes has let go, with its turn
            let_go(connection, record.run_id, record.queued_at)


def _save_turn(connection: Connection, record: RunRecord, turn: Commit) -> RunRecord | Literal["saved", "moved"]:
    said = end_turn(connection, turn, record.finished_at)
    if said != "free":
        return said
    _save(connection, [record])
    return "saved"


@lru_cache
def _upsert(dialect: str) -> Any:
    """Return the statement of a save. Made once: to make it anew costs as much as to run it."""
    statement = _insert(dialect)(runs)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[runs.c.run_id],
        set_={column.name: new[column.name] for column in runs.c if not column.primary_key},
        where=tuple_(runs.c.queued_at, runs.c.epoch) <= tuple_(new.queued_at, new.epoch),
    )


def _insert(dialect: str) -> Any:
    return sqlite.insert if dialect == "sqlite" else postgresql.insert


def _note(connection: Connection, noted: Begun) -> bool:
    row = {
        "run_id": noted.run_id,
        "kind": noted.kind,
        "tenant": filterable(noted.tenant),
        "labels": dict(noted.labels),
        "queued_at": noted.queued_at,
        "idempotency_key": None if noted.idempotency_key is None else filterable(noted.idempotency_key),
    }
    connection.execute(
        _insert(connection.dialect.name)(begun).values(row).on_conflict_do_nothing(index_elements=[begun.c.run_id])
    )
    since = connection.execute(select(begun.c.queued_at).where(begun.c.run_id == noted.run_id)).scalar_one()
    return bool(since == noted.queued_at)


def _remembered(connection: Connection, run_ids: Sequence[str]) -> tuple[dict[str, RunRecord], dict[str, Begun]]:
    """Of most runs nothing is known, so one query asks for both."""
    known = connection.execute(_KNOWN, {"asked": list(run_ids)}).scalars().all()
    return (_load(connection, known), _noted(connection, known)) if known else ({}, {})


def _noted(connection: Connection, run_ids: Sequence[str]) -> dict[str, Begun]:
    found = connection.execute(select(begun).where(begun.c.run_id.in_(run_ids))).mappings()
    return {row["run_id"]: Begun(**row) for row in found}


def _load(connection: Connection, run_ids: Sequence[str]) -> dict[str, RunRecord]:
    found = connection.execute(select(runs).where(runs.c.run_id.in_(run_ids))).mappings()
    return {row["run_id"]: RunRecord(**row) for row in found}


def _finished(connection: Connection, wanted: Wanted, limit: int) -> list[RunLine]:
    """The failure is at a result's beginning. It is found in the text: PostgreSQL takes no JSON with a NUL apart."""
    given = runs.c
    beginning = func.substr(cast(given.result, Text), 1, _BEGINNING).label("beginning")
    query = select(
        given.run_id, given.kind, given.status, given.epoch, given.tenant, given.labels, given.queued_at,
        given.finished_at, beginning,
    )  # fmt: skip
    if wanted.standings:
        query = query.where(given.status.in_(list(wanted.standings)))
    if wanted.kind is not None:
        query = query.where(given.kind == wanted.kind)
    if wanted.tenant is not None:
        query = query.where(given.tenant == filterable(wanted.tenant))
    if wanted.since is not None:
        query = query.where(given.finished_at >= wanted.since)
    for number, (name, value) in enumerate(wanted.labels.items()):
        query = query.where(_has_label(connection, number, filterable(name), filterable(value)))
    newest = query.order_by(given.finished_at.desc(), given.run_id).limit(limit)
    return [_line(row) for row in connection.execute(newest).mappings()]


def _has_label(connection: Connection, number: int, name: str, value: str) -> ColumnElement[bool]:
    """By its rows: a path could not say every name."""
    rows_of = func.json_each if connection.dialect.name == "sqlite" else func.json_each_text
    label = rows_of(runs.c.labels).table_valued("key", "value", name=f"label_{number}")
    return select(literal(1)).select_from(label).where(label.c.key == name, label.c.value == value).exists()


def _line(row: Any) -> RunLine:
    failure = _FAILURE.search(row["beginning"])
    return RunLine(
        row["run_id"], row["kind"], row["status"], row["tenant"], row["labels"], epoch=row["epoch"],
        queued_at=row["queued_at"], ended_at=row["finished_at"], last=_END_OF[row["status"]],
        last_at=row["finished_at"], why=failure[1] if failure else "",
    )  # fmt: skip


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
        "idempotency_key": None if record.idempotency_key is None else filterable(record.idempotency_key),
        "conversation": record.conversation,
    }
