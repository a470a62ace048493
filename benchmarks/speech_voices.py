"""What the sessions of P3 and P4 say, and what a provider answers: ten words of 0.4 s, 1.5 s of silence, over and over.

About 110 words a minute, with ends of speech. Each voice begins at another moment of the 5.5 s, so that the words,
finals and pauses of many sessions do not fall together. Pure.
"""

import json
from typing import Final

from workers.emulator.speech import SpeechConfig, SpeechStats, encode, silence
from workers.emulator.speech.conversation import Conversation, Send
from workers.emulator.speech.faults import SpeechFaults
from workers.emulator.speech.parameters import Parameters
from workers.emulator.speech.tone_decoder import ToneEngine

CHUNK_S: Final = 0.05
CHUNK_BYTES: Final = 1600
FRAME_CHUNKS: Final = 2
"""100 ms: the frame of the service (FEAT D3), and of the bare loop."""

VOICES: Final = 14
WORDS: Final = ("maple", "river", "panda", "lemon", "orchid", "piano", "tiger", "cloud", "honey", "velvet")
_APART: Final = 8
"""Chunks between the beginnings of two voices: one word, so that none begins in the middle of one."""

_PCM: Final = encode(WORDS, pause_s=0.165) + silence(1.5)
_CYCLE: Final = [_PCM[at : at + CHUNK_BYTES] for at in range(0, len(_PCM), CHUNK_BYTES)]
CYCLE_S: Final = len(_CYCLE) * CHUNK_S


def voice_of(session: int) -> int:
    """Return the voice of a session."""
    return session % VOICES


def chunk(voice: int, number: int) -> bytes:
    """Return the chunk of a voice, 50 ms."""
    return _CYCLE[(voice * _APART + number) % len(_CYCLE)]


def spoken(voice: int, count: int) -> list[str]:
    """Return the first words of a voice."""
    first = voice % len(WORDS) if voice < len(WORDS) else 0
    return [WORDS[(first + at) % len(WORDS)] for at in range(count)]


def final_after(said: list[list[str]]) -> dict[float, float]:
    """Return, for each word by the end of it (seconds), how long after the chunk with its last sound the provider has
    what makes it final: the engine's own delay, which no service can shorten."""
    after: dict[float, float] = {}
    for number, texts in enumerate(said, 1):
        for text in texts:
            for segment in json.loads(text).get("segments") or ():
                for word in segment["words"]:
                    written = -(-round(word["end"], 3) // CHUNK_S) * CHUNK_S
                    if word["is_final"]:
                        after.setdefault(round(word["end"], 3), number * FRAME_CHUNKS * CHUNK_S - written)
    return after


def answers(voice: int, seconds: float) -> list[list[str]]:
    """Return what the emulator says after each frame of a voice, as the texts that it sends."""
    asked = Parameters(granularities=frozenset({"word", "segment"}), text_timeout_s=1.0)
    heard = Conversation(SpeechConfig(engine="tones"), asked, SpeechFaults(), ToneEngine, SpeechStats())
    said = []
    for number in range(0, int(seconds / CHUNK_S), FRAME_CHUNKS):
        frame = b"".join(chunk(voice, number + each) for each in range(FRAME_CHUNKS))
        said.append([act.text for act in heard.audio(frame) if isinstance(act, Send)])
    return said
