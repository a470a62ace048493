"""How long it takes to get a connection, as aiohttp tells it. uvloop's own time has whole milliseconds only."""

import time
from types import SimpleNamespace
from typing import Any

import aiohttp

from workers.ports import AnswerTimes


def connecting() -> aiohttp.TraceConfig:
    """Return what writes the time to a connection into the `AnswerTimes` that a request carries."""

    async def begins(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
        context.began = time.monotonic()

    async def ends(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
        _times(context).connect_s = time.monotonic() - context.began

    async def was_there(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
        _times(context).connect_s = 0.0

    config = aiohttp.TraceConfig()
    config.on_connection_create_start.append(begins)
    config.on_connection_create_end.append(ends)
    config.on_connection_reuseconn.append(was_there)
    return config


def _times(context: SimpleNamespace) -> AnswerTimes:
    times: AnswerTimes = context.trace_request_ctx
    return times
