"""A TCP proxy before a broker that can stop answering without hanging up, as one under a memory alarm does."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class DeafProxy:
    """Passes bytes both ways until `deaf` is set; then it takes what it is told and passes nothing on."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.deaf = threading.Event()

    @property
    def url(self) -> str:
        credentials = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{credentials}@127.0.0.1:{self._door.getsockname()[1]}"))

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        for end in (self._door, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _serve(self) -> None:
        with suppress(OSError):  # the door was closed
            while True:
                here = self._door.accept()[0]
                there = socket.create_connection((str(self._target.hostname), self._target.port or 5672))
                self._ends += [here, there]
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # one of the two hung up
            while data := source.recv(65_536):
                if not self.deaf.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
