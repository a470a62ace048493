"""Conversations in SQL: the port `Conversations`, and what the archive does with a run's turn.

Every transaction begins with a write to the conversation's row: on PostgreSQL it holds the row, on SQLite the file, so
what is read after it stays true until the end.
"""

import time
from dataclasses import replace
from typing import Any, Final, Literal

from sqlalchemy import Connection, and_, case, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from workers.adapters.sql.database import SqlDatabase
from workers.adapters.sql.tables import commits, conversations, runs
from workers.core.runs.turns import Commit, ConversationKey, Holder, Opened
from workers.core.text import filterable
from workers.ports import Busy, Committed, LeaseLost, RunRecord

_talks: Final = conversations.c
_kept: Final = commits.c
_NOBODY: Final = {"turn_run": None, "turn_queued_at": None, "turn_life": None}


class SqlConversations:
    """`Conversations` over the process's database, which is closed by whoever brought it."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def open(self, key: ConversationKey, holder: Holder, lost: str | None = None) -> Opened | Busy | Committed:
        """See the port."""
        return await self._database.write(lambda connection: _open(connection, key, holder, lost))

    async def commit(self, commit: Commit) -> bool:
        """See the port."""
        return await self._database.write(lambda connection: _commit(connection, commit))

    async def read(self, key: ConversationKey) -> Opened | None:
        """See the port."""
        return await self._database.read(lambda connection: _read(connection, key))


# -- for the archive ---------------------------------------------------------------------------------------------------


def end_turn(connection: Connection, commit: Commit, at: float) -> RunRecord | Literal["free", "moved"]:
    """Add the version with which a turn ends, and let go of the conversation: `free`. The others as in `Archive.save`.

    Raises `LeaseLost` when a later life of the run has the conversation.
    """
    if _add(connection, commit, at, _NOBODY):
        return "free"
    row = connection.execute(select(conversations).where(_is(commit.key))).mappings().first()
    if record := _record_of_turn(connection, commit.key, commit.holder.run_id):
        return record
    if row and row["turn_run"] == commit.holder.run_id and _age(row) > commit.holder.age:
        raise LeaseLost(commit.holder.run_id)
    return "moved"


def let_go(connection: Connection, run_id: str, queued_at: float) -> None:
    """Let go of the conversation that a run has, if it has one."""
    mine = and_(_talks.turn_run == run_id, _talks.turn_queued_at <= queued_at)
    connection.execute(update(conversations).where(mine).values(_NOBODY))


# -- transactions ------------------------------------------------------------------------------------------------------


def _open(connection: Connection, key: ConversationKey, holder: Holder, lost: str | None) -> Opened | Busy | Committed:
    values = {"turn_run": holder.run_id, "turn_queued_at": holder.queued_at, "turn_life": holder.life}
    first = {"version": 0, "settings": {}, "settings_version": 1, "changed_at": time.time()}
    made = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = made(conversations).values(**_row(key), **first, **values)
    earlier = or_(
        _talks.turn_queued_at < holder.queued_at,
        and_(_talks.turn_queued_at == holder.queued_at, _talks.turn_life <= holder.life),
    )
    free = or_(_talks.turn_run.is_(None), and_(_talks.turn_run == holder.run_id, earlier), _talks.turn_run == lost)
    statement = statement.on_conflict_do_update(
        index_elements=[_talks.tenant, _talks.conversation], set_=values, where=free
    )
    taken = connection.execute(statement.returning(_talks.version)).first() is not None
    if record := _record_of_turn(connection, key, holder.run_id):
        if taken:
            connection.execute(update(conversations).where(_is(key)).values(_NOBODY))
        return Committed(record)
    if taken:
        own = select(func.count()).where(_at(key), _kept.run_id == holder.run_id)
        return replace(_opened(connection, key), own=connection.execute(own).scalar_one())
    run_id = connection.execute(select(_talks.turn_run).where(_is(key))).scalar_one()
    if run_id == holder.run_id:
        raise LeaseLost(holder.run_id)
    return Busy(str(run_id))


def _commit(connection: Connection, commit: Commit) -> bool:
    if _add(connection, commit, time.time(), {}):
        return True
    its = and_(_kept.version == commit.base + 1, _kept.run_id == commit.holder.run_id, _kept.kind == commit.kind)
    holds = and_(_is(commit.key), _talks.version == commit.base + 1, _talks.turn_run == commit.holder.run_id)
    there = select(_kept.version).where(_at(commit.key), its, select(_talks.version).where(holds).exists())
    return connection.execute(there).first() is not None


def _add(connection: Connection, commit: Commit, at: float, then: dict[str, None]) -> bool:
    """Add the version if the holder has the conversation at its base."""
    holder = commit.holder
    mine = and_(
        _is(commit.key), _talks.version == commit.base, _talks.turn_run == holder.run_id,
        _talks.turn_queued_at == holder.queued_at, _talks.turn_life == holder.life,
    )  # fmt: skip
    values: dict[str, Any] = {"version": commit.base + 1, "changed_at": at, **then}
    if commit.settings is not None:
        values |= {"settings": dict(commit.settings), "settings_version": commit.settings_version}
    if commit.whole:
        values |= {"tokens": commit.tokens, "floor": 0 if commit.kind == "summary" else None}
    elif commit.tokens is not None:
        floor = case((_talks.floor == 0, commit.tokens), else_=_talks.floor)
        values |= {"tokens": commit.tokens, "floor": floor}
    if connection.execute(update(conversations).where(mine).values(values)).rowcount != 1:
        return False
    connection.execute(
        insert(commits).values(
            **_row(commit.key), version=commit.base + 1, run_id=holder.run_id, kind=commit.kind, whole=commit.whole,
            messages=[dict(message) for message in commit.messages],
            settings=None if commit.settings is None else dict(commit.settings),
            settings_version=commit.settings_version, tokens=commit.tokens, committed_at=at,
        )
    )  # fmt: skip
    return True


def _record_of_turn(connection: Connection, key: ConversationKey, run_id: str) -> RunRecord | None:
    """Return what a run came to whose turn is in the conversation."""
    its = select(_kept.version).where(_at(key), _kept.run_id == run_id, _kept.kind != "summary").exists()
    row = connection.execute(select(runs).where(runs.c.run_id == run_id, its)).mappings().first()
    return RunRecord(**row) if row else None


def _read(connection: Connection, key: ConversationKey) -> Opened | None:
    found = connection.execute(select(_talks.version).where(_is(key))).first()
    return _opened(connection, key) if found else None


def _opened(connection: Connection, key: ConversationKey) -> Opened:
    row = connection.execute(select(conversations).where(_is(key))).mappings().one()
    upto = and_(_at(key), _kept.version <= row["version"])
    base = select(func.max(_kept.version)).where(upto, _kept.whole.is_(True)).scalar_subquery()
    query = select(_kept.messages).where(upto, _kept.version >= func.coalesce(base, 0)).order_by(_kept.version)
    messages = [message for (part,) in connection.execute(query) for message in part]
    return Opened(
        row["version"], messages, row["settings"], row["settings_version"], row["tokens"], row["floor"]
    )  # fmt: skip


def _row(key: ConversationKey) -> dict[str, str]:
    return {"tenant": filterable(key.tenant), "conversation": key.id}


def _is(key: ConversationKey) -> Any:
    return and_(_talks.tenant == filterable(key.tenant), _talks.conversation == key.id)


def _at(key: ConversationKey) -> Any:
    return and_(_kept.tenant == filterable(key.tenant), _kept.conversation == key.id)


def _age(row: Any) -> tuple[float, int]:
    return row["turn_queued_at"], row["turn_life"]
