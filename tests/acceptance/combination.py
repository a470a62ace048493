"""Which broker and which database the shelf runs on: `FW_TEST_COMBINATION`, read here only."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.postgres import schema
from tests.rabbitmq import given_rabbitmq, vhost, why_no_vhosts
from workers.adapters.sql.migrate import migrate

VARIABLE = "FW_TEST_COMBINATION"
DEFAULT = "redis+sqlite"
BROKERS, DATABASES = ("redis", "rabbitmq"), ("sqlite", "postgresql")


@dataclass(frozen=True)
class Combination:
    """Makes what a cluster of its own needs. `postgres` returns the server, which starts when it is first asked for."""

    broker: str
    database: str
    postgres: Callable[[], str]

    @classmethod
    def chosen(cls, postgres: Callable[[], str], environ: Mapping[str, str] = os.environ) -> "Combination":
        """Read the variable; fail on a word that is none."""
        broker, _, database = (environ.get(VARIABLE) or DEFAULT).partition("+")
        assert broker in BROKERS, f"{VARIABLE}: {broker!r} is none of {BROKERS}"
        assert database in DATABASES, f"{VARIABLE}: {database!r} is none of {DATABASES}"
        return cls(broker, database, postgres)

    @property
    def default(self) -> bool:
        return f"{self.broker}+{self.database}" == DEFAULT

    def why_not(self) -> str:
        """Say why this combination cannot be had here, or nothing."""
        return why_no_vhosts(os.environ) if self.broker == "rabbitmq" else ""

    def broker_url(self, redis: str) -> AbstractContextManager[str]:
        """Yield the broker of a cluster; `redis` is the one it has where Redis is the broker."""
        if self.broker == "redis":
            return nullcontext(redis)
        return vhost(str(given_rabbitmq(os.environ)))

    @contextmanager
    def database_url(self, folder: Path) -> Iterator[str]:
        """Yield the database of a cluster, migrated where the workers do not do that themselves."""
        if self.database == "sqlite":
            yield f"sqlite:///{folder / 'runs.sqlite3'}"
            return
        with schema(self.postgres()) as url:
            migrate(url)
            yield url
