"""The gateway of examples/browser as its own process, and a tab that is played by a websocket client."""

import json
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.acceptance.cluster import Cluster, Process
from workers.cli.stack import free_port

PIECE = 3200
"""Bytes of a tenth of a second."""


@dataclass
class Gateway:
    """A gateway that is up."""

    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def launch_gateway(cluster: Cluster) -> Gateway:
    """Start one; `process.ready("Running on")` waits for it."""
    port = free_port()
    return Gateway(cluster.start("gateway", sys.executable, "-m", "examples.browser.app", str(port)), port)


def start_gateway(cluster: Cluster) -> Gateway:
    started = launch_gateway(cluster)
    started.process.ready("Running on")
    return started


@dataclass
class Tab:
    """What the page does: one run, over one line after the other. `told` are the run's events, over all of them."""

    gateway: Gateway
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    at: int = 0
    taken: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)
    line: ClientConnection = field(init=False)
    _lines: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Tab":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def join(self, **headers: str) -> "Tab":
        """Open a line, for the first time or after one that broke; go on where the gateway says."""
        asked = {"run": self.run_id, "rate": 16_000, "at": self.taken, "after": len(self.told)}
        url = f"ws://127.0.0.1:{self.gateway.port}/live?{urlencode(asked)}"
        opened = connect(url, additional_headers=headers, compression=None, proxy=None, close_timeout=2)
        self.line = self._lines.enter_context(opened)
        self.at = self.hear("ready")["at"]
        return self

    def say(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), PIECE):
            self.line.send(pcm[start : start + PIECE])

    def hear(self, kind: str) -> dict[str, Any]:
        """Read up to a message of this type; fails if the line ends before."""
        while True:
            said: dict[str, Any] = json.loads(self.line.recv(timeout=120))
            if "seq" in said:
                self.told.append(said)
            self.taken = said["at"] if said["type"] == "taken" else self.taken
            if said["type"] == kind:
                return said

    def hear_taken(self, at: int) -> None:
        """Read until so many bytes are in Redis."""
        while self.taken < at:
            self.hear("taken")

    def rest(self) -> Iterator[dict[str, Any]]:
        """Read to the line's end."""
        with suppress(ConnectionClosedError):  # `line.close_code` says how it ended
            for text in self.line:
                said = json.loads(text)
                if "seq" in said:
                    self.told.append(said)
                yield said

    def lose(self) -> None:
        """Break the line without a word, as a network does."""
        self.line.socket.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """Close the line as a browser does when its tab is closed."""
        self.line.close(1001)
