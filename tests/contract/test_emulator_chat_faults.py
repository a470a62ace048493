"""The stand-in's faults as bytes on a socket: those that only a connection can show."""

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.unit.emulator.making import NEW, chat
from workers.emulator import EmulatorConfig, Reply, Rule, Running, Scene, serve

pytestmark = pytest.mark.requirement("EMU-04")

TEXT = "Ångström's café, 東京, and a train."


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    """A server that always says the same."""
    scene = Scene(rules=(Rule(reply=Reply(text=TEXT)),))
    running = await serve(EmulatorConfig(scene=scene))
    yield running
    await running.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A bare client."""
    async with aiohttp.ClientSession(headers={"authorization": "Bearer fw_x"}) as session:
        yield session


def _ask(
    running: Running, http: aiohttp.ClientSession, faults: str, **fields: object
) -> "aiohttp.client._RequestContextManager":
    url = f"{running.inference_url}/chat/completions"
    return http.post(url, json=chat(**fields), headers={"x-emulator-fault": faults})


async def _read_until_cut(response: aiohttp.ClientResponse) -> bytes:
    """What arrives before the connection breaks, as it must."""
    read = bytearray()

    async def all_of_it() -> None:
        async for part in response.content.iter_any():
            read.extend(part)

    with pytest.raises(aiohttp.ClientPayloadError):
        await all_of_it()
    return bytes(read)


async def test_a_stream_can_be_cut_after_some_tokens(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "cut_after=3", stream=True) as response:
        read = await _read_until_cut(response)
    assert read.count(b'"content"') == 3
    assert b"[DONE]" not in read
    assert emulator.stats.completed == 1


async def test_a_plain_answer_can_be_cut(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "cut_after=3") as response:
        assert response.status == 200
        read = await _read_until_cut(response)
    assert 0 < len(read) < int(response.headers["content-length"])


async def test_a_plain_body_can_be_half_of_its_json(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "json_body_truncated") as response:
        text = await response.text()
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


async def test_a_plain_body_can_lack_its_choices(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "empty_choices") as response:
        assert (await response.json())["choices"] == []


async def test_a_broken_generation_without_a_stream_is_a_500(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "stream_error_after=1") as response:
        assert response.status == 500


async def test_writes_end_inside_characters(emulator: Running, http: aiohttp.ClientSession) -> None:
    parts = []
    async with _ask(emulator, http, "split_utf8", stream=True) as response:
        async for part, _ in response.content.iter_chunks():
            parts.append(part)
    assert sum(1 for part in parts if part and part[0] & 0xC0 == 0x80) == sum(1 for letter in TEXT if ord(letter) > 127)
    events = [json.loads(line[6:]) for line in b"".join(parts).decode().splitlines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == TEXT


async def test_every_line_of_a_stream_can_end_in_crlf(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "crlf,comments,event_ping", stream=True) as response:
        data = await response.read()
    assert data.count(b"\n") == data.count(b"\r\n") > 20
    assert b"event: ping\r\n" in data


async def test_an_error_event_ends_a_stream_that_began_well(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "stream_error_event_after=2", stream=True, model=NEW) as response:
        assert response.status == 200
        text = (await response.text()).rstrip("\n").splitlines()
    assert text[-2] == "event: error"
    assert json.loads(text[-1].removeprefix("data: "))["error"]["code"] == "INTERNAL"


async def test_a_status_fault_comes_before_the_keys_and_the_body(emulator: Running) -> None:
    url = f"{emulator.inference_url}/chat/completions"
    async with aiohttp.ClientSession() as http:
        async with http.post(url, data=b"{", headers={"x-emulator-fault": "502"}) as response:
            assert (response.status, response.content_type) == (502, "text/html")
        async with http.get(f"{emulator.url}/v1/models", headers={"x-emulator-fault": "error_shape=E4"}) as response:
            assert (response.status, (await response.json())["error"]) == (429, "A fault")


async def test_a_misspelt_fault_is_refused_by_name(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "exploding") as response:
        assert response.status == 400
        assert "unknown emulator fault: exploding" in await response.text()


async def test_limits_are_used_up_on_a_429(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "429=7") as response:
        assert response.headers["retry-after"] == "7"
        assert response.headers["x-ratelimit-remaining-requests"] == "0"
        assert response.headers["x-ratelimit-over-limit"] == "no"


async def test_slow_first_token_and_pace_only_delay(emulator: Running, http: aiohttp.ClientSession) -> None:
    async with _ask(emulator, http, "slow_first_token=0.01,pace=500", stream=True) as response:
        assert "[DONE]" in await response.text()
    async with _ask(emulator, http, "slow_first_token=0.01,pace=500") as response:
        assert (await response.json())["choices"][0]["message"]["content"] == TEXT
        assert float(response.headers["fireworks-server-time-to-first-token"]) == pytest.approx(0.012)
