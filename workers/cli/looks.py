"""What `doctor` looks at, one function for each part: it returns what is well, raises `Doubt` for a warning, and
RuntimeError (or whatever went wrong) for a part that is not well. Each text that is not "well" says what to do.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, get_args

import aiohttp
from celery import Celery
from redbeat.schedulers import RedBeatSchedulerEntry
from redis import Redis
from redis.exceptions import RedisError

from api_contracts import keys, names
from api_contracts.client.results import brief
from workers.adapters.fireworks.control_plane import ControlPlane
from workers.adapters.fireworks.speech import FireworksSpeech
from workers.adapters.sql.migrate import revision
from workers.adapters.sql.tables import SCHEMA
from workers.adapters.tools import Tools
from workers.beat import LOCK_S
from workers.control import VERSION_COMMAND
from workers.ports import ProviderFailed, StoreUnavailable
from workers.settings import Settings

Look = Callable[[Settings], str]

WAIT_S: Final = 3.0
MCP_WAIT_S: Final = 10.0
"""A server over stdio is a program that has to start."""
SKEW_DOUBT_S, SKEW_S = 1.0, 30.0
"""Deadlines are reckoned by the machines, leases by Redis: a little is noise, a lot ends runs too early or late."""
LATE_TICKS: Final = 3
"""Beat's own entries tick at least every half minute; so many missing ones are a fault."""
_TICK_S: Final = 30.0


class Doubt(Exception):
    """Something to look into, that stops no run now."""


@contextmanager
def redis_of(settings: Settings) -> Iterator[Redis]:
    """Yield a client that gives up soon; what it raises says what to do."""
    waits: dict[str, Any] = {"socket_timeout": WAIT_S, "socket_connect_timeout": WAIT_S, "retry": None}
    with Redis.from_url(settings.redis_url, decode_responses=True, **waits) as redis:
        try:
            yield redis
        except (RedisError, OSError) as exc:
            raise RuntimeError(f"{type(exc).__name__}: {exc}: is FW_REDIS_URL right, and does Redis run?") from exc


def redis_look(settings: Settings) -> str:
    """Redis answers, keeps what it acknowledged, and throws nothing away."""
    with redis_of(settings) as redis:
        server, memory, kept = redis.info("server"), redis.info("memory"), redis.info("persistence")
    if (policy := memory.get("maxmemory_policy")) != "noeviction":
        raise RuntimeError(f"maxmemory-policy is {policy}: set noeviction, or Redis will throw journals away")
    if not kept.get("aof_enabled"):
        raise Doubt("AOF is off: a killed Redis loses the live runs; set appendonly yes")
    return f"{server.get('redis_version')}, AOF on, noeviction"


def clock_look(settings: Settings) -> str:
    """This machine and Redis agree on the time."""
    with redis_of(settings) as redis:
        before = time.time()
        seconds, micros = redis.time()
        here = (before + time.time()) / 2
    return judged_skew(here - (seconds + micros / 1e6))


def judged_skew(skew_s: float) -> str:
    """Return or raise what a difference of clocks means; above 0 this machine is ahead."""
    text = f"this machine is {abs(skew_s):.2f} s {'ahead of' if skew_s > 0 else 'behind'} Redis"
    if abs(skew_s) > SKEW_S:
        raise RuntimeError(f"{text}: synchronise the clocks (NTP) of both machines")
    if abs(skew_s) > SKEW_DOUBT_S:
        raise Doubt(f"{text}: synchronise the clocks (NTP) of both machines")
    return text


def broker_look(settings: Settings) -> str:
    """The broker takes a message to the workers, and their answers back."""
    with _app(settings) as app, app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=WAIT_S, interval_start=0)
        except Exception as exc:  # each transport has errors of its own
            raise RuntimeError(f"{type(exc).__name__}: {brief(exc)}: is FW_BROKER_URL right, does it run?") from exc
        kind = connection.transport.driver_type
        begun = time.monotonic()
        heard = app.control.ping(timeout=WAIT_S, limit=1, connection=connection)
    if not heard:
        raise RuntimeError(f"{kind} answers, but no worker a ping through it: start `fireworks-workers up`")
    return f"{kind}, a worker answered a ping after {1000 * (time.monotonic() - begun):.0f} ms"


def sql_look(settings: Settings) -> str:
    """The database has our schema."""
    try:
        found = revision(settings.database)
    except StoreUnavailable as exc:
        raise RuntimeError(f"{exc}: is FW_DATABASE_URL right, and does it run?") from exc
    if found is None:
        raise RuntimeError("our tables are not there: run `fireworks-workers migrate`, or start a worker on SQLite")
    if found < SCHEMA:
        raise RuntimeError(f"schema {found}, this version needs {SCHEMA}: run `fireworks-workers migrate`")
    return f"schema {found}"


def queues_look(settings: Settings) -> str:
    """Each queue has a worker that lives."""
    with _app(settings) as app:
        told = app.control.inspect(timeout=WAIT_S).active_queues() or {}
    served = {queue["name"] for listed in told.values() for queue in listed}
    kinds: tuple[names.Kind, ...] = get_args(names.Kind)
    needed = {names.CONTROL_QUEUE} | {names.queue_of(kind) for kind in kinds}
    if missing := sorted(needed - served):
        lines = " ".join(name.removeprefix("fireworks.") for name in missing)
        raise RuntimeError(f"no worker serves {', '.join(missing)}: start the Procfile's {lines}")
    behind = {names.queue_of(kind, "background") for kind in kinds}
    if missing := sorted(behind - served):
        raise Doubt(f"no worker serves {', '.join(missing)}: a run of lane=background would wait there: start chat-bg")
    return f"{len(told)} workers serve {', '.join(sorted(served))}"


def versions_look(settings: Settings) -> str:
    """All workers run one release."""
    with _app(settings) as app:
        replies = app.control.broadcast(VERSION_COMMAND, reply=True, timeout=WAIT_S) or []
    told = {node: str(said.get("version", "?")) for reply in replies for node, said in reply.items()}
    if not told:
        raise RuntimeError("no worker says which release it runs: start `fireworks-workers up`")
    if len(set(told.values())) > 1:
        each = ", ".join(f"{node} {version}" for node, version in sorted(told.items()))
        raise Doubt(f"releases are mixed: {each}; fine during a deploy, finish it")
    return f"{len(told)} workers run {next(iter(told.values()))}"


def beat_look(settings: Settings) -> str:
    """A beat holds the lock and ticks."""
    with redis_of(settings) as redis:
        holder: Any = redis.get(keys.BEAT_LOCK)
        left_ms = redis.pttl(keys.BEAT_LOCK)
        raw = redis.hget(f"{keys.BEAT}{names.SWEEP}", "meta")
        now: int = redis.time()[0]
    if holder is None:
        raise RuntimeError("no beat holds the lock: start the Procfile's beat; without it batches are looked at late")
    last = RedBeatSchedulerEntry.decode_meta(raw)["last_run_at"]
    ago_s = None if last is None else now - last.timestamp()
    passed = f"{holder} holds the lock, passed {max(0.0, LOCK_S - left_ms / 1000):.0f} s ago"
    if ago_s is None or ago_s > LATE_TICKS * _TICK_S:
        ticked = "never ticked" if ago_s is None else f"last ticked {ago_s:.0f} s ago"
        raise RuntimeError(f"{passed}, but {ticked}: look into its log; can it reach the broker?")
    return f"{passed}, ticked {max(0.0, ago_s):.0f} s ago"


def dead_letters_look(settings: Settings) -> str:
    """No message had to be put aside."""
    with redis_of(settings) as redis:
        count: Any = redis.llen(keys.DEAD_LETTERS)
    if count:
        raise Doubt(
            f"{count} messages could not be read: LRANGE {keys.DEAD_LETTERS} 0 9 shows the newest, with reasons"
        )
    return "none"


def tools_look(settings: Settings) -> str:
    """The modules of FW_TOOLS can be imported here, and the servers of FW_MCP_FILE say what they offer."""

    async def offered() -> tuple[list[str], list[str]]:
        tools = Tools.load(settings.tools, settings.mcp_file)
        try:
            return await tools.start(MCP_WAIT_S), tools.names
        finally:
            await tools.close()

    missing, names = asyncio.run(offered())
    if missing:
        raise RuntimeError(
            f"MCP servers that do not answer here: {', '.join(missing)}: look into FW_MCP_FILE; runs that name"
            " their tools are parked until they do"
        )
    return ", ".join(names) or "none registered (FW_TOOLS and FW_MCP_FILE are empty)"


def provider_look(settings: Settings) -> str:
    """The provider takes the key."""
    key = _key(settings)

    async def models() -> int:
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            url = f"{settings.base_url.rstrip('/')}/models"
            async with session.get(url, headers={"Authorization": f"Bearer {key}"}) as response:
                if response.status in (401, 403):
                    raise RuntimeError(f"{url} answers {response.status}: FIREWORKS_API_KEY is not taken there")
                if response.status != 200:
                    raise RuntimeError(f"{url} answers {response.status}: is FIREWORKS_BASE_URL right?")
                return len((await response.json())["data"])

    return f"{asyncio.run(models())} models at {settings.base_url}"


def speech_look(settings: Settings) -> str:
    """The provider's ears open a connection."""
    key = _key(settings)

    async def connect() -> None:
        await (await FireworksSpeech(settings.audio_streaming_url, lambda _: key).connect([], credential=None)).close()

    try:
        asyncio.run(connect())
    except ProviderFailed as exc:
        raise RuntimeError(f"{exc.failure.message}: is FIREWORKS_AUDIO_STREAMING_URL right?") from exc
    return f"a connection opens at {settings.audio_streaming_url}"


def batch_look(settings: Settings) -> str:
    """The control plane knows the account."""
    key = _key(settings)
    if not settings.account_id:
        raise Doubt("FIREWORKS_ACCOUNT_ID is not set in this shell: batches need it")

    async def jobs() -> None:
        plane = ControlPlane(settings.api_url, settings.account_id, lambda _: key)
        try:
            await plane.call("GET", plane.url("batchInferenceJobs", query={"pageSize": "1"}), credential=None)
        finally:
            await plane.close()

    try:
        asyncio.run(jobs())
    except ProviderFailed as exc:
        raise RuntimeError(f"{exc.failure.message}: are FIREWORKS_ACCOUNT_ID and FIREWORKS_API_URL right?") from exc
    return f"the account {settings.account_id} answers at {settings.api_url}"


def _key(settings: Settings) -> str:
    if key := settings.api_key.get_secret_value():
        return key
    raise Doubt("FIREWORKS_API_KEY is not set in this shell (under `up` without a key the workers use the emulator)")


@contextmanager
def _app(settings: Settings) -> Iterator[Any]:
    with Celery(broker=settings.broker, backend="disabled", set_as_current=False) as app:
        yield app


LOOKS: Final[tuple[tuple[str, Look], ...]] = (
    ("redis", redis_look),
    ("clock", clock_look),
    ("broker", broker_look),
    ("sql", sql_look),
    ("queues", queues_look),
    ("workers", versions_look),
    ("beat", beat_look),
    ("dead letters", dead_letters_look),
    ("tools", tools_look),
    ("provider", provider_look),
    ("speech", speech_look),
    ("batch", batch_look),
)
