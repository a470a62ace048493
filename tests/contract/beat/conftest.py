"""Beats, and what they sent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.acceptance.cluster import CELERY, ROOT, Process, clean_environment
from tests.waiting import eventually
from workers.cli.deathsig import spawn
from workers.cli.embedded import EmbeddedValkey

QUEUE = "shop"
TICKING = f'[[entry]]\nname = "tidy"\nevery_s = 1\ntask = "shop.tidy"\nqueue = "{QUEUE}"\n'

WARNINGS = "error,ignore::ResourceWarning"
"""SIGTERM in the middle of a tick leaves that tick's connection to the end of the process, which is there."""


class Beats:
    """Starts beats over one file of entries and one Redis."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.file = folder / "beat.toml"
        self.file.write_text(TICKING)
        self.processes: list[Process] = []
        self.redis = Redis.from_url(url, decode_responses=True)
        self.broker = self.redis

    def start(self, name: str, **env: str) -> Process:
        """Start one; every other warning is an error in it."""
        path = self.folder / f"{name}.log"
        given = {"FW_REDIS_URL": self.url, "FW_BEAT_FILE": str(self.file), "FW_STATE_DIR": str(self.folder)}
        environment = clean_environment() | given | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": WARNINGS} | env
        with path.open("wb") as log:
            argv = (*CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO")
            self.processes.append(Process(name, spawn(argv, output=log, env=environment, cwd=ROOT), path))
        return self.processes[-1]

    def both(self) -> tuple[Process, Process]:
        """Start two; return the one that ticks, and the one that waits."""
        first = self.start("one").ready("beat.leads")
        second = self.start("two").ready("beat.waiting")
        return first, second

    def messages(self) -> list[dict[str, Any]]:
        """Return what was sent to the queue of the other app, oldest first."""
        raw: Any = self.broker.lrange(QUEUE, 0, -1)
        return [json.loads(each) for each in reversed(raw)]

    def sent(self) -> list[str]:
        """Return the task ids of the same."""
        return [message["headers"]["id"] for message in self.messages()]

    def more(self, count: int = 2, within: float = 20.0) -> list[str]:
        """Wait for so many more ticks; return all."""
        begun = len(self.sent())
        return eventually(lambda: len(ids := self.sent()) >= begun + count and ids, within=within)

    def close(self) -> None:
        for process in self.processes:
            if process.lives:
                process.go_on()
                process.kill()
            assert "Traceback" not in process.log(), process.log()[-3000:]
            assert "Warning" not in process.log()
            assert str(urlsplit(self.url).password) not in process.log()
        self.redis.close()


@pytest.fixture
def beats(tmp_path: Path, own_valkey: EmbeddedValkey) -> Iterator[Beats]:
    made = Beats(tmp_path, own_valkey.url)
    yield made
    made.close()
