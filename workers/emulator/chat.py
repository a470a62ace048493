"""Chat completions on the connection: accept, direct, play the take, plain or streamed. Knows no routes or keys."""

import json

from aiohttp import web

from workers.emulator import errors
from workers.emulator.config import EmulatorConfig
from workers.emulator.direction import Ask, Director, Take
from workers.emulator.disturbance import cutter, disturb
from workers.emulator.errors import Refused
from workers.emulator.faults import split_header
from workers.emulator.sse import body, dumps, frames
from workers.emulator.state import EmulatorState
from workers.emulator.streaming import SPLIT_GAP_S, LoopClock, Player
from workers.emulator.validation import Accepted, accept


class ChatDesk:
    """Answers chat completions."""

    def __init__(self, config: EmulatorConfig, state: EmulatorState) -> None:
        self._config = config
        self._state = state
        self._director = Director(config, state)
        self._clock = LoopClock()

    async def answer(self, request: web.Request, request_id: str, now: float) -> web.StreamResponse:
        """The response to a request. Raises Refused or FaultSyntax."""
        accepted = accept(await request.read(), self._config, request_id)
        isolation = request.headers.get("x-prompt-cache-isolation-key")
        take = self._director.direct(accepted, Ask(request_id, now, header_faults(request), isolation))
        return await (self._stream if accepted.body.stream else self._plain)(request, take)

    async def _plain(self, request: web.Request, take: Take) -> web.StreamResponse:
        faults = take.faults
        if faults.stall_after is not None:
            await self._clock.sleep(None)
        if faults.stream_error_after is not None or faults.stream_error_event_after is not None:
            raise Refused(errors.generation_failed())
        await self._clock.sleep(faults.slow_first_token + take.seconds)
        self._sent(take.tokens)
        whole = dumps(body(take.completions, take.envelope)).encode("utf-8", "replace")
        if faults.cut_after is not None:
            return await _half(request, whole, _headers(take))
        if faults.has("json_body_truncated"):
            whole = whole[: len(whole) // 2]
        return web.Response(body=whole, headers=_headers(take))

    async def _stream(self, request: web.Request, take: Take) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        await response.prepare(request)
        stream = disturb(frames(take.completions, take.envelope), take.faults)
        gap_s = 1 / take.faults.drip if take.faults.drip else SPLIT_GAP_S
        player = Player(response.write, cutter(take.faults), self._sent, self._clock, gap_s)
        if await player.play(stream, take.pace):
            await response.write_eof()
        else:
            _hang_up(request)
        return response

    def _sent(self, tokens: int) -> None:
        self._state.stats.tokens_sent += tokens


def header_faults(request: web.Request) -> tuple[str, ...]:
    """The faults that a request's own headers ask for."""
    values = request.headers.getall("x-emulator-fault", [])
    return tuple(fault for value in values for fault in split_header(value))


async def _half(request: web.Request, whole: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """A response that promises all of the body, sends half and hangs up."""
    response = web.StreamResponse(headers=headers)
    response.content_length = len(whole)
    await response.prepare(request)
    await response.write(whole[: len(whole) // 2])
    _hang_up(request)
    return response


def _hang_up(request: web.Request) -> None:
    """Close without a terminator; what was written still arrives."""
    if request.transport is not None:
        request.transport.close()


def _headers(take: Take) -> dict[str, str]:
    """Headers of a plain answer: performance, and the sampling parameters in effect (WIRE 1.8)."""
    perf = {f"fireworks-{name}": value for name, value in take.performance.items()}
    options = json.dumps(_sampling_options(take.accepted))
    return perf | {"content-type": "application/json", "fireworks-sampling-options": options}


def _sampling_options(accepted: Accepted) -> dict[str, float]:
    given = accepted.body
    return {
        "temperature": 1.0 if given.temperature is None else given.temperature,
        "top_p": 1.0 if given.top_p is None else given.top_p,
        "top_k": 0 if given.top_k is None else given.top_k,
        "max_tokens": accepted.max_tokens,
    }
