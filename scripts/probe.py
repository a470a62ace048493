#!/usr/bin/env -S python3 -IS
"""Asks a process of this machine whether it is well, for HEALTHCHECK: `probe.py [PATH] [PORT]`, exit 0 for a 200.

PATH is /live, PORT is FW_MONITOR_PORT where they are not given. A bare socket and the standard library: it runs all
the time in every container, and the command line would cost half a second of CPU each time.
"""

import os
import socket
import sys

WAIT_S = 4.0


def main() -> int:
    """Return the exit code; what is wrong is printed, as `docker inspect` keeps it."""
    path, port = (*sys.argv[1:], *("/live", os.environ.get("FW_MONITOR_PORT", ""))[len(sys.argv) - 1 :])[:2]
    if not port.isdigit():
        return tell("no port: give one, or set FW_MONITOR_PORT")
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=WAIT_S) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = connection.makefile("rb").readline(256).decode("latin-1").strip()
    except OSError as exc:
        return tell(f"{path} on port {port}: {exc}")
    return tell(f"{path} on port {port}: {answer or 'closed without an answer'}", ok=answer.split()[1:2] == ["200"])


def tell(what: str, *, ok: bool = False) -> int:
    """Print a line; return the exit code."""
    sys.stdout.write(f"{what}\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
