"""Tenant, labels and idempotency key, from the producer to the six places where somebody looks for them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from api_contracts.client.results import RUNS_TABLE, database_url
from api_contracts.keys import derived_run_id
from tests.acceptance.cluster import CELERY, MODEL, Cluster, Process, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import of_type
from tests.acceptance.monitoring import sample
from tests.acceptance.shell import objects, run
from tests.servers import embedded_valkey
from tests.waiting import eventually
from workers.emulator.speech import VOCABULARY, encode, silence

pytestmark = pytest.mark.requirement("RUN-16")

QUEUES = "fireworks.chat,fireworks.stt,fireworks.batch,fireworks.control"
USAGE = {"chat": "chat.usage", "cite": "chat.usage", "stt": "stt.usage", "batch": "batch.cost"}


@dataclass(frozen=True)
class Account:
    """What a producer says of a run of its own."""

    tenant: str
    labels: dict[str, str]
    key: str

    @property
    def run_id(self) -> str:
        return derived_run_id(self.tenant, self.key)

    def fields(self) -> dict[str, Any]:
        return {"tenant": self.tenant, "labels": self.labels, "idempotency_key": self.key}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("accounting")
    told_apart = "tenant,team,idempotency_key"
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(
            folder, valkey, FW_LEASE_S="20", FW_POLL_S="0.3", FW_MONITOR_PORT="0", FW_METRIC_LABELS=told_apart
        )
        try:
            made.worker("all", queues=QUEUES).ready()
            made.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO", FW_MONITOR_PORT="")
            yield made
        finally:
            made.close()


def made(cluster: Cluster, kind: str, account: Account) -> str:
    """Have a run of this kind made for the account; return its id once it is over and told."""
    client, given = cluster.client, account.fields()
    if kind == "chat":
        run_id = client.chat.submit(say("echo x", **given))
    elif kind == "cite":
        sources = [{"id": "a", "content": "built in 1874"}]
        run_id = client.cite.submit(model=MODEL, question="cite well", sources=sources, **given)
    elif kind == "batch":
        rows = [{"body": {"messages": [{"role": "user", "content": "echo 1"}]}}]
        run_id = client.batch.submit(model=MODEL, rows=rows, **given)
    else:
        session = client.stt.open(**given)
        session.send_audio(encode(VOCABULARY[:2]) + silence(0.3))
        session.end()
        run_id = session.run_id
    client.result(run_id, timeout_s=90)
    eventually(lambda: cluster.announced(run_id))
    return run_id


def sql_row(cluster: Cluster, run_id: str) -> tuple[str, dict[str, str], str]:
    engine = create_engine(database_url(cluster.database))
    with engine.connect() as connection:
        query = text(f"SELECT tenant, CAST(labels AS TEXT), idempotency_key FROM {RUNS_TABLE} WHERE run_id = :run_id")
        tenant, labels, key = connection.execute(query, {"run_id": run_id}).one()
    engine.dispose()
    return tenant, json.loads(labels), key


def log_lines(worker: Process, run_id: str) -> list[dict[str, Any]]:
    """Return what the worker logged of the run while it drove it."""
    lines = [line for line in worker.log().splitlines() if line.startswith("{") and run_id in line]
    return [found for found in map(json.loads, lines) if found.get("event") == "run.ended"]


@pytest.mark.parametrize("kind", USAGE)
def test_tenant_labels_and_key_reach_run_events_logs_metrics_usage_and_sql(
    cluster: Cluster, name: str, kind: str
) -> None:
    account = Account(f"tenant-{name}", {"team": f"team-{name}", "env": "night"}, f"order {name} [ü]")
    run_id = made(cluster, kind, account)
    assert run_id == account.run_id, "the key names the run"
    (listed,) = objects(run(cluster, "runs", "list", "--json", "--tenant", account.tenant, "--label", "env=night"))
    assert (listed["run_id"], listed["tenant"], listed["labels"]) == (run_id, account.tenant, account.labels)

    events = cluster.client.events(run_id)
    assert account.fields().items() <= events[0].data.items()
    used = of_type(events, USAGE[kind])
    assert used
    assert all(account.fields().items() <= event.data.items() for event in used)

    worker = cluster.named("all")
    (ended,) = eventually(lambda: log_lines(worker, run_id))
    said = (ended["tenant"], ended["labels"], ended["idempotency_id"])
    assert said == (account.tenant, account.labels, run_id)
    assert account.key not in worker.log(), "a key may be anything: its id stands for it"

    status = cluster.client.result(run_id).status
    for label, value in (("tenant", account.tenant), ("team", account.labels["team"]), ("idempotency_key", run_id)):
        counted = {"label": label, "value": value, "kind": kind, "status": status}
        assert sample(worker, "fw_runs_by_label_total", **counted) == 1
    assert sample(worker, "fw_runs_by_label_total", label="env") is None, "only what the operator names"

    assert sql_row(cluster, run_id) == (account.tenant, account.labels, account.key)
