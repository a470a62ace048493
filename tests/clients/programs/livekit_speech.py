"""LiveKit's own Fireworks plugin, unchanged but for its base URL: `livekit_speech.py URL FILE.wav WORDS`."""

import asyncio
import sys
import wave

import aiohttp
from livekit import rtc
from livekit.agents.stt import SpeechEvent, SpeechEventType
from livekit.plugins import fireworksai
from saying import passed

FRAME = 800
"""Samples: 50 ms, as a microphone has them."""


def plugin(http: aiohttp.ClientSession, **options: object) -> fireworksai.STT:
    base = f"{sys.argv[1].replace('http', 'ws', 1)}/v1"
    return fireworksai.STT(base_url=base, api_key="fw_anything", http_session=http, **options)


def frames() -> list[rtc.AudioFrame]:
    with wave.open(sys.argv[2]) as file:
        pieces = iter(lambda: file.readframes(FRAME), b"")
        return [rtc.AudioFrame(piece, 16_000, 1, len(piece) // 2) for piece in pieces]


async def heard(stt: fireworksai.STT) -> list[SpeechEvent]:
    stream = stt.stream()
    for frame in frames():
        stream.push_frame(frame)
    stream.end_input()
    events = [event async for event in stream]
    await stream.aclose()
    return events


async def main() -> None:
    async with aiohttp.ClientSession() as http:
        events = await heard(plugin(http, language="en", prompt="numbers"))
        finals = [each.alternatives[0].text for each in events if each.type == SpeechEventType.FINAL_TRANSCRIPT]
        interims = [each for each in events if each.type == SpeechEventType.INTERIM_TRANSCRIPT]
        assert interims, "it hears before the end"
        assert " ".join(finals).split() == sys.argv[3].split(), finals
        # Not `vad_kwargs`: of that the plugin sends the names without their values (WIRE, trap 15), which is refused.
        options = {"skip_vad": True, "text_timeout_seconds": 2.0, "temperature": 0.0}
        again = await heard(plugin(http, language="en", **options))
        assert [each.alternatives[0].text for each in again if each.type == SpeechEventType.FINAL_TRANSCRIPT]
    passed("livekit-plugins-fireworksai", "interims", "every word final once", "options")


asyncio.run(main())
