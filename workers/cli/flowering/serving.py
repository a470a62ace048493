"""The process: Flower's options from our settings, its server, its end."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
from celery import Celery
from flower import command
from flower.urls import settings as pages
from tornado.options import options

from api_contracts.client import Client
from api_contracts.names import TASK_OF
from workers import telemetry
from workers.app import make_app
from workers.cli.flowering.discretion import where_to_look
from workers.cli.flowering.pages import QuietFlower
from workers.errors import Misconfigured
from workers.settings import Settings, read_settings

_log = structlog.get_logger(__name__)

MAX_TASKS: Final = 10_000
"""Flower's own default is ten times as many, at about 4 KB each."""
MAX_WORKERS: Final = 1_000
PURGE_OFFLINE_S: Final = 24 * 3600

OURS: Final = ("PORT", "ADDRESS", "BASIC_AUTH", "UNAUTHENTICATED_API", "FORMAT_TASK")
"""Flower's variables that our settings stand for. Besides, Kubernetes sets `FLOWER_PORT` to `tcp://...` in every pod
beside a service of the name `flower`."""


def serve() -> None:
    """Serve until SIGTERM or SIGINT, then end the process with code 0. Raise `Misconfigured` if it cannot start."""
    settings = read_settings()
    if not settings.flower_auth.get_secret_value():
        raise Misconfigured("FW_FLOWER_AUTH: not set, and Flower does not start without a password: give user:password")
    telemetry.configure(settings.log_level)
    # At DEBUG Flower logs the arguments of the tasks it starts, and Tornado each request.
    for name, level in (("flower", logging.INFO), ("tornado.access", logging.WARNING)):
        logging.getLogger(name).setLevel(level)
    configure(settings, os.environ)
    asyncio.run(_serve(settings))
    # A thread of Flower's that waits for an absent broker would hold the process.
    sys.stderr.flush()
    os._exit(0)


def configure(settings: Settings, environ: MutableMapping[str, str]) -> None:
    """Set Flower's options: our bounds, the operator's `FLOWER_...` (broker_api, url_prefix ...), our rules."""
    options.max_tasks, options.max_workers = MAX_TASKS, MAX_WORKERS
    options.purge_offline_workers = PURGE_OFFLINE_S
    options.tasks_columns = "name,uuid,state,exception,received,runtime,worker"
    # Ours send events by themselves; the workers of other services are not ours to switch.
    options.enable_events = False
    for name in OURS:
        environ.pop(f"FLOWER_{name}", None)
    try:
        command.apply_env_options()
    except ValueError as exc:
        raise Misconfigured(f"a variable FLOWER_... cannot be read: {exc}") from exc
    options.port, options.address = settings.flower_port, settings.flower_host
    options.basic_auth = settings.flower_auth.get_secret_value().split(",")
    options.format_task = where_to_look
    command.extract_settings()


def lean_app() -> Celery:
    """Return an app with our configuration and the names of the kinds of work, but none of the service's code."""
    app = make_app(include=())
    for name in TASK_OF.values():
        app.task(name=name, shared=False)(_doorbell)
    return app


def _doorbell(request: Any = None) -> None:
    """Stand for a task that a worker runs; Flower only sends its message."""


async def _serve(settings: Settings) -> None:
    with Client(redis_url=settings.redis_url, broker_url=settings.broker, database_url="") as client:
        flower = QuietFlower(lean_app(), options, client, **pages)
        try:
            port = flower.start_http_server()
        except OSError as exc:
            where = f"{settings.flower_host}:{settings.flower_port}"
            raise Misconfigured(f"FW_FLOWER_PORT: cannot listen on {where}: {exc.strerror or exc}") from exc
        stopped = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
        flower.events.start()
        flower.update_workers()
        _log.info("flower.listening", host=settings.flower_host, port=port)
        await stopped.wait()
        flower.executor.shutdown(wait=False, cancel_futures=True)
