"""Official clients against the emulator: unchanged, but for the address."""

import asyncio
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clients.environments import FIREWORKS, LIVEKIT, OPENAI, PIPECAT, PROGRAMS, Environment
from tests.clients.record import Record
from workers.emulator import EmulatorConfig, Running, serve
from workers.emulator.speech import VOCABULARY, encode, silence, write_wav


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    running = await serve(EmulatorConfig(pace=0))
    yield running
    await running.close()


def played(environment: Environment, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FW_", "FIREWORKS_", "OPENAI_"))}
    return subprocess.run(
        [environment.python, PROGRAMS / program, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.requirement("EMU-05")
@pytest.mark.parametrize(
    ("environment", "program"),
    [
        (OPENAI, "openai_chat.py"),
        (FIREWORKS, "fireworks_chat.py"),
        (FIREWORKS, "fireworks_batch.py"),
        (PIPECAT, "pipecat_chat.py"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
async def test_a_client_that_we_did_not_write_works_against_the_emulator(
    emulator: Running, environment: Environment, program: str
) -> None:
    await works(environment, program, emulator.url)


@pytest.mark.requirement("EMU-05")
async def test_livekits_plugin_hears_each_spoken_word_once(emulator: Running, tmp_path: Path) -> None:
    words = random.SystemRandom().choices(VOCABULARY, k=20)
    spoken = tmp_path / "spoken.wav"
    spoken.write_bytes(write_wav(encode(words) + silence(0.5)))
    await works(LIVEKIT, "livekit_speech.py", emulator.url, str(spoken), " ".join(words))


async def works(environment: Environment, program: str, *arguments: str) -> None:
    environment.ready()
    done = await asyncio.to_thread(played, environment, program, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["version"] == environment.version(told["package"])
    Record.known().note(told["package"], told["version"], "the emulator", *told["passed"])
