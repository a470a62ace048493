"""`doctor`: each part of a live installation, whether it answers, and what to do if not."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from celery import Celery
from redis import Redis
from rich.console import Console
from rich.table import Table

from workers.adapters.fireworks.speech import FireworksSpeech
from workers.adapters.sql.archive import SqlArchive
from workers.cli.stack import running_database, running_redis
from workers.errors import Misconfigured
from workers.settings import Settings, read_settings

_WAIT_S = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look showed."""

    part: str
    ok: bool
    says: str


def examine() -> int:
    """Print the findings; return 0 when every part is well."""
    try:
        settings = read_settings(redis_url=running_redis(), database_url=running_database())
    except Misconfigured as exc:
        Console(stderr=True).print(str(exc), style="red", markup=False)
        return 1
    findings = [_look(part, check, settings) for part, check in _CHECKS]
    table = Table("part", "", "says", box=None, pad_edge=False)
    for finding in findings:
        table.add_row(finding.part, "[green]ok[/]" if finding.ok else "[red]no[/]", finding.says)
    Console().print(table)
    return 0 if all(finding.ok for finding in findings) else 1


def _look(part: str, check: Callable[[Settings], str], settings: Settings) -> Finding:
    try:
        return Finding(part, ok=True, says=check(settings))
    except Exception as exc:  # noqa: BLE001 - a doctor reports whatever is wrong
        return Finding(part, ok=False, says=f"{type(exc).__name__}: {exc}"[:300])


def _redis(settings: Settings) -> str:
    with Redis.from_url(settings.redis_url, socket_timeout=_WAIT_S, decode_responses=True) as redis:
        facts = redis.info("server")
        memory, kept = redis.info("memory"), redis.info("persistence")
    policy = memory.get("maxmemory_policy")
    if policy != "noeviction":
        raise RuntimeError(f"maxmemory-policy is {policy}: set noeviction, or Redis will throw journals away")
    durable = "AOF on" if kept.get("aof_enabled") else "AOF off: killing Redis loses live runs, set appendonly yes"
    return f"{facts.get('redis_version')}, {durable}"


def _broker(settings: Settings) -> str:
    with Celery(broker=settings.broker, set_as_current=False).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=_WAIT_S)
        return str(connection.transport.driver_type)


def _sql(settings: Settings) -> str:
    async def check() -> str:
        archive = SqlArchive(settings.database)
        try:
            return await archive.check()
        finally:
            await archive.close()

    return f"schema {asyncio.run(check())}"


def _workers(settings: Settings) -> str:
    app = Celery(broker=settings.broker, set_as_current=False)
    queues = app.control.inspect(timeout=_WAIT_S).active_queues() or {}
    served = sorted({queue["name"] for listed in queues.values() for queue in listed})
    missing = [name for name in ("fireworks.chat", "fireworks.control") if name not in served]
    if missing:
        raise RuntimeError(f"no worker serves {', '.join(missing)}: start `fireworks-workers up`")
    return f"{len(queues)} answer, serving {', '.join(served)}"


def _provider(settings: Settings) -> str:
    key = settings.api_key.get_secret_value()
    if not key:
        raise RuntimeError(
            "FIREWORKS_API_KEY is not set in this shell (under `up` without a key the workers use the emulator)"
        )

    async def models() -> int:
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            url = f"{settings.base_url.rstrip('/')}/models"
            async with session.get(url, headers={"Authorization": f"Bearer {key}"}) as response:
                if response.status != 200:
                    raise RuntimeError(f"{url} answers {response.status}")
                return len((await response.json())["data"])

    return f"{asyncio.run(models())} models at {settings.base_url}"


def _speech(settings: Settings) -> str:
    async def connect() -> None:
        service = FireworksSpeech(settings.audio_streaming_url, lambda _: settings.api_key.get_secret_value())
        await (await service.connect([], credential=None)).close()

    asyncio.run(connect())
    return f"a connection opens at {settings.audio_streaming_url}"


def _tools(settings: Settings) -> str:
    from workers.adapters.tools import Registry

    names = Registry.load(settings.tools).names
    return ", ".join(names) or "none registered (FW_TOOLS is empty)"


_CHECKS: tuple[tuple[str, Callable[[Settings], str]], ...] = (
    ("redis", _redis),
    ("broker", _broker),
    ("sql", _sql),
    ("workers", _workers),
    ("tools", _tools),
    *((("provider", _provider), ("speech", _speech)) if os.environ.get("FIREWORKS_API_KEY") else ()),
)
