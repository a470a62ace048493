"""The metrics of a process: a fold over the events that it appends, and gauges that ask when they are scraped.

    driver --what it appended--> Life.saw --> counters, histograms        reception, pool, streams --> gauges

Names and labels are fixed: dashboards and alerts rely on them. No label has a value that a producer chooses, but for
the model and what `accounts` tells apart: the first few values of each. Counters count what this process appended:
after a crash the next one goes on where the journal ends, so a sum over processes has each event once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from api_contracts.runs import Event, RunQueued
from workers.ports import RunWatch, Waiting
from workers.telemetry.accounts import TENANT
from workers.telemetry.fold import Counters, Life


class Metrics:
    """`Onlooker` with a registry of its own: nothing is kept at module level."""

    def __init__(self, told_apart: Sequence[str] = (TENANT,)) -> None:
        """Tell apart the runs' tenants and labels that are named in `told_apart`."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._counters = Counters(self.registry, told_apart)
        self._purged = Counter("fw_purged", "What was taken out of SQL for its age", ["what"], registry=self.registry)
        self._refused = Counter(
            "fw_messages_refused", "Messages that were not taken, by reason", ["reason"], registry=self.registry
        )

    def life(self, queued: RunQueued, queued_at: float, model: str, journal: Sequence[Event]) -> RunWatch:
        """See the port."""
        return Life(self._counters, queued, queued_at, model, journal)

    def refused(self, reason: str) -> None:
        """Count a message that was not taken. `reason` is one of a few fixed words, never the message's own."""
        self._refused.labels(reason).inc()

    def purged(self, what: str, number: int) -> None:
        """Count what was taken out of SQL: `runs` or `batch_rows`."""
        self._purged.labels(what).inc(number)

    def gauge(self, name: str, says: str, value: Callable[[], float]) -> None:
        """Add a gauge that asks at each scrape, in the server's thread."""
        Gauge(name, says, registry=self.registry).set_function(value)

    def gauges(self, name: str, says: str, label: str, values: Mapping[str, Callable[[], float]]) -> None:
        """Add a gauge with a value for each value of its label."""
        gauge = Gauge(name, says, [label], registry=self.registry)
        for value, ask in values.items():
            gauge.labels(value).set_function(ask)

    def queues(self, waiting: Callable[[], Mapping[str, Waiting]]) -> None:
        """Add what waits in each queue. What is not known is not told: an alert sees that it is absent."""
        self.registry.register(_Queues(waiting))


class _Queues(Collector):
    def __init__(self, waiting: Callable[[], Mapping[str, Waiting]]) -> None:
        self._waiting = waiting

    def collect(self) -> Iterable[Any]:
        """Return both families, as prometheus_client asks for them."""
        number = GaugeMetricFamily("fw_queue_waiting", "Runs that wait for a worker", labels=["queue"])
        oldest = GaugeMetricFamily("fw_queue_oldest_seconds", "How long the oldest has waited", labels=["queue"])
        for queue, waiting in self._waiting().items():
            number.add_metric([queue], waiting.runs)
            oldest.add_metric([queue], waiting.oldest_s)
        return number, oldest
