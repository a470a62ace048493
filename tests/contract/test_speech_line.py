"""What every live speech-to-text service promises, held against each implementation of the port."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

import pytest
from websockets.asyncio.server import Request, Response, Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from tests.garbage import collector_off
from tests.waiting import eventually_async
from workers.adapters.fireworks.speech import FireworksSpeech, SpeechTimeouts
from workers.adapters.memory.model import Hold
from workers.adapters.memory.speech import MemoryLine, MemorySpeech
from workers.ports import SpeechLine, SpeechLost, SpeechService

KEYS = {None: "key-of-the-process", "team-b": "key-of-b"}
QUERY = [("prompt", "a b&c=d/é+%"), ("timestamp_granularities", "word"), ("timestamp_granularities", "segment")]
FRAME = bytes(range(256)) * 12 + bytes(128)
LATER = 30.0


class FarEnd(Protocol):
    """The provider's end of a connection."""

    async def heard(self) -> bytes | str:
        """Return the next message that came."""
        ...

    async def say(self, *messages: bytes | str) -> None:
        """Send messages."""
        ...

    async def drop(self, code: int | None) -> None:
        """End the connection: by a close frame with this code, or without one."""
        ...

    async def stall(self) -> None:
        """Take nothing more."""
        ...

    async def left(self) -> None:
        """Return when the client has left."""
        ...


class World(Protocol):
    """A service, and its provider."""

    @property
    def service(self) -> SpeechService:
        """The service."""
        ...

    async def far_end(self) -> FarEnd:
        """Return the provider's end of the next connection that opened."""
        ...

    def asked(self) -> list[tuple[list[tuple[str, str]], str | None]]:
        """Return the query and the credential of every try."""
        ...

    def refuse(self, status: int, retry_after_s: float | None = None) -> None:
        """Refuse the next try."""
        ...

    def hold(self) -> asyncio.Event:
        """Leave the next try without an answer; the event says that it is there."""
        ...

    async def close(self) -> None:
        """End what was started."""
        ...


# -- in memory ---------------------------------------------------------------------------------------------------------


class MemoryFarEnd:
    def __init__(self, line: MemoryLine) -> None:
        self._line = line

    async def heard(self) -> bytes | str:
        return await self._line.heard.get()

    async def say(self, *messages: bytes | str) -> None:
        self._line.say(*messages)

    async def drop(self, code: int | None) -> None:
        self._line.drop(code)

    async def stall(self) -> None:
        self._line.stall()

    async def left(self) -> None:
        await self._line.gone.wait()


class MemoryWorld:
    def __init__(self) -> None:
        self.service = MemorySpeech()

    async def far_end(self) -> FarEnd:
        return MemoryFarEnd(await self.service.opened.get())

    def asked(self) -> list[tuple[list[tuple[str, str]], str | None]]:
        return [(each.query, each.credential) for each in self.service.dialled]

    def refuse(self, status: int, retry_after_s: float | None = None) -> None:
        retryable = status == 429 or status >= 500
        self.service.add(SpeechLost("refused", code=status, retryable=retryable, retry_after_s=retry_after_s))

    def hold(self) -> asyncio.Event:
        hold = Hold()
        self.service.add(hold)
        return hold.reached

    async def close(self) -> None:
        assert self.service.open == 0


# -- the provider's, over real sockets ---------------------------------------------------------------------------------


class SocketFarEnd:
    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self._heard: asyncio.Queue[bytes | str] = asyncio.Queue()

    async def listen(self) -> None:
        try:
            while True:
                self._heard.put_nowait(await self.socket.recv())
        except ConnectionClosed:
            pass

    async def heard(self) -> bytes | str:
        return await self._heard.get()

    async def say(self, *messages: bytes | str) -> None:
        for message in messages:
            await self.socket.send(message)

    async def drop(self, code: int | None) -> None:
        if code is None:
            self.socket.transport.abort()
        else:
            await self.socket.close(code)

    async def stall(self) -> None:
        self.socket.transport.pause_reading()

    async def left(self) -> None:
        if not self.socket.transport.is_closing():
            self.socket.transport.resume_reading()
        await self.socket.wait_closed()


class SocketWorld:
    server: Server
    service: SpeechService

    def __init__(self) -> None:
        self._ends: asyncio.Queue[SocketFarEnd] = asyncio.Queue()
        self._asked: list[Request] = []
        self._script: list[Response | asyncio.Event] = []

    async def start(self) -> None:
        self.server = await serve(
            self._serve, "127.0.0.1", 0, process_request=self._admit, ping_interval=None, close_timeout=0.1
        )
        port = self.server.sockets[0].getsockname()[1]
        times = SpeechTimeouts(connect_s=LATER, send_s=LATER, ping_every_s=LATER, close_s=0.2)
        self.service = FireworksSpeech(f"ws://127.0.0.1:{port}/v1/", lambda name: KEYS[name], timeouts=times)

    async def _serve(self, socket: ServerConnection) -> None:
        end = SocketFarEnd(socket)
        self._ends.put_nowait(end)
        await end.listen()

    async def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        self._asked.append(request)
        step = self._script.pop(0) if self._script else None
        if isinstance(step, asyncio.Event):
            step.set()
            await socket.wait_closed()
        return step if isinstance(step, Response) else None

    async def far_end(self) -> FarEnd:
        return await self._ends.get()

    def asked(self) -> list[tuple[list[tuple[str, str]], str | None]]:
        names = {key: name for name, key in KEYS.items()}
        return [
            (parse_qsl(urlsplit(each.path).query, strict_parsing=True), names[each.headers["Authorization"]])
            for each in self._asked
        ]

    def refuse(self, status: int, retry_after_s: float | None = None) -> None:
        wait = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        self._script.append(Response(status, "X", Headers(wait)))

    def hold(self) -> asyncio.Event:
        there = asyncio.Event()
        self._script.append(there)
        return there

    async def close(self) -> None:
        self.server.close()
        await self.server.wait_closed()


# -- the promises ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "fireworks"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Each implementation in turn."""
    if request.param == "memory":
        memory = MemoryWorld()
        yield memory
        await memory.close()
        return
    sockets = SocketWorld()
    await sockets.start()
    yield sockets
    await sockets.close()


async def opened(world: World) -> tuple[SpeechLine, FarEnd]:
    """Return both ends of a connection."""
    line = await world.service.connect(QUERY, credential=None)
    return line, await world.far_end()


async def lost(line: SpeechLine) -> SpeechLost:
    """Return what the next `receive` fails with."""
    with pytest.raises(SpeechLost) as caught:
        await asyncio.wait_for(line.receive(), LATER)
    return caught.value


async def send_until_lost(line: SpeechLine, sent: list[bytes]) -> SpeechLost:
    """Send until that fails, and return how; `sent` is what went."""
    while True:
        try:
            await line.send(FRAME)
        except SpeechLost as error:
            return error
        sent.append(FRAME)


async def stuck(sent: list[bytes]) -> None:
    """Return once nothing more is sent."""
    before = -1

    async def still() -> bool:
        nonlocal before
        before, now = len(sent), before
        return before == now

    await eventually_async(still)


async def test_messages_go_both_ways_as_they_are(world: World) -> None:
    line, far = await opened(world)
    for message in (FRAME, '{"checkpoint_id": "final"}', b"", "é\n"):
        await line.send(message)
        assert await far.heard() == message
        await far.say(message)
        assert await line.receive() == message
    await line.close()


async def test_one_task_sends_while_another_receives(world: World) -> None:
    line, far = await opened(world)
    heard = asyncio.create_task(line.receive())
    await line.send(FRAME)
    assert await far.heard() == FRAME
    assert not heard.done()
    await far.say("x")
    assert await heard == "x"
    await line.close()


async def test_the_query_and_the_credential_arrive_with_repeated_keys_kept(world: World) -> None:
    for credential in KEYS:
        line = await world.service.connect(QUERY, credential=credential)
        await line.close()
    assert world.asked() == [(QUERY, credential) for credential in KEYS]


async def test_messages_that_nobody_has_taken_wait_in_order(world: World) -> None:
    line, far = await opened(world)
    said = [str(number) for number in range(1000)]
    telling = asyncio.create_task(far.say(*said))
    assert [await line.receive() for _ in said] == said
    await telling
    await line.close()


@pytest.mark.parametrize(
    ("status", "retry_after_s", "retryable"),
    [(401, None, False), (403, None, False), (400, None, False), (429, 7.0, True), (503, None, True)],
)
async def test_a_refusal_has_its_status_and_the_next_try_is_free(
    world: World, status: int, retry_after_s: float | None, retryable: bool
) -> None:
    world.refuse(status, retry_after_s)
    with pytest.raises(SpeechLost) as caught:
        await world.service.connect(QUERY, credential=None)
    refused = caught.value
    assert (refused.code, refused.retry_after_s, refused.retryable) == (status, retry_after_s, retryable)
    line, _ = await opened(world)
    await line.close()


@pytest.mark.parametrize("code", [1000, 1011, 1012, 4000, None])
async def test_what_came_before_the_end_comes_first_and_the_end_stays(world: World, code: int | None) -> None:
    line, far = await opened(world)
    await far.say("a", b"b")
    if code is None:  # a reset may overtake what was said
        assert [await line.receive(), await line.receive()] == ["a", b"b"]
    await far.drop(code)
    if code is not None:
        assert [await line.receive(), await line.receive()] == ["a", b"b"]
    for _ in range(2):
        end = await lost(line)
        assert (end.code, end.retryable, end.retry_after_s) == (code, True, None)
        assert end.__context__ is None
    assert (await asyncio.wait_for(send_until_lost(line, []), LATER)).code == code
    await line.close()


@pytest.mark.parametrize("code", [1011, None])
async def test_a_line_that_was_lost_leaves_nothing_to_the_collector(world: World, code: int | None) -> None:
    async def story() -> None:
        line, far = await opened(world)
        await far.drop(code)
        for act in (line.receive, partial(line.send, FRAME)):
            try:
                await act()
            except SpeechLost:
                continue
            raise AssertionError("it was not lost")
        await line.close()

    with collector_off() as left:
        await story()
        assert left() == []


async def test_closing_wakes_the_reader_and_ends_the_line(world: World) -> None:
    line, far = await opened(world)
    reading = asyncio.create_task(lost(line))
    await line.send(FRAME)
    assert await far.heard() == FRAME
    await line.close()
    assert (await reading).code is None
    await asyncio.wait_for(far.left(), LATER)
    assert (await lost(line)).code is None
    assert (await send_until_lost(line, [])).code is None


async def test_after_the_close_nothing_that_was_said_counts(world: World) -> None:
    line, far = await opened(world)
    await far.say("a", "b")
    assert await line.receive() == "a"
    await line.close()
    await lost(line)


async def test_closing_twice_or_at_once_or_after_the_end_is_as_good_as_once(world: World) -> None:
    line, far = await opened(world)
    await asyncio.gather(line.close(), line.close())
    await line.close()
    await asyncio.wait_for(far.left(), LATER)
    for code in (1011, None):
        line, far = await opened(world)
        await far.drop(code)
        await line.close()
        await line.close()


async def test_closing_does_not_wait_for_a_peer_that_takes_nothing(world: World) -> None:
    line, far = await opened(world)
    await far.stall()
    await asyncio.wait_for(line.close(), LATER / 2)
    await asyncio.wait_for(far.left(), LATER)


async def test_a_writer_that_waits_for_a_stalled_peer_is_woken_by_the_close(world: World) -> None:
    line, far = await opened(world)
    await far.stall()
    sent: list[bytes] = []
    writing = asyncio.create_task(send_until_lost(line, sent))
    await stuck(sent)
    assert not writing.done()
    await asyncio.wait_for(line.close(), LATER / 2)
    assert (await asyncio.wait_for(writing, LATER)).code is None


async def test_a_writer_that_waits_for_a_stalled_peer_is_woken_by_the_end(world: World) -> None:
    line, far = await opened(world)
    await far.stall()
    sent: list[bytes] = []
    writing = asyncio.create_task(send_until_lost(line, sent))
    await stuck(sent)
    await far.drop(None)
    assert (await asyncio.wait_for(writing, LATER)).code is None
    await line.close()


async def test_a_cancelled_receive_loses_no_message(world: World) -> None:
    line, far = await opened(world)
    reading = asyncio.ensure_future(line.receive())
    await asyncio.wait({reading}, timeout=0)
    reading.cancel()
    await asyncio.wait({reading})
    await far.say("a", "b")
    assert [await line.receive(), await line.receive()] == ["a", "b"]
    await line.close()


async def test_a_cancelled_try_leaves_nothing_and_the_next_one_opens(world: World) -> None:
    there = world.hold()
    trying = asyncio.ensure_future(world.service.connect(QUERY, credential=None))
    await asyncio.wait_for(there.wait(), LATER)
    trying.cancel()
    await asyncio.wait({trying})
    assert trying.cancelled()
    line, far = await opened(world)
    await line.send("x")
    assert await far.heard() == "x"
    await line.close()


# -- what only the one in memory can do --------------------------------------------------------------------------------


async def test_a_held_try_opens_when_it_may() -> None:
    hold = Hold()
    speech = MemorySpeech(hold)
    trying = asyncio.ensure_future(speech.connect([], credential="c"))
    await hold.reached.wait()
    assert (speech.lines, speech.dialled[0].credential) == ([], "c")
    hold.go.set()
    assert [await trying] == speech.lines
    assert speech.open == 1


async def test_a_stalled_provider_takes_what_waited_when_it_resumes() -> None:
    line = await MemorySpeech().connect([], credential=None)
    line.stall()
    sending = asyncio.ensure_future(line.send("late"))
    await asyncio.wait({sending}, timeout=0)
    assert (sending.done(), line.sent) == (False, [])
    line.resume()
    await sending
    assert line.sent == ["late"]


async def test_a_provider_may_answer_each_message_at_once() -> None:
    speech = MemorySpeech(answer=lambda line, message: line.say(f"heard {len(message)}"))
    line = await speech.connect([], credential=None)
    await line.send(FRAME)
    assert await line.receive() == f"heard {len(FRAME)}"


async def test_an_end_by_the_script_is_told_as_it_was_written() -> None:
    line = await MemorySpeech().connect([], credential=None)
    line.drop(1013, "try again later")
    line.drop(1000)
    assert str(await lost(line)) == "1013: try again later"
    assert not line.is_open
