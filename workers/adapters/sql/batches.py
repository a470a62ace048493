"""The rows of batches in SQL: the port `RowStore`. It knows rows and shards; it never looks into a row."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from api_contracts.batch_rows import RowResult, RowState
from workers.adapters.sql.database import SqlDatabase
from workers.adapters.sql.tables import batch_jobs, batch_rows, batches
from workers.core.batch import jobs
from workers.core.batch.acts import Counts, CutRows, Verdict
from workers.core.batch.cutter import Cutter
from workers.core.batch.jobs import JobView
from workers.core.batch.outputs import RowOutcome, result_of_row
from workers.core.batch.rows import line_of
from workers.core.text import filterable
from workers.ports import LeaseLost, NewRow, WatchedJob

_PAGE_ROWS: Final = 500
_PAGE_BYTES: Final = 2_000_000
"""Of one read; a larger row is read alone."""
_ID_PAGE: Final = 20_000
_rows = batch_rows.c
_jobs = batch_jobs.c


class SqlBatches:
    """`RowStore` on SQLite and PostgreSQL. The database is closed by whoever brought it."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    # -- reading the input -----------------------------------------------------------------------------------------

    async def restart(self, run_id: str, life: int) -> None:
        """See the port."""

        def drop(connection: Connection) -> None:
            _fence(connection, run_id, life)
            connection.execute(delete(batch_rows).where(_rows.run_id == run_id))

        await self._database.write(drop)

    async def add(self, run_id: str, life: int, rows: Sequence[NewRow]) -> set[int]:
        """See the port."""

        def keep(connection: Connection) -> set[int]:
            _fence(connection, run_id, life)
            return _add(connection, run_id, rows)

        return await self._database.write(keep) if rows else set()

    # -- a shard ---------------------------------------------------------------------------------------------------

    async def lines(self, run_id: str, shard: int) -> AsyncGenerator[bytes, None]:
        """See the port. No cursor stays open between two pages."""
        after = 0
        while (page := await self._page(run_id, shard, after)) is not None:
            after, data = page
            yield data

    async def ids(self, run_id: str, shard: int) -> dict[str, int]:
        """See the port."""
        query = select(_rows.custom_id, _rows.number).where(_rows.run_id == run_id, _rows.shard == shard)

        def ask(connection: Connection) -> dict[str, int]:
            found = connection.execution_options(yield_per=_ID_PAGE).execute(query)
            return {str(custom_id): int(number) for custom_id, number in found}

        return await self._database.read(ask)

    async def settle(self, run_id: str, life: int, outcomes: Sequence[RowOutcome]) -> None:
        """See the port."""
        becomes: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("state", "code", "message", "response")}
        pending = and_(_rows.run_id == run_id, _rows.number == bindparam("row_number"), _rows.state == "pending")
        statement = update(batch_rows).where(pending).values(becomes)

        def write(connection: Connection) -> None:
            _fence(connection, run_id, life)
            connection.execute(statement, [_outcome(outcome) for outcome in outcomes])

        if outcomes:
            await self._database.write(write)

    async def give_verdict(self, run_id: str, life: int, shard: int, verdict: Verdict) -> None:
        """See the port."""
        open_rows = and_(_rows.run_id == run_id, _rows.shard == shard, _rows.state == "pending", _rows.code == "")
        told = {"state": verdict.state, "code": verdict.code, "message": filterable(verdict.message)}

        def write(connection: Connection) -> None:
            _fence(connection, run_id, life)
            connection.execute(update(batch_rows).where(open_rows).values(told))

        await self._database.write(write)

    async def cut(self, run_id: str, life: int, wanted: CutRows, cutter: Cutter) -> None:
        """See the port. One transaction: a worker that dies in it has moved nothing."""

        def write(connection: Connection) -> None:
            _fence(connection, run_id, life)
            _cut(connection, run_id, wanted, cutter)

        await self._database.write(write)

    async def _page(self, run_id: str, shard: int, after: int) -> tuple[int, bytes] | None:
        """Return some lines of a shard with the number of the last row, or None when there are no more."""
        rest = and_(_rows.run_id == run_id, _rows.shard == shard, _rows.state == "pending", _rows.number > after)

        def ask(connection: Connection) -> tuple[int, bytes] | None:
            sizes = select(_rows.number, _rows.size).where(rest).order_by(_rows.number).limit(_PAGE_ROWS)
            if not (last := _last_of_page(connection.execute(sizes).all())):
                return None
            query = select(_rows.custom_id, _rows.body).where(rest, _rows.number <= last).order_by(_rows.number)
            return last, b"".join(line_of(custom_id, body.encode()) for custom_id, body in connection.execute(query))

        return await self._database.read(ask)

    async def page(self, run_id: str, after: int, limit: int) -> list[RowResult]:
        """See the port."""
        told = (_rows.number, _rows.custom_id, _rows.state, _rows.attempt, _rows.response, _rows.code, _rows.message)
        query = select(*told).where(_rows.run_id == run_id, _rows.number > after).order_by(_rows.number).limit(limit)
        found = await self._database.read(lambda connection: connection.execute(query).all())
        return [result_of_row(*row) for row in found]

    # -- counting --------------------------------------------------------------------------------------------------

    async def counts(self, run_id: str, shard: int | None = None) -> Counts:
        """See the port."""
        query = select(_rows.state, func.count()).where(_rows.run_id == run_id).group_by(_rows.state)
        if shard is not None:
            query = query.where(_rows.shard == shard)
        found = await self._database.read(lambda connection: {str(s): int(n) for s, n in connection.execute(query)})
        return Counts(**{state: found.get(state, 0) for state in Counts._fields})

    async def reasons(self, run_id: str, shard: int) -> dict[str, int]:
        """See the port."""
        failed = and_(_rows.run_id == run_id, _rows.shard == shard, _rows.state == "failed")
        query = select(_rows.code, func.count()).where(failed).group_by(_rows.code)
        return await self._database.read(lambda connection: {str(c): int(n) for c, n in connection.execute(query)})

    # -- jobs that are looked at -----------------------------------------------------------------------------------

    async def watch(self, job: WatchedJob, look_at: float) -> None:
        """See the port."""
        values = {
            "run_id": job.run_id, "shard": job.shard, "job": job.job, "credential": job.credential,
            "submitted_at": job.submitted_at, "changed_at": job.changed_at, "look_at": look_at,
            "seen": jobs.letter_of(job.shard, job.seen),
        }  # fmt: skip
        await self._database.write(
            lambda connection: connection.execute(_insert(connection)(batch_jobs).on_conflict_do_nothing(), values)
        )

    async def unwatch(self, run_id: str, shard: int) -> None:
        """See the port."""
        statement = delete(batch_jobs).where(_jobs.run_id == run_id, _jobs.shard == shard)
        await self._database.write(lambda connection: connection.execute(statement))

    async def claim_jobs(self, now: float, again_at: float, limit: int) -> list[WatchedJob]:
        """See the port."""
        due = select(_jobs.run_id, _jobs.shard).where(_jobs.look_at <= now).order_by(_jobs.look_at).limit(limit)
        if self._database.dialect == "postgresql":
            # Once, and before the update: a plain subquery may be run for each row, and would pass over its limit.
            locked = due.with_for_update(skip_locked=True).cte("due")
            due = select(locked.c.run_id, locked.c.shard)
        claim = (
            update(batch_jobs)
            .where(tuple_(_jobs.run_id, _jobs.shard).in_(due), _jobs.look_at <= now)
            .values(look_at=again_at)
            .returning(*_jobs)
        )
        found = await self._database.write(lambda connection: connection.execute(claim).mappings().all())
        return [_watched(row) for row in found]

    async def noted(self, run_id: str, shard: int, view: JobView, changed_at: float, look_at: float) -> None:
        """See the port."""
        statement = (
            update(batch_jobs)
            .where(_jobs.run_id == run_id, _jobs.shard == shard)
            .values(seen=jobs.letter_of(shard, view), changed_at=changed_at, look_at=look_at)
        )
        await self._database.write(lambda connection: connection.execute(statement))


def _fence(connection: Connection, run_id: str, life: int) -> None:
    """Refuse whoever was replaced. First in each transaction: until its end the row's lock keeps other writers of the
    run waiting, so a later life begins after whatever an earlier one was about to do. SQLite locks the file, at once:
    a transaction that began by reading could not wait for another's.
    """
    statement = _insert(connection)(batches).values(run_id=run_id, life=life)
    statement = statement.on_conflict_do_update(
        index_elements=[batches.c.run_id],
        set_={"life": statement.excluded.life},
        where=batches.c.life <= statement.excluded.life,
    )
    # Not by `rowcount`, which psycopg's dialect does not give for an insert.
    if connection.execute(statement.returning(batches.c.life)).first() is None:
        raise LeaseLost(run_id)


def _insert(connection: Connection) -> Any:
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert


def _add(connection: Connection, run_id: str, rows: Sequence[NewRow]) -> set[int]:
    """Return the numbers of those that were not kept: their custom id is taken."""
    values = [_new(run_id, row) for row in rows]
    if connection.dialect.name == "postgresql" and _copied(connection, values):
        return set()
    return _inserted(connection, run_id, values)


def _copied(connection: Connection, values: Sequence[Mapping[str, Any]]) -> bool:
    """Keep all of them by COPY, or none and return False: a third of the inserts' time (docs/decisions/0011).

    What COPY cannot say, which row it was, the inserts say; also in whose words a fault is told.
    """
    columns = tuple(values[0])
    dbapi: Any = connection.dialect.loaded_dbapi
    cursor: Any = connection.connection.cursor()
    try:
        statement = f"COPY {batch_rows.name} ({', '.join(columns)}) FROM STDIN"
        with connection.begin_nested(), cursor.copy(statement) as copy:
            for each in values:
                copy.write_row(tuple(each.values()))
    except dbapi.Error:
        return False
    return True


def _inserted(connection: Connection, run_id: str, values: Sequence[Mapping[str, Any]]) -> set[int]:
    """Keep those that can be. Without RETURNING, which costs three times as much for many."""
    once = _insert(connection)(batch_rows).on_conflict_do_nothing(index_elements=["run_id", "taken_id"])
    if connection.execute(once.execution_options(preserve_rowcount=True), values).rowcount == len(values):
        return set()
    numbers = {value["number"] for value in values}
    among = _rows.number.between(min(numbers), max(numbers))
    return numbers - set(connection.execute(select(_rows.number).where(_rows.run_id == run_id, among)).scalars())


def _last_of_page(rows: Sequence[Any]) -> int:
    """Return the number of the last row, of (number, size), that goes into one read; 0 for no rows."""
    size, last = 0, 0
    for number, each in rows:
        size += each
        if last and size > _PAGE_BYTES:
            break
        last = number
    return last


def _new(run_id: str, row: NewRow) -> dict[str, Any]:
    state: RowState = "pending" if row.fault is None else "quarantined"
    custom_id = None if row.custom_id is None else filterable(row.custom_id)
    return {
        "run_id": run_id, "number": row.number, "custom_id": custom_id,
        "taken_id": custom_id if row.fault is None else None, "state": state, "shard": row.shard,
        "attempt": 1 if row.fault is None else 0, "size": row.size, "body": row.body.decode(),
        "code": row.fault.code if row.fault else "", "message": filterable(row.fault.message) if row.fault else "",
    }  # fmt: skip


def _outcome(outcome: RowOutcome) -> dict[str, Any]:
    return {
        "row_number": outcome.number, "new_state": outcome.state, "new_code": outcome.code,
        "new_message": filterable(outcome.message),
        "new_response": outcome.response.decode() if outcome.response else None,
    }  # fmt: skip


def _cut(connection: Connection, run_id: str, wanted: CutRows, cutter: Cutter) -> None:
    """Deal the rows out in order: what goes to one shard is a stretch of numbers, and moved at once."""
    chosen = and_(_rows.run_id == run_id, _rows.state == "pending")
    if wanted.cause == "split":
        chosen = and_(chosen, or_(_rows.shard == wanted.parent, _rows.shard >= wanted.first))
    after = 0
    while page := connection.execute(
        select(_rows.number, _rows.size).where(chosen, _rows.number > after).order_by(_rows.number).limit(_ID_PAGE)
    ).all():
        after = page[-1].number
        stretches: dict[int, tuple[int, int]] = {}
        for number, size in page:
            shard = cutter.place(size)
            stretches[shard] = (stretches.get(shard, (number,))[0], number)
        for shard, (first, last) in stretches.items():
            connection.execute(
                update(batch_rows)
                .where(chosen, _rows.number.between(first, last))
                .values(shard=shard, attempt=wanted.attempt, code="", message="", response=None)
            )


def _watched(row: Any) -> WatchedJob:
    told = jobs.view_in(row["seen"])
    seen = told[1] if told else JobView(row["job"], "UNSPECIFIED")
    return WatchedJob(
        row["run_id"], row["shard"], row["job"], row["credential"], row["submitted_at"], row["changed_at"], seen
    )
