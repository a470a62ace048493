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
        self._server = None
        if settings.monitor_port is not None:
            host, ready = settings.monitor_host, Readiness({"redis": lambda: self._said})
            registry = Metrics().registry
            self._server = telemetry.serve(
                host, settings.monitor_port, live=self._heart, ready=ready, registry=registry
            )
            _log.info("monitor.listening", host=host, port=self._server.port)

    def passed(self, says: str, *, ok: bool) -> None:
        """Note a pass, and what came of it."""
        self._heart.beat()
        self._said = Verdict(ok, says)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
