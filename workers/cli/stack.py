"""The environment of the processes: given servers, or the embedded ones. Nothing is found by probing."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.cli.embedded import EmbeddedValkey, find_running
from workers.cli.procfile import with_own_scripts
from workers.errors import Misconfigured
from workers.settings import state_folder

EMULATOR_KEY = "fw_emulator"
"""What the stand-in takes for a key; no secret."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What the processes are given. `own` names the parts that we bring ourselves."""

    env: dict[str, str]
    own: tuple[str, ...]

    @property
    def emulated(self) -> bool:
        """Whether the provider is the stand-in."""
        return "emulator" in self.own


@contextmanager
def stack(folder: Path, *, emulate: bool, given: Mapping[str, str] = os.environ) -> Iterator[Stack]:
    """Provide Redis, SQL and a provider for the time of the block; what was given is used, the rest is embedded."""
    env, own = with_own_scripts(given), []
    env.setdefault("FW_STATE_DIR", str(folder))
    # Files are read below the folder that the operator stands in, as with any command. Not below the home folder: every
    # user of this machine can reach the embedded Redis, and keys lie there.
    env.setdefault("FW_BATCH_FOLDER", str(Path.cwd()))
    valkey = None
    if not env.get("FW_REDIS_URL"):
        valkey = EmbeddedValkey.start(folder / "valkey")
        env["FW_REDIS_URL"] = valkey.url
        own.append("valkey")
    if not env.get("FW_DATABASE_URL"):
        env["FW_DATABASE_URL"] = f"sqlite:///{folder / 'runs.sqlite3'}"
        own.append("sqlite")
    if emulate:
        port = free_port()
        env |= {
            "FW_EMULATOR_PORT": str(port),
            "FIREWORKS_API_KEY": EMULATOR_KEY,
            "FIREWORKS_BASE_URL": f"http://127.0.0.1:{port}/inference/v1",
            "FIREWORKS_AUDIO_STREAMING_URL": f"ws://127.0.0.1:{port}/v1",
            "FIREWORKS_AUDIO_URL": f"http://127.0.0.1:{port}/v1",
            "FIREWORKS_AUDIO_TURBO_URL": f"http://127.0.0.1:{port}/v1",
            "FIREWORKS_API_URL": f"http://127.0.0.1:{port}",
            "FIREWORKS_ACCOUNT_ID": "emulated",
        }
        env.setdefault("FW_POLL_S", "1")  # a minute of its jobs takes a second
        own.append("emulator")
    try:
        yield Stack(env, tuple(own))
    finally:
        if valkey:
            valkey.stop()


def running_redis() -> str:
    """Return the Redis of the running service: `FW_REDIS_URL`, else the embedded server that `up` started here."""
    if url := os.environ.get("FW_REDIS_URL"):
        return url
    if url := find_running(state_folder() / "valkey"):
        return url
    raise Misconfigured("no service is running here: start `fireworks-workers up`, or set FW_REDIS_URL")


def running_database() -> str:
    """Return the SQL of the running service."""
    return os.environ.get("FW_DATABASE_URL") or f"sqlite:///{state_folder() / 'runs.sqlite3'}"


def is_free(port: int) -> bool:
    """Return whether a port of loopback can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
