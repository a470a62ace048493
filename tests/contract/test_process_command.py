"""`process NAME` in a container: what SIGTERM reaches is the Celery worker itself, and it drains."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import eventually
from workers.cli.embedded import EmbeddedValkey

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environ(own_valkey: EmbeddedValkey, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "FW_REDIS_URL": own_valkey.url, "FW_STATE_DIR": str(tmp_path), "FW_DRAIN_S": "5"}


@pytest.fixture
def control(environ: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "workers.cli", "process", "control"]
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=log, stderr=log)
        yield started
        if started.poll() is None:
            started.kill()
        started.wait()


def command_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


@pytest.mark.requirement("OPS-02")
def test_sigterm_to_the_container_drains_the_worker(control: subprocess.Popen[bytes], tmp_path: Path) -> None:
    eventually(lambda: any(word.endswith("celery") for word in command_of(control.pid)), within=60)
    assert command_of(control.pid)[2:6] == ["-A", "workers.app", "worker", "-n"]
    eventually(lambda: "ready" in (tmp_path / "log").read_text(), within=60)
    children = Path(f"/proc/{control.pid}/task/{control.pid}/children").read_text()
    assert children == ""  # no shell, no supervisor, nobody who could eat a signal
    control.send_signal(signal.SIGTERM)
    assert control.wait(timeout=120) == 0
    assert "worker.draining" in (tmp_path / "log").read_text()


def test_an_unknown_process_exits_2_and_names_those_that_are_there(environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "workers.cli", "process", "caht"]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no process 'caht'; it has chat, chat-bg, stt, batch, control," in done.stderr
