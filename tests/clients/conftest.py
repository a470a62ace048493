"""The gate, the emulator, and llama.cpp as a process."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.combination import Combination
from tests.clients.environments import LLAMA, PROGRAMS
from tests.servers import embedded_valkey
from tests.waiting import eventually
from workers.cli.deathsig import spawn

GATE = "FW_TEST_CLIENTS"


@pytest.fixture(scope="session", autouse=True)
def _opted_in() -> None:
    if not os.environ.get(GATE):
        pytest.skip(f"{GATE} is not set: `make clients` plays these, they install half a gigabyte")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of llama.cpp's server."""
    environment = LLAMA.ready()
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = tmp_path_factory.mktemp("llama") / "log"
    with path.open("wb") as log:
        served = spawn(
            (str(environment.python), str(PROGRAMS / "llama_server.py"), str(port)), output=log, env=dict(os.environ)
        )
    try:
        eventually(lambda: b"is listening" in path.read_bytes() or served.poll() is not None, within=60)
        assert served.poll() is None, path.read_text(errors="replace")[-2000:]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        served.kill()
        served.wait()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, llama: str) -> Iterator[Cluster]:
    """The service with a worker whose provider is llama.cpp."""
    folder = tmp_path_factory.mktemp("cluster")
    with embedded_valkey(folder / "valkey") as valkey:
        made = Cluster(folder, valkey, Combination("redis", "sqlite", lambda: ""))
        try:
            made.worker("chat-1", FIREWORKS_BASE_URL=llama).ready()
            yield made
        finally:
            made.close()
