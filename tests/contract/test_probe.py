"""The image's HEALTHCHECK against a real HTTP server."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

PROBE = Path(__file__).parents[2] / "scripts" / "probe.py"
STATUS = {"/live": 200, "/ready": 503}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(STATUS.get(self.path, 404))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def probe(*words: str, **environ: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-IS", PROBE, *words], env=environ, capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stdout


def test_a_process_that_lives_is_well(port: int) -> None:
    assert probe(FW_MONITOR_PORT=str(port)) == (0, f"/live on port {port}: HTTP/1.0 200 OK\n")


def test_another_path_and_port_can_be_asked_and_a_503_is_not_well(port: int) -> None:
    assert probe("/ready", str(port)) == (1, f"/ready on port {port}: HTTP/1.0 503 Service Unavailable\n")
    assert probe("/ready", FW_MONITOR_PORT=str(port))[0] == 1


def test_nobody_there_is_one_line_and_not_well(port: int) -> None:
    assert probe()[1] == "no port: give one, or set FW_MONITOR_PORT\n"
    code, said = probe("/live", "1")
    assert code == 1
    assert said.startswith("/live on port 1: ")
    assert said.count("\n") == 1
