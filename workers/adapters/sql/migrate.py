"""Brings a database to the newest schema. Forward only; any number of processes may call it at once."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from api_contracts.client.results import brief, database_url, reader
from workers.adapters.sql.engine import open_engine
from workers.adapters.sql.tables import SCHEMA, VERSION_TABLE
from workers.ports import StoreUnavailable

MIGRATIONS: Final = "workers.adapters.sql:migrations"
_LOCK_KEY: Final = 0x66775F6D  # "fw_m": the advisory lock's name on PostgreSQL
_LOCK_WAIT_S: Final = 60.0


def migrate(url: str) -> None:
    """Apply what is missing, all of it or nothing. Make a SQLite file and its folder. A newer schema is left as it is.

    Raises `StoreUnavailable`, `BadDatabaseUrl`, `MissingExtra`.
    """
    found = revision(url)
    if found is not None and found >= SCHEMA:
        return
    # 10 MB that a process of a database that is up to date need not hold.
    from alembic import command
    from alembic.config import Config

    engine = open_engine(url, lock_wait_s=_LOCK_WAIT_S)
    try:
        with engine.begin() as connection:
            _lock(connection)
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", MIGRATIONS)
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"the migration failed: {brief(error)}") from error
    finally:
        engine.dispose()


def revision(url: str) -> str | None:
    """Return the revision of the database, or None when it was never migrated; nothing is made.

    Raises `StoreUnavailable`, `BadDatabaseUrl`, `MissingExtra`.
    """
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
        return None
    engine = reader(parsed)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(VERSION_TABLE):
                return None
            found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
            return None if found is None else str(found)
    except SQLAlchemyError as error:
        raise StoreUnavailable(brief(error)) from error
    finally:
        engine.dispose()


def _lock(connection: Connection) -> None:
    """Let one process at a time look at the revision; the lock ends with the transaction, however that ends."""
    if connection.dialect.name == "sqlite":
        # Explicit: Python's driver would open no transaction before DDL, and a kill could leave half a schema.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
