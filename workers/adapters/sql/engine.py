"""Makes engines that write: one place for drivers, pragmas and the form of JSON."""

import json
import math
import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event

from api_contracts.client.results import CONNECT_S, BadDatabaseUrl, database_url, engine_of

SQLITE_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    # FULL: each commit is on the disk. NORMAL survives a kill but not a power cut, and Redis, which syncs by itself,
    # could then remember the end of a run whose result is gone. It costs 0.3 ms per finished run.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)


class NotJson(TypeError):
    """A value that JSON has no word for. Nothing of it is quoted."""


def open_engine(url: str, *, connections: int = 1, lock_wait_s: float = CONNECT_S) -> Engine:
    """Return an engine for `sqlite:///path` or `postgresql://...`; connect later, but make a SQLite file's folder now.

    `lock_wait_s` is how long a locked SQLite file is waited for. Raises `BadDatabaseUrl` and `MissingExtra`.
    """
    parsed = database_url(url)
    options: dict[str, Any] = {
        "pool_size": connections,
        "max_overflow": 0,
        "json_serializer": to_json,
        "json_deserializer": json.loads,
    }
    if parsed.get_backend_name() != "sqlite":
        return engine_of(parsed, pool_pre_ping=True, **options)
    _make_folder(Path(str(parsed.database)).parent)
    engine = engine_of(parsed, **options, connect_args={"timeout": lock_wait_s})
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def to_json(value: object) -> str:
    """Return JSON that every database takes: ASCII, and null for NaN and the infinities, which JSON cannot say.

    Raises `NotJson`. SQLAlchemy wraps it on SQLite; psycopg calls us from inside the driver, and hands it on as it is.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    except (TypeError, RecursionError):
        raise NotJson from None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in SQLITE_PRAGMAS:
        connection.execute(pragma).close()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadDatabaseUrl(f"the folder {folder} of the SQLite file cannot be made: {error.strerror}") from error
