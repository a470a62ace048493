"""Speech on the server: routes, keys, which faults a connection gets, counting, an orderly end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import WSCloseCode, web

from workers.emulator import errors
from workers.emulator.errors import ErrorReply, Refused
from workers.emulator.faults import FaultSyntax, split_header
from workers.emulator.speech.config import SpeechConfig
from workers.emulator.speech.connection import Connection, open_socket
from workers.emulator.speech.conversation import Conversation
from workers.emulator.speech.engines import Engines
from workers.emulator.speech.faults import SpeechFaults, parse_speech_faults
from workers.emulator.speech.parameters import BadParameter, Parameters, read_parameters
from workers.emulator.speech.prerecorded import Prerecorded, bad_request
from workers.emulator.speech.state import SpeechStats, Uses

_FAULT = "x-emulator-fault"
_THREADS = 4


def add_speech(
    app: web.Application,
    prefixes: tuple[str, ...],
    config: SpeechConfig,
    accepts: Callable[[str], bool],
    stats: SpeechStats,
    uses: Uses,
) -> None:
    """Serve speech under the prefixes. `accepts` judges a key. Raises EngineMissing."""
    desk = _Desk(config, accepts, stats, uses)
    for prefix in prefixes:
        app.router.add_get(f"{prefix}/audio/transcriptions/streaming", desk.stream)
        app.router.add_post(f"{prefix}/audio/transcriptions", desk.transcribe)
        app.router.add_post(f"{prefix}/audio/translations", desk.translate)
    app.on_shutdown.append(desk.hang_up)
    app.on_cleanup.append(desk.stop)


def is_speech(request: web.Request) -> bool:
    """Whether speech answers this request; it looks at keys and faults itself."""
    return "/audio/" in request.path


class _Desk:
    """Answers the audio routes."""

    def __init__(self, config: SpeechConfig, accepts: Callable[[str], bool], stats: SpeechStats, uses: Uses) -> None:
        self._config = config
        self._accepts = accepts
        self._stats = stats
        self._uses = uses
        self._engines = Engines(config)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="emulator-speech")
        self._prerecorded = Prerecorded(config, self._engines.make, self._threads, stats)
        self._sockets: set[web.WebSocketResponse] = set()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """A streaming connection, or the refusal of its upgrade."""
        try:
            parameters, faults = self._admit(request)
        except (Refused, FaultSyntax):
            self._stats.refused += 1
            raise
        conversation = Conversation(self._config, parameters, faults, self._engines.make, self._stats)
        socket = open_socket(self._config.heartbeat_s)
        await socket.prepare(request)
        self._stats.connections += 1
        self._stats.open += 1
        self._sockets.add(socket)
        try:
            await Connection(socket, conversation, self._threads).play(request.transport)
        finally:
            self._sockets.discard(socket)
            self._stats.open -= 1
        return socket

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        """POST /audio/transcriptions."""
        self._admit_file(request)
        return await self._prerecorded.answer(request, "transcribe")

    async def translate(self, request: web.Request) -> web.StreamResponse:
        """POST /audio/translations."""
        self._admit_file(request)
        return await self._prerecorded.answer(request, "translate")

    async def hang_up(self, _app: web.Application) -> None:
        """Tell the clients that the server goes."""
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._sockets))

    async def stop(self, _app: web.Application) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _admit(self, request: web.Request) -> tuple[Parameters, SpeechFaults]:
        self._check_key(request, status_of_wrong=401)
        try:
            parameters = read_parameters(list(request.query.items()))
        except BadParameter as error:
            raise bad_request(str(error)) from None
        faults = self._asked(request) or self._ruled(parameters) or SpeechFaults()
        _hang_up(request, faults)
        _refuse(faults.reply())
        limit = self._config.max_connections
        if limit is not None and self._stats.open >= limit:
            _refuse(errors.e4("Too Many Requests", f"At most {limit} connections at once.", 429))
        return parameters, faults

    def _admit_file(self, request: web.Request) -> None:
        self._check_key(request, status_of_wrong=403)
        faults = self._asked(request) or SpeechFaults()
        _hang_up(request, faults)
        _refuse(faults.reply())

    def _check_key(self, request: web.Request, status_of_wrong: int) -> None:
        """The header, else the query in either spelling; the bare key, and `Bearer` unless switched off (WIRE 2.2)."""
        query = request.query
        given = request.headers.get("authorization") or query.get("Authorization") or query.get("authorization") or ""
        if not given:
            _refuse(errors.e4("Unauthorized", "The API key is missing from the request.", 401))
        scheme, _, token = given.partition(" ")
        key = token.strip() if self._config.bearer and scheme.lower() == "bearer" else given
        if not self._accepts(key):
            title = "Unauthorized" if status_of_wrong == 401 else "Forbidden"
            _refuse(errors.e4(title, "The API key you provided is invalid.", status_of_wrong))

    def _asked(self, request: web.Request) -> SpeechFaults | None:
        """What the request itself asks for, unless that is used up."""
        values = (*request.headers.getall(_FAULT, []), *request.query.getall(_FAULT, []))
        specs = tuple(spec for value in values for spec in split_header(value))
        faults = parse_speech_faults(specs)
        return faults if specs and self._uses.take(specs, faults.times) else None

    def _ruled(self, parameters: Parameters) -> SpeechFaults | None:
        """What the first rule that holds says."""
        for place, rule in enumerate(self._config.rules):
            if rule.when.holds(parameters) and self._uses.take(place, rule.times):
                return parse_speech_faults(rule.faults)
        return None


def _hang_up(request: web.Request, faults: SpeechFaults) -> None:
    """End the connection at once, if that was asked for."""
    if faults.has("refuse") and request.transport is not None:
        request.transport.abort()
        _refuse(errors.e4("Service Unavailable", "Nobody reads this.", 503))


def _refuse(reply: ErrorReply | None) -> None:
    if reply is not None:
        raise Refused(reply)
