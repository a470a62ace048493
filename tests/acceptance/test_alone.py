"""`up` and `demo` on a machine where nothing is given: they bring everything, and leave nothing behind."""

import os
import re
import signal
import subprocess
import sys
import uuid
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import pytest

from api_contracts.client import Client
from tests.acceptance.cluster import ROOT, clean_environment, say
from tests.acceptance.journal import is_right
from tests.waiting import eventually
from workers.cli.embedded import find_running

COMMAND = (sys.executable, "-m", "workers.cli")
_MARK = "ACCEPTANCE_MARK"


@dataclass
class Shell:
    """A shell with an empty home; it knows whatever was started in it, child of child, by a mark in the environment."""

    home: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        own = {"XDG_STATE_HOME": str(self.home), "TMPDIR": str(self.home), _MARK: self.mark, "COLUMNS": "160"}
        return clean_environment() | own

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                [*COMMAND, *arguments], env=self.env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
            )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )

    @property
    def output(self) -> Path:
        return self.home / "output"

    def says(self, text: str) -> bool:
        """Whether what was started last has printed this; fails if it has ended without."""
        said = self.output.read_text()
        assert text in said or self.started[-1].poll() is None, said[-3000:]
        return text in said

    def living(self) -> list[str]:
        """Return every process of this shell: by the mark, or by its folder, as Valkey overwrites its environment."""
        mark, found = f"{_MARK}={self.mark}".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                inside = (process / "cwd").readlink().is_relative_to(self.home)
                if inside or mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.wait()
    eventually(lambda: not made.living(), within=20)


def statuses(port: int, path: str, *users: str) -> list[int]:
    """Return how Flower answers each of these `user:password`."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    found = []
    for user in users:
        connection.request("GET", path, headers={"Authorization": f"Basic {b64encode(user.encode()).decode()}"})
        with connection.getresponse() as answer:
            answer.read()
            found.append(answer.status)
    connection.close()
    return found


@pytest.mark.requirement("OPS-01", "OPS-03")
def test_up_starts_everything_survives_a_killed_child_and_leaves_nothing(shell: Shell) -> None:
    up = shell.start("up")
    eventually(lambda: shell.output.read_text().count(" ready.") == 5 and shell.says("emulator listening"), within=60)
    asked = shell.run("chat", "hello")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("Hello! I am the emulator")
    flower = re.findall(r"Flower: http://(flower:\S+)@127\.0\.0\.1:(\d+)", shell.output.read_text())
    eventually(lambda: shell.says("flower.listening"), within=60)
    (user, port), *_ = flower
    assert statuses(int(port), "/api/tasks", "", user) == [401, 200]
    url = find_running(shell.home / "fireworks-workers" / "valkey")
    assert url is not None
    chat = int(re.findall(r"chat started, pid (\d+)", shell.output.read_text())[0])
    with Client(redis_url=url, lost_message_s=1) as client:
        os.kill(chat, signal.SIGKILL)
        run_id = client.chat.submit(say("hello"))
        assert is_right(list(client.follow(run_id, timeout_s=60)))
    assert shell.says("chat died of SIGKILL")
    up.send_signal(signal.SIGTERM)
    assert up.wait(timeout=120) == 0, shell.output.read_text()[-3000:]
    assert shell.living() == []
    assert "Traceback" not in shell.output.read_text()


@pytest.mark.requirement("OPS-01")
def test_up_that_is_killed_takes_every_process_with_it(shell: Shell) -> None:
    up = shell.start("up")
    eventually(lambda: shell.says("chat started"), within=60)
    assert len(shell.living()) >= 3
    assert any("valkey" in process for process in shell.living())
    up.kill()
    up.wait()
    eventually(lambda: not shell.living(), within=20)


@pytest.mark.requirement("OPS-01")
def test_the_demo_tells_its_story_and_every_check_holds(shell: Shell) -> None:
    told = shell.run("demo")
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr
    assert "every check held" in told.stdout
    assert "FALSE" not in told.stdout
    assert told.stdout.count("true") >= 10
    assert "SIGKILL to chat-" in told.stdout
    assert "\x1b[" not in told.stdout
    assert "Traceback" not in told.stdout + told.stderr
    assert shell.living() == []
    assert list(shell.home.glob("fireworks-demo-*")) == []


@pytest.mark.requirement("OPS-01")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT], ids=lambda signum: signum.name)
def test_a_demo_that_is_ended_in_the_middle_leaves_no_process(shell: Shell, signum: signal.Signals) -> None:
    demo = shell.start("demo")
    eventually(lambda: shell.says("takes the run"), within=60)
    assert len(shell.living()) >= 6
    demo.send_signal(signum)
    assert demo.wait(timeout=120) == (130 if signum is signal.SIGINT else -signum)
    eventually(lambda: not shell.living(), within=20)
