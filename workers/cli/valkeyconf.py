"""The configuration of the embedded Valkey, each setting with its reason, and the port it gets.

It must start nothing.
"""

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

# Below the ports that Linux hands to outgoing connections (32768 and up). A client that retries while the server is
# down could otherwise be given that very port as its own, connect to itself, and keep the server from coming back.
PORTS = range(20_000, 30_000)


def free_ports(count: int) -> Iterator[int]:
    """Up to `count` ports of 127.0.0.1 that nobody listens on just now; the server's own bind has the last word."""
    found = 0
    for port in random.sample(PORTS, k=len(PORTS)):
        if found == count:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found += 1
        yield port


def write_config(path: Path, *, folder: Path, port: int, password: str) -> None:
    """Writes the file, mode 0600. The password is here and not in the command line, which every user may read."""
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": password,
        "dir": _quoted(str(folder)),
        "daemonize": "no",  # it has to stay our child
        "logfile": '""',  # to stdout, where a complaint about this very file goes as well
        # The journals of the runs: what was acknowledged survives the server; the last second may go with the host.
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',  # the append-only file is enough
        "maxmemory-policy": "noeviction",  # a full server must refuse; a run that vanished cannot be explained
    }
    write_private(path, "".join(f"{name} {value}\n" for name, value in settings.items()))


def write_private(path: Path, text: str) -> None:
    """Puts the file there whole, readable by its owner only."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    fresh.replace(path)


def _quoted(value: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"}
    return '"' + "".join(escapes.get(character, character) for character in value) + '"'
