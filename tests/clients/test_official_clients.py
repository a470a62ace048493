"""Official clients against the emulator: unchanged, but for the address."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator

import pytest

from tests.clients.environments import FIREWORKS, OPENAI, PIPECAT, PROGRAMS, Environment
from tests.clients.record import Record
from workers.emulator import EmulatorConfig, Running, serve


@pytest.fixture
async def emulator() -> AsyncIterator[Running]:
    running = await serve(EmulatorConfig(pace=0))
    yield running
    await running.close()


def played(environment: Environment, program: str, url: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FW_", "FIREWORKS_", "OPENAI_"))}
    return subprocess.run(
        [environment.python, PROGRAMS / program, url], env=env, capture_output=True, text=True, timeout=300, check=False
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
    environment.ready()
    done = await asyncio.to_thread(played, environment, program, emulator.url)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["version"] == environment.version(told["package"])
    Record.known().note(told["package"], told["version"], "the emulator", *told["passed"])
