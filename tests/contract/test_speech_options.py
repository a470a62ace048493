"""Every option on a real socket: byte by byte, and as the stand-in reads it, which shares no code with us."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websocket_server

from api_contracts.stt import SttOptions, Vad
from workers.adapters.fireworks.speech import FireworksSpeech
from workers.core.stt.query import query_of
from workers.emulator.speech.parameters import Parameters, read_parameters

EVERYTHING = SttOptions(
    language="zh-hant", prompt="a b&c=ü", temperature=0.0, text_timeout_s=2.5, model="m", max_retries=3,
    vad=Vad(skip=False, threshold=0.15, extra={"min_silence": True}),
)  # fmt: skip
QUERIES: Mapping[str, tuple[str, SttOptions, Parameters]] = {
    "unset": ("response_format=verbose_json&text_timeout_seconds=1.0", SttOptions(), Parameters(text_timeout_s=1.0)),
    "set": (
        ("response_format=verbose_json&language=zh-hant&prompt=a+b%26c%3D%C3%BC&temperature=0.0&model=m&skip_vad=false"
        "&vad_kwargs=%7B%22min_silence%22%3Atrue%2C%22threshold%22%3A0.15%7D&text_timeout_seconds=2.5&max_retries=3"),
        EVERYTHING,
        Parameters(
            language="zh-hant", prompt="a b&c=ü", model="m", vad={"min_silence": True, "threshold": 0.15},
            text_timeout_s=2.5, max_retries=3,
        ),
    ),
}  # fmt: skip


@pytest.mark.requirement("STT-02")
@pytest.mark.parametrize("given", QUERIES)
async def test_every_option_is_on_the_wire_as_documented_and_what_is_unset_is_absent(given: str) -> None:
    """WIRE 2.3. All but the text timeout may be unset: the provider's default for it has moved (WIRE 7.24)."""
    expected, options, read = QUERIES[given]
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def note(socket: ServerConnection) -> None:
        assert socket.request is not None
        asked.put_nowait(socket.request.path)

    async with websocket_server(note, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        line = await FireworksSpeech(f"ws://127.0.0.1:{port}/v1", lambda _: "fw_key").connect(
            query_of(options), credential=None
        )
        query = urlsplit(await asked.get()).query
        await line.close()
    assert query == f"{expected}&timestamp_granularities=word&timestamp_granularities=segment"
    assert read_parameters(parse_qsl(query)) == replace(read, granularities=frozenset({"word", "segment"}))
