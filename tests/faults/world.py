"""The servers and processes that faults happen to. Journals, broker, SQL and the tools' own Redis each stand alone."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.retry import Retry

from api_contracts.client import Client
from tests.acceptance.apps import board, tool_service
from tests.acceptance.cluster import CELERY, QUIET, Cluster, Process
from tests.faults.proxy import FaultProxy
from tests.postgres import EmbeddedPostgres, schema
from tests.servers import embedded_valkey
from workers.adapters.sql.migrate import migrate
from workers.cli.embedded import EmbeddedValkey

LEASE_S, SWEEP_S, LOST_MESSAGE_S, DRAIN_S = 1.0, 0.5, 2.0, 5.0
WORKERS = ("one", "two", "three")
QUEUES = "fireworks.chat,fireworks.chat.bg,fireworks.stt,fireworks.batch,fireworks.control"
TIMING = {
    "FW_LEASE_S": str(LEASE_S),
    "FW_SWEEP_S": str(SWEEP_S),
    "FW_LOST_MESSAGE_S": str(LOST_MESSAGE_S),
    "FW_DRAIN_S": str(DRAIN_S),
    "FW_POLL_S": "0.3",
}


@dataclass(frozen=True)
class _Parts:
    """Broker and database as a cluster takes them; they are there already."""

    broker: str
    database: str

    @contextmanager
    def broker_url(self, redis: str) -> Iterator[str]:
        yield self.broker

    @contextmanager
    def database_url(self, folder: Path) -> Iterator[str]:
        yield self.database


class World(Cluster):
    """Three workers that serve everything, beat, tools elsewhere. Between the workers and Redis or the broker stands
    a proxy each; the producer goes round the first."""

    def __init__(self, folder: Path, servers: "Servers") -> None:
        self.servers = servers
        settings = TIMING | {
            "FW_REDIS_URL": servers.redis_proxy.url,
            "FW_BROKER_URL": servers.broker_proxy.url,
            tool_service.BROKER: servers.broker_proxy.url,
            board.REDIS: servers.tools.url,
            "FAULTS_FOLDER": str(folder),
        }
        parts = _Parts(servers.broker_url, servers.database)
        super().__init__(folder, servers.journals, parts, **settings)  # type: ignore[arg-type]
        self.client.close()
        self.client = Client(
            redis_url=servers.journals.url,
            broker_url=servers.broker_proxy.url,
            database_url=servers.database,
            lost_message_s=LOST_MESSAGE_S,
        )
        self.killed: set[int] = set()
        self.tool_service()
        self.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO")
        for name in WORKERS:
            self.one_more(name)

    def one_more(self, name: str, **env: str) -> Process:
        """Start a worker that serves every queue."""
        options = ("-n", f"{name}@here", "-Q", QUEUES, "-c", "40")
        launcher = "tests.faults.apps.launched"
        return self.start(name, CELERY[0], "-m", launcher, "-A", "workers.app", "worker", *options, *QUIET, **env)

    def whole(self) -> "World":
        """Return when everything is good again: servers, network, three workers, beat and the tools."""
        self.servers.heal()
        living = {process.name for process in self.processes if process.lives}
        for name in WORKERS:
            if name not in living:
                self.one_more(name)
        for name in WORKERS:
            self.named(name).ready()
        # A plain Celery worker, which kombu ends when it loses its broker with a message unacknowledged (QUEUE 2.2):
        # whoever runs one starts it again.
        self.keep(lambda _: self.tool_service(), "tools")
        self.named("beat").ready("beat: Starting...")
        return self

    def workers(self) -> list[Process]:
        """Return the workers that are at work now."""
        return [each for name in WORKERS if (each := self.named(name)).lives and "ready." in each.log()]

    def kill(self, process: Process) -> None:
        """SIGKILL, by us."""
        self.killed.add(process.pid)
        process.kill()

    def died(self) -> list[str]:
        """Return who of ours died without being told to."""
        return [
            f"{each.name} {each.popen.returncode}"
            for each in self.processes
            if not each.lives and each.pid not in self.killed and each.name != "tools"
        ]


class Servers:
    """A Valkey for the journals, a broker, an SQL server, a Valkey of the tools, and the proxies."""

    def __init__(self, folder: Path, stack: ExitStack, broker_url: str = "") -> None:
        self.journals = stack.enter_context(embedded_valkey(folder / "journals"))
        self.tools = stack.enter_context(embedded_valkey(folder / "tools"))
        self.broker: EmbeddedValkey | None = None
        if not broker_url:
            self.broker = stack.enter_context(embedded_valkey(folder / "broker"))
        self.broker_url = broker_url or str(self.broker and self.broker.url)
        self.postgres = EmbeddedPostgres()
        stack.callback(self.postgres.close)
        self.postgres.start()
        self.database = stack.enter_context(schema(self.postgres.url))
        migrate(self.database)
        self.redis_proxy = stack.enter_context(FaultProxy(self.journals.url))
        self.broker_proxy = stack.enter_context(FaultProxy(self.broker_url))

    def heal(self) -> None:
        """Have every server and proxy be good."""
        for proxy in (self.redis_proxy, self.broker_proxy):
            proxy.heal()
        for server in (self.journals, self.broker):
            if server is not None and not server.running:
                server.restart()
        if not self.postgres.running:
            self.postgres.start()

    def now(self) -> float:
        """Return the time of the journals' server, which is this machine's, in seconds since 1970."""
        return time.time()


@contextmanager
def world(folder: Path, broker_url: str = "") -> Iterator[World]:
    """Yield a world that is whole; end it."""
    with ExitStack() as stack:
        servers = Servers(folder, stack, broker_url)
        made = World(folder, servers)
        try:
            yield made.whole()
        finally:
            servers.heal()
            made.close()


def redis_of(url: str, retry: Retry | None = None) -> Redis:
    """Return a client that does not wait long. Without `retry` it tries again as redis-py does."""
    client: Redis = Redis.from_url(url, decode_responses=True, socket_timeout=5, socket_connect_timeout=2)
    if retry is not None:
        client.set_retry(retry)
    return client
