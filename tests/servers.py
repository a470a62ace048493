"""The Redis that tests talk to: one that was given, else an embedded Valkey. It must not know what is tested."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis

from api_contracts import keys
from tests.waiting import eventually
from workers.cli.embedded import EmbeddedValkey

REDIS_VARIABLE = "FW_TEST_REDIS_URL"

# The only keys of ours that may live for ever: each is bounded by its writer.
ENDLESS = (keys.BINDINGS, keys.DEAD_LETTERS, keys.UNACKED, f"{keys.UNACKED}:index")
ENDLESS_SUFFIX = ":due"
# What beat keeps: as many as it has entries, each removed with its entry. The lock beside them has its time.
ENDLESS_PREFIX = keys.BEAT


def given_redis(environ: Mapping[str, str]) -> str | None:
    """The url of the server that the caller of the tests set aside, or None. Nobody may flush it.

    Under xdist each process gets a database of its own there, or their sweepers would take each other's runs.
    """
    url = environ.get(REDIS_VARIABLE)
    number = int(environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    if not url or not number:
        return url or None
    parts = urlsplit(url)
    database = int(parts.path.strip("/") or 0) + number
    return urlunsplit(parts._replace(path=f"/{database}"))


@contextmanager
def embedded_valkey(folder: Path) -> Iterator[EmbeddedValkey]:
    """A server over `folder` until the end of the block. It may be killed and restarted by then, or be dead."""
    with EmbeddedValkey.start(folder) as server:
        yield server


def kill(server: EmbeddedValkey) -> None:
    """Kill the server as an operator's -9 would, and return when it is dead."""
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not server.running)


def endless_keys(url: str, match: str = "fw:*") -> list[str]:
    """Keys of ours without time-to-live that have no excuse."""
    found = [key for key in keys_of(url, match) if not _excused(key)]
    ends = _asked(url, lambda client: [client.pttl(key) for key in found])
    return [key for key, end in zip(found, ends, strict=True) if end == -1]


def keys_of(url: str, match: str) -> list[str]:
    """The keys that match a glob, sorted."""
    found: list[str] = _asked(url, lambda client: sorted(client.scan_iter(match=match, count=1000)))
    return found


def delete(url: str, names: list[str]) -> None:
    """Delete keys; on a server that was given the rest is not ours."""
    if names:
        _asked(url, lambda client: client.delete(*names))


def _excused(key: str) -> bool:
    if key.startswith(ENDLESS_PREFIX):
        return key != keys.BEAT_LOCK
    return key in ENDLESS or (key.endswith(ENDLESS_SUFFIX) and key.count(":") == 2)


def _asked(url: str, ask: Callable[[redis.Redis], Any]) -> Any:
    with closing(redis.Redis.from_url(url, decode_responses=True, socket_timeout=10)) as client:
        return ask(client)
