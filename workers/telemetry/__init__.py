"""What a process tells of itself: logs, metrics, and whether it lives and is ready.

Owns formats and servers. It must not know Celery, Redis or SQL: checks and gauges are functions that it is given.
"""

from workers.telemetry.health import Check, Heart, LoopAnswers, Readiness, Verdict, on_loop
from workers.telemetry.logs import configure
from workers.telemetry.metrics import Metrics
from workers.telemetry.secrets import Secrets, known_secrets
from workers.telemetry.server import Monitor, serve
from workers.telemetry.trace import trace_id_of
from workers.telemetry.worst import WorstLately

__all__ = [
    "Check",
    "Heart",
    "LoopAnswers",
    "Metrics",
    "Monitor",
    "Readiness",
    "Secrets",
    "Verdict",
    "WorstLately",
    "configure",
    "known_secrets",
    "on_loop",
    "serve",
    "trace_id_of",
]
