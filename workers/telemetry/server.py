"""HTTP for probes and scrapes: `/live`, `/ready`, `/metrics`, in threads of its own.

It answers while the event loop hangs, and serves processes that have none. No client can keep it from the others: a
connection ends after `_LONGEST_S`, and the oldest makes room for one too many.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from workers.errors import Misconfigured
from workers.telemetry.health import Check, Readiness, Verdict

_MOST_CONNECTIONS: Final = 32
_LONGEST_S: Final = 10.0
_LOOK_S: Final = 0.5
_JSON: Final = "application/json"

Reply = tuple[HTTPStatus, str, bytes]


class Monitor:
    """The running server."""

    def __init__(self, server: "_Server") -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(_LOOK_S,), name="fw-monitor", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that was taken."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening. What is under way ends by itself."""
        self._server.shutdown()
        self._server.server_close()


def serve(host: str, port: int, *, live: Check, ready: Readiness, registry: CollectorRegistry) -> Monitor:
    """Listen and answer until closed. Port 0 takes a free one. Raises `Misconfigured` when it cannot listen there."""
    pages: dict[str, Callable[[str], Reply]] = {
        "/live": lambda _: _told({"live": live()}),
        "/ready": lambda _: _told(ready.look()),
        "/metrics": lambda accept: _metrics(registry, accept),
    }
    try:
        return Monitor(_Server(host, port, pages))
    except OSError as exc:
        raise Misconfigured(
            f"FW_MONITOR_PORT: cannot listen on {host}:{port} ({exc.strerror}); "
            "give each process on a machine a port of its own, or 0 for a free one"
        ) from None


def _told(found: Mapping[str, Verdict]) -> Reply:
    ok = all(verdict.ok for verdict in found.values())
    said = {"ok": ok, "checks": {name: {"ok": v.ok, "says": v.says, "ms": v.ms} for name, v in found.items()}}
    return HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, _JSON, json.dumps(said).encode() + b"\n"


def _metrics(registry: CollectorRegistry, accept: str) -> Reply:
    encode, content_type = choose_encoder(accept)
    return HTTPStatus.OK, content_type, encode(registry)


class _Server(HTTPServer):
    """A thread for each connection, a bounded number of them, each for a bounded time."""

    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, host: str, port: int, pages: Mapping[str, Callable[[str], Reply]]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages = pages
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, and look up no names as the standard library does: a resolver that hangs would hang the start."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; with too many under way, hang up on the one that has been there longest."""
        with self._lock:
            if len(self._open) >= _MOST_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = time.monotonic()
        threading.Thread(target=self._answer, args=(request, client_address), name="fw-probe", daemon=True).start()

    def service_actions(self) -> None:
        """Hang up on whoever takes too long; called twice a second."""
        late = time.monotonic() - _LONGEST_S
        with self._lock:
            for connection in [one for one, since in self._open.items() if since < late]:
                del self._open[connection]
                _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the client broke its connection, or we did."""

    def _answer(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            self.handle_error(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)  # its thread wakes and closes it
    except OSError:
        pass  # it is gone already


class _Handler(BaseHTTPRequestHandler):
    """HTTP 1.0: one request for each connection."""

    server_version = "fireworks-workers"
    sys_version = ""
    timeout = _LONGEST_S

    def do_GET(self) -> None:
        """Answer one of the pages."""
        pages = cast("_Server", self.server).pages
        page = pages.get(self.path.partition("?")[0])
        if page is None:
            self._reply(HTTPStatus.NOT_FOUND, "text/plain", f"there are {', '.join(pages)}\n".encode())
        else:
            self._reply(*page(self.headers.get("Accept", "")))

    do_HEAD = do_GET  # noqa: N815 - the same

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Log nothing: probes come every few seconds, and a request line is a stranger's text."""

    def _reply(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
