"""What beat tells of itself over HTTP: that it makes its passes, and whether it ticks, waits, or cannot."""

from typing import Final

import structlog

from workers import telemetry
from workers.settings import Settings
from workers.telemetry import Heart, Metrics, Readiness, Verdict

_log = structlog.get_logger(__name__)

SILENT_S: Final = 60.0
"""Passes come every 5 s at least; Redis and the broker may keep one waiting for some seconds each."""


class BeatMonitor:
    """`/live`: passes are made. `/ready`: the last one found Redis, be it that this beat ticks or that another does."""

    def __init__(self, settings: Settings) -> None:
        """Listen where the settings say, if they do. Raises `Misconfigured` when it cannot."""
        self._heart = Heart(SILENT_S)
        self._said = Verdict(False, "no pass was made yet")
        self._host, port = settings.monitor_host, settings.monitor_port
        self._server = None
        self._announced = False
        if port is not None:
            ready = Readiness({"redis": lambda: self._said})
            self._server = telemetry.serve(self._host, port, live=self._heart, ready=ready, registry=Metrics().registry)

    def passed(self, says: str, *, ok: bool) -> None:
        """Note a pass, and what came of it. With the first it is told where to ask: logs are set up by then."""
        if self._server is not None and not self._announced:
            self._announced = True
            _log.info("monitor.listening", host=self._host, port=self._server.port)
        self._heart.beat()
        self._said = Verdict(ok, says)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
