"""`erase`: takes away what there is of a tenant or a conversation, in Redis and in SQL, for good."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import typer
from rich.console import Console

from api_contracts.client import Client
from api_contracts.client.results import database_url
from api_contracts.failure import RunNotFound
from workers.adapters.clock import SystemClock
from workers.adapters.redis.connection import connect
from workers.adapters.redis.erasing import RedisTrails
from workers.adapters.sql.database import SqlDatabase
from workers.adapters.sql.erasing import SqlRemains
from workers.adapters.sql.keeping import SqlKeeping
from workers.cli.connecting import AWAY, client, mapped
from workers.cli.exits import Exit, Stop
from workers.cli.stack import running_database, running_redis
from workers.ports import StoreUnavailable, Whose
from workers.runners.erasing import Erased, Eraser

_REASON: Final = "it is erased"


def whose_of(tenant: str, conversation: str) -> Whose:
    """Return what the options ask for; raise `Stop` when they ask for nothing."""
    if not tenant and not conversation:
        raise Stop(Exit.USAGE, "say what to erase: --tenant, or --conversation (of tenant 'default' without --tenant)")
    return Whose(tenant or "default", conversation or None)


def erase(whose: Whose, *, wait_s: float, by: str, agreed: bool, as_json: bool) -> int:
    """Erase; print what was taken away. Raises `Stop` where nobody agreed, or a part of the service is away."""
    _agree(whose, agreed=agreed)
    with client() as service:
        try:
            erased = asyncio.run(_erase(service, whose, wait_s, by))
        except StoreUnavailable as exc:
            raise Stop(Exit.FAILED, f"{exc} does not answer: {AWAY}; erase again, it goes on where it was") from None
    if as_json:
        print(json.dumps(asdict(erased)))  # noqa: T201 - the command's output
    else:
        Console(stderr=True, highlight=False).print(_told(whose, erased), markup=False, soft_wrap=True)
    return Exit.REFUSED if erased.alive else Exit.DONE


def _agree(whose: Whose, *, agreed: bool) -> None:
    if agreed:
        return
    if not sys.stdin.isatty():
        raise Stop(Exit.USAGE, "nothing is erased without --yes: there is no way back")
    if not typer.confirm(f"Erase {_named(whose)} for good, and cancel what of it lives?"):
        raise Stop(Exit.REFUSED, "nothing was erased")


async def _erase(service: Client, whose: Whose, wait_s: float, by: str) -> Erased:
    def cancel(run_id: str) -> None:
        try:
            service.cancel(run_id, _REASON, by=by)
        except RunNotFound:
            return  # it has gone meanwhile

    async with _database() as database:
        redis = connect(running_redis(), max_connections=4)
        try:
            trails, remains = RedisTrails(redis), SqlRemains(database)
            eraser = Eraser(trails, remains, SqlKeeping(database), SystemClock(), cancel)
            return await eraser.erase(whose, wait_s)
        finally:
            await redis.aclose()


@asynccontextmanager
async def _database() -> AsyncIterator[SqlDatabase]:
    database = SqlDatabase(_existing_database())
    try:
        yield database
    finally:
        await database.close()


def _existing_database() -> str:
    url = running_database()
    with mapped():
        parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
        raise Stop(Exit.FAILED, f"there is no database {parsed.database}: is FW_DATABASE_URL right?")
    return url


def _named(whose: Whose) -> str:
    tenant = f"tenant {whose.tenant!r}"
    return f"all of {tenant}" if whose.conversation is None else f"conversation {whose.conversation!r} of {tenant}"


def _told(whose: Whose, erased: Erased) -> str:
    if erased.alive:
        some = ", ".join(erased.alive[:5])
        return (
            f"{len(erased.alive)} runs of {_named(whose)} were cancelled and have not ended ({some}): nothing more was "
            "erased. Are workers up? Erase again, with a longer --wait-s if need be"
        )
    return (
        f"{_named(whose)} is erased: {erased.conversations} conversations, {erased.runs} results of runs, "
        f"{erased.rows} rows of batches, {erased.keys} keys of Redis, {erased.letters} dead letters"
        + (
            ""
            if erased.compact
            else ". The SQLite file is in use, and has it in free pages: erase again when it is not"
        )
    )
