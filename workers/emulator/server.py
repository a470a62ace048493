"""The server: routes on both prefixes, request ids, authentication, counting, start and stop."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from aiohttp import web

from workers.emulator import catalogue, errors
from workers.emulator.batch import VirtualClock
from workers.emulator.batch.routes import add_batch, is_batch, no_such_path
from workers.emulator.chat import ChatDesk, header_faults
from workers.emulator.config import EmulatorConfig
from workers.emulator.errors import ErrorReply, Refused
from workers.emulator.faults import FaultSyntax, parse_faults
from workers.emulator.speech import add_speech, is_speech
from workers.emulator.state import EmulatorState, Stats

PREFIXES = ("/inference/v1", "/v1")  # the official SDK uses the second once its base URL is changed (WIRE 7.14)
_GRACE_S = 0.05  # stalled and endless streams are cut when the server closes

_CONFIG = web.AppKey("config", EmulatorConfig)
_STATE = web.AppKey("state", EmulatorState)
_DESK = web.AppKey("desk", ChatDesk)
_REQUEST_ID = web.RequestKey("request_id", str)

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(config: EmulatorConfig) -> web.Application:
    """The application. Run it with `handler_cancellation=True`, else a lost client is noticed at the next write."""
    app = web.Application(middlewares=[_identified, _guarded], client_max_size=config.max_body_bytes)
    state = EmulatorState(config.seed)
    app[_CONFIG], app[_STATE], app[_DESK] = config, state, ChatDesk(config, state)
    for prefix in PREFIXES:
        app.router.add_post(f"{prefix}/chat/completions", _chat)
        app.router.add_get(f"{prefix}/models", _models)
    speech = config.scene.speech or config.speech
    add_speech(app, PREFIXES, speech, partial(_accepts, config), state.stats.speech, state.speech_uses)
    add_batch(app, PREFIXES, config, state, partial(_check_key, config=config), lambda request: request[_REQUEST_ID])
    for probe in ("/live", "/ready"):
        app.router.add_get(probe, _here)
    app.router.add_get("/_emulator/stats", _stats)
    app.router.add_post("/_emulator/reset", _reset)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_closing)
    return app


class Running:
    """A server that is up. `url` has no path; `stats` are live."""

    def __init__(self, runner: web.AppRunner, state: EmulatorState, url: str) -> None:
        self._runner = runner
        self._state = state
        self.url = url

    @property
    def inference_url(self) -> str:
        """The base URL for OpenAI-style clients."""
        return self.url + PREFIXES[0]

    @property
    def speech_url(self) -> str:
        """The base URL for live transcription; clients append `/audio/transcriptions/streaming`."""
        return f"ws{self.url.removeprefix('http')}/v1"

    @property
    def api_url(self) -> str:
        """The base URL of the control plane; clients append `/v1/accounts/...` (WIRE 0.3)."""
        return self.url

    @property
    def clock(self) -> VirtualClock:
        """The time of batches; `/_emulator/clock` is the same over HTTP."""
        return self._state.clock

    @property
    def stats(self) -> Stats:
        """Counts since the start or the last reset."""
        return self._state.stats

    def reset(self) -> None:
        """Forget counts, used-up rules, seen requests, cached prompts, datasets and jobs."""
        self._state.reset()

    async def close(self) -> None:
        """Stop listening and cut what is in flight."""
        await self._runner.cleanup()


async def serve(config: EmulatorConfig | None = None, host: str = "127.0.0.1", port: int = 0) -> Running:
    """Start a server; port 0 takes a free one. Raises OSError if the port is taken."""
    app = build_app(config or EmulatorConfig())
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_GRACE_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    bound = runner.addresses[0][1]
    return Running(runner, app[_STATE], f"http://{f'[{host}]' if ':' in host else host}:{bound}")


def run(config: EmulatorConfig, host: str = "127.0.0.1", port: int = 8788) -> None:
    """Serve until SIGTERM or SIGINT. Says where on standard output once it listens."""
    asyncio.run(_run(config, host, port))


async def _run(config: EmulatorConfig, host: str, port: int) -> None:
    running = await serve(config, host, port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sys.stdout.write(f"emulator listening on {running.url}\n")
    sys.stdout.flush()
    await stop.wait()
    await running.close()


async def _chat(request: web.Request) -> web.StreamResponse:
    """One chat completion, counted."""
    state = request.app[_STATE]
    state.stats.requests += 1
    state.stats.active += 1
    try:
        response = await request.app[_DESK].answer(request, request[_REQUEST_ID], time.time())
    except (asyncio.CancelledError, ConnectionError):
        if state.closing:
            state.stats.aborted += 1
        else:
            state.stats.disconnected += 1
        raise
    except (Refused, FaultSyntax, web.HTTPException):
        state.stats.refused += 1
        raise
    else:
        state.stats.completed += 1
        return response
    finally:
        state.stats.active -= 1


async def _models(request: web.Request) -> web.StreamResponse:
    return web.json_response(catalogue.listing(request.app[_CONFIG].models))


async def _here(_: web.Request) -> web.StreamResponse:
    """For the probes of whatever runs the emulator: it needs nothing, so it is ready when it answers."""
    return web.json_response({"ok": True})


async def _stats(request: web.Request) -> web.StreamResponse:
    return web.json_response(request.app[_STATE].stats.as_json())


async def _reset(request: web.Request) -> web.StreamResponse:
    request.app[_STATE].reset()
    return web.json_response(request.app[_STATE].stats.as_json())


async def _closing(app: web.Application) -> None:
    app[_STATE].closing = True


@web.middleware
async def _identified(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, and turn every refusal into its body."""
    given = request.headers.get("x-request-id", "")
    request[_REQUEST_ID] = given if re.fullmatch(r"[\x21-\x7e]{1,128}", given) else request.app[_STATE].request_id()
    try:
        return await handler(request)
    except Refused as refused:
        return _as_response(refused.reply)
    except FaultSyntax as error:
        return _as_response(errors.e1(str(error)))
    except web.HTTPNotFound:
        return _as_response(no_such_path() if is_batch(request) else errors.e1("Path not found", 404, code="NOT_FOUND"))
    except web.HTTPClientError as error:  # wrong method, body too large: the front end's pages
        return _as_response(errors.e6(error.status, error.reason))


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Status faults and authentication, before anything reads the body."""
    if not request.path.startswith(PREFIXES) or is_speech(request) or is_batch(request):
        return await handler(request)
    reply = parse_faults(header_faults(request)).reply(request[_REQUEST_ID])
    if reply is not None:
        raise Refused(reply)
    _check_key(request, request.app[_CONFIG])
    return await handler(request)


def _check_key(request: web.Request, config: EmulatorConfig) -> None:
    """WIRE 8: no key is 401, a wrong one 403. The training client sends `X-Api-Key` (WIRE 0.3)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    if not key:
        raise errors.missing_key(request[_REQUEST_ID])
    if not _accepts(config, key):
        raise errors.bad_key(request[_REQUEST_ID])


def _accepts(config: EmulatorConfig, key: str) -> bool:
    return key in config.accepted_keys if config.accepted_keys is not None else key.startswith(config.key_prefix)


def _as_response(reply: ErrorReply) -> web.Response:
    return web.Response(status=reply.status, text=reply.text, content_type=reply.content_type, headers=reply.headers)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every response: correlation, and the rate limits where they are known (WIRE 1.8, 5.2)."""
    if request.path.startswith(PREFIXES):
        request.app[_STATE].stats.by_status[response.status] += 1
    request_id = request.get(_REQUEST_ID)
    if request_id is not None:
        response.headers["x-request-id"] = request_id
    limits = request.app[_CONFIG].rate_limits
    # A 429 says "no" as well: so it was observed.
    response.headers["x-ratelimit-over-limit"] = "no"
    response.headers["x-ratelimit-limit-requests"] = str(limits.requests)
    response.headers["x-ratelimit-remaining-requests"] = str(0 if response.status == 429 else limits.requests - 1)
    for name, limit in (
        ("prompt", limits.prompt_tokens),
        ("cache-adjusted-prompt", limits.uncached_prompt_tokens),
        ("generated", limits.generated_tokens),
    ):
        response.headers[f"x-ratelimit-limit-tokens-{name}"] = str(limit)
        response.headers[f"x-ratelimit-remaining-tokens-{name}"] = str(0 if response.status == 429 else limit)
