"""A page with a microphone: a gateway between browsers and speech sessions. Words appear as they are spoken.

FW_REDIS_URL=redis://localhost:6379/0 python -m examples.browser.app 8080     # then open http://localhost:8080

A tab speaks in one run at a time, under a random id that the page makes. What goes over its websocket says talk.py.
Browsers give a microphone to https and localhost only. Put your login in front: who has the page speaks at your cost.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from api_contracts.client import AsyncClient
from api_contracts.failure import RunConflict
from examples.browser.talk import Talk

PAGE = Path(__file__).parent / "page"
CLIENT, TALKS = web.AppKey("client", AsyncClient), web.AppKey("talks", dict[str, Talk])


async def index(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE / "index.html", headers={"Content-Security-Policy": "default-src 'self'"})


async def live(request: web.Request) -> web.WebSocketResponse:
    line = web.WebSocketResponse(heartbeat=10, timeout=2, compress=False, max_msg_size=64 * 1024)
    if urlsplit(request.headers.get("Origin", f"//{request.host}")).netloc != request.host:
        raise web.HTTPForbidden(text="another site's page")
    if not line.can_prepare(request):
        raise web.HTTPUpgradeRequired
    try:
        talk, after = await joined(request.app, request.query), int(request.query.get("after", 0))
    except (KeyError, ValueError, RunConflict) as exc:
        raise web.HTTPBadRequest from exc
    await line.prepare(request)
    await talk.serve(line, after)
    return line


async def joined(app: web.Application, asked: Mapping[str, str]) -> Talk:
    """Open the session: twice is once, so this is how a page comes back, too, even to another gateway."""
    run_id, rate, at, talks = asked["run"], int(asked["rate"]), int(asked.get("at", 0)), app[TALKS]
    if run_id not in talks:
        session = await app[CLIENT].stt.open(run_id=run_id, sample_rate=rate)
        if run_id not in talks:
            talks[run_id] = Talk(session, at, lambda: talks.pop(run_id))
    return talks[run_id]


async def running(app: web.Application) -> AsyncIterator[None]:
    """One client for the process: it reads FW_REDIS_URL, FW_BROKER_URL, FW_SIGNING_KEYS."""
    async with AsyncClient() as app[CLIENT]:
        yield


async def stopping(app: web.Application) -> None:
    await asyncio.gather(*(talk.close() for talk in app[TALKS].values()))


def make() -> web.Application:
    app = web.Application()
    app[TALKS] = {}
    app.cleanup_ctx.append(running)
    app.on_shutdown.append(stopping)
    app.add_routes([web.get("/", index), web.get("/live", live), web.static("/page", PAGE)])
    return app


if __name__ == "__main__":
    web.run_app(make(), host="127.0.0.1", port=int(sys.argv[1]))
