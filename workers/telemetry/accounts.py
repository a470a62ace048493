"""What runs came to, by tenant and by those of their labels that the operator has named (`FW_METRIC_LABELS`).

An idempotency key is a label like any other, named `idempotency_key`: no metric has it unless the operator names it,
for each run has its own, and only the first 50 are told apart. What is shown is the id made of it, as in the logs.
"""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from api_contracts.keys import derived_run_id
from api_contracts.runs import RunQueued
from workers.telemetry.capped import Capped

TENANT: Final = "tenant"
KEY: Final = "idempotency_key"
_MOST_VALUES: Final = 50

Account = Sequence[tuple[str, str]]
"""A run's label and value, for each label that is told apart."""


class Accounts:
    """Counters by label and value. A producer chooses values, so of each label only the first 50 are told apart."""

    def __init__(self, registry: CollectorRegistry, labels: Sequence[str]) -> None:
        def counter(name: str, says: str, *more: str) -> Counter:
            return Counter(name, says, ("label", "value", *more), registry=registry)

        self._values = {label: Capped(_MOST_VALUES) for label in labels}
        self._runs = counter("fw_runs_by_label", "Runs that ended here, by label", "kind", "status")
        self._tokens = counter("fw_tokens_by_label", "Tokens that the provider counted, by label", "kind")
        self._spend = counter("fw_chat_cost_by_label", "What answers cost, by label")
        self._audio = counter("fw_stt_audio_seconds_by_label", "Seconds of audio, by label and meter", "meter")

    def of(self, queued: RunQueued) -> Account:
        """Return what a run counts for. `tenant` is its tenant, whatever label it has of that name; so is the key."""
        given = queued.labels | {TENANT: queued.tenant}
        if queued.idempotency_key is not None:
            given |= {KEY: derived_run_id(queued.tenant, queued.idempotency_key)}
        return [(label, cap(given[label])) for label, cap in self._values.items() if label in given]

    def ended(self, account: Account, kind: str, status: str) -> None:
        """Count the end of a run."""
        for label, value in account:
            self._runs.labels(label, value, kind, status).inc()

    def tokens(self, account: Account, kind: str, number: int) -> None:
        """Count tokens, which are not negative."""
        for label, value in account:
            self._tokens.labels(label, value, kind).inc(number)

    def spend(self, account: Account, amount: float) -> None:
        """Count money, which is not negative."""
        for label, value in account:
            self._spend.labels(label, value).inc(amount)

    def audio(self, account: Account, meter: str, seconds: float) -> None:
        """Count audio, which is not negative."""
        for label, value in account:
            self._audio.labels(label, value, meter).inc(seconds)
