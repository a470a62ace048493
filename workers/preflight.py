"""What is looked at before a process starts: its settings, and what they point at. All faults at once.

A server that does not answer is no fault: processes wait for it. One that answers and cannot serve is.
"""

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NoReturn

from redis import Redis
from redis.exceptions import RedisError

from workers.adapters.sql.migrate import revision
from workers.adapters.sql.tables import SCHEMA
from workers.adapters.tools import Registry, Tools
from workers.beat.entries import read_plans
from workers.errors import Misconfigured
from workers.ports import StoreUnavailable
from workers.reading import read
from workers.settings import Settings, known_variables, state_folder

Role = Literal["worker", "beat", "flower", ""]

POLICY: Final = "noeviction"
_ROLES: Final[tuple[Role, ...]] = ("worker", "beat", "flower")
_WAIT_S: Final = 3.0


def role_of(argv: Sequence[str]) -> Role:
    """Return which process of ours this is, by Celery's command: the settings are read before it says so itself."""
    return next((role for role in _ROLES if role in argv[1:]), "")


def checked_settings(role: Role, taken: Collection[str] = ()) -> Settings:
    """Return the settings of a process; leave with one line per fault and exit code 1. `taken`: beat's own entries."""
    settings, faults = read(Settings, known_variables)
    if role == "worker":
        faults += [*_tools(os.environ.get("FW_TOOLS", "")), *_mcp(os.environ.get("FW_MCP_FILE")), *_folders(settings)]
        faults += _schema(settings) if settings else []
    if role == "beat":
        faults += _entries(os.environ.get("FW_BEAT_FILE"), taken)
    if faults or settings is None:
        refuse(faults)
    if role == "worker":
        _warn_of_eviction(settings.redis_url)
    return settings


def refuse(faults: Sequence[str]) -> NoReturn:
    """Say each fault in one line on standard error, and leave with exit code 1."""
    sys.exit("\n".join(["fireworks-workers cannot start:", *(" ".join(fault.split()) for fault in faults)]))


def _tools(modules: str) -> Iterator[str]:
    """Look at each module by itself, then at all together: two may have a tool of the same name."""
    names = [name for name in (part.strip() for part in modules.split(",")) if name]
    faults = [fault for name in names for fault in _load(name)]
    yield from faults or _load(modules)


def _load(modules: str) -> list[str]:
    try:
        Registry.load(modules)
    except Misconfigured as exc:
        return [str(exc)]
    return []


def _mcp(file: str | None) -> list[str]:
    try:
        Tools.load("", Path(file) if file else None)
    except Misconfigured as exc:
        return str(exc).splitlines()
    return []


def _entries(file: str | None, taken: Collection[str]) -> list[str]:
    try:
        read_plans(Path(file) if file else None, taken)
    except Misconfigured as exc:
        return str(exc).splitlines()
    return []


def _folders(settings: Settings | None) -> Iterator[str]:
    """Look at where a SQLite file lives, by default the state folder, and at where files of batches are read."""
    given = os.environ.get("FW_DATABASE_URL", "")
    if not given:
        yield from _unwritable("FW_STATE_DIR", state_folder())
    elif given.startswith("sqlite:///"):
        yield from _unwritable("FW_DATABASE_URL", Path(given.removeprefix("sqlite:///")).absolute().parent)
    if settings and settings.batch_folder and not settings.batch_folder.is_dir():
        yield f"FW_BATCH_FOLDER: {settings.batch_folder} is no folder here; mount it, or name another"


def _unwritable(variable: str, folder: Path) -> Iterator[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        yield f"{variable}: the folder {folder} cannot be made: {exc.strerror}; name another"
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield f"{variable}: this user cannot write to the folder {folder}; name another"


def _schema(settings: Settings) -> Iterator[str]:
    if settings.database.startswith("sqlite"):
        return  # the worker itself brings it up
    try:
        found = revision(settings.database)
    except StoreUnavailable:
        return
    except (ValueError, ImportError) as exc:
        yield f"FW_DATABASE_URL: {exc}"
        return
    if found is None or found < SCHEMA:
        has = f"schema {found}" if found else "no schema"
        yield f"FW_DATABASE_URL: the database has {has}, {SCHEMA} is needed: run `fireworks-workers migrate`"


def _warn_of_eviction(url: str) -> None:
    try:
        with Redis.from_url(
            url, socket_timeout=_WAIT_S, socket_connect_timeout=_WAIT_S, decode_responses=True
        ) as redis:
            policy = redis.info("memory").get("maxmemory_policy", POLICY)
    except (RedisError, OSError):
        return
    if policy != POLICY:
        text = f"FW_REDIS_URL: its maxmemory-policy is {policy}, which throws journals away: set {POLICY}"
        sys.stderr.write(f"fireworks-workers warns:\n{text}\n")
