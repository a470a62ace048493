"""Batches as processes: they wait without a worker, are looked at by beat, and lose no row to anything that dies."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from api_contracts.batch import BatchResult
from api_contracts.batch_rows import RowResult
from api_contracts.runs import Event
from tests.acceptance.cluster import CELERY, MODEL, Cluster, Process, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, of_type, types
from tests.acceptance.queues import by_hand
from tests.servers import embedded_valkey, kill
from tests.waiting import eventually
from workers.emulator.speech import encode, silence

LEASE_S, SWEEP_S, POLL_S = 2.0, 0.5, 0.3
WORKERS = ("batch-1", "batch-2")
QUEUES = "fireworks.batch,fireworks.control"


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("batches")
    with embedded_valkey(folder / "valkey") as valkey:
        timing = {"FW_LEASE_S": str(LEASE_S), "FW_SWEEP_S": str(SWEEP_S), "FW_POLL_S": str(POLL_S)}
        made = new_cluster(folder, valkey, **timing)
        try:
            yield made
        finally:
            made.close()


def start_beat(cluster: Cluster, name: str = "beat") -> Process:
    return cluster.start(name, *CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO")


def keep(cluster: Cluster) -> Cluster:
    """Have two workers and beat that live."""
    cluster.keep(lambda name: cluster.worker(name, queues=QUEUES), *WORKERS)
    if not any(process.name == "beat" and process.lives for process in cluster.processes):
        start_beat(cluster).ready("beat: Starting...")
    return cluster


@pytest.fixture
def cluster(lasting: Cluster) -> Cluster:
    return keep(lasting)


def rows(count: int, word: str = "echo") -> list[dict[str, Any]]:
    return [
        {"custom_id": f"{word}-{n}", "body": {"messages": [{"role": "user", "content": f"{word} {n}"}]}}
        for n in range(1, count + 1)
    ]


def finished(cluster: Cluster, run_id: str) -> tuple[list[Event], BatchResult, list[RowResult]]:
    events = list(cluster.client.follow(run_id, timeout_s=90))
    assert is_right(events)
    return events, cluster.client.batch.result(run_id), list(cluster.client.batch.rows(run_id))


def parked(cluster: Cluster, run_id: str) -> list[Event]:
    """Return the journal once the run is parked while its job is at work."""

    def found() -> list[Event] | None:
        events = cluster.client.events(run_id)
        return events if events and events[-1].type == "run.parked" and of_type(events, "batch.submitted") else None

    return eventually(found, within=60)


def answered(found: Sequence[RowResult], word: str = "echo") -> bool:
    """Whether each row has the answer to its own question, in the order of the input."""
    for row in found:
        assert row.response is not None, row
        assert row.response["choices"][0]["message"]["content"] == row.custom_id.rpartition("-")[2], row
    return [row.custom_id for row in found] == [f"{word}-{n}" for n in range(1, len(found) + 1)]


def adds_up(events: Sequence[Event], result: BatchResult) -> bool:
    counts = result.rows
    return counts.pending == 0 and counts.total == counts.succeeded + counts.failed + counts.quarantined


def jobs_made(cluster: Cluster) -> int:
    return int(cluster.provider()["batch"]["jobs_created"])


@pytest.mark.requirement("BATCH-03", "BATCH-06", "BATCH-07", "BATCH-19", "RUN-26")
def test_a_batch_is_parked_while_the_provider_works_and_beat_has_it_looked_at(cluster: Cluster, name: str) -> None:
    cluster.client.batch.submit(model=MODEL, rows=rows(40), run_id=name)
    parked(cluster, name)
    eventually(lambda: cluster.meta(name)["status"] == "RETRY")
    eventually(lambda: cluster.redis.hget(f"fw:{{{name[-1]}}}:{name}:lease", "owner") == "")
    events, result, found = finished(cluster, name)
    assert result.status == "completed"
    assert answered(found)
    assert adds_up(events, result)
    assert len(result.jobs) == 1
    assert len(of_type(events, "batch.submitted")) == 1
    assert any("inbox" in event.data for event in of_type(events, "batch.state")), "nobody polled"
    eventually(lambda: cluster.meta(name)["status"] == "SUCCESS")


@pytest.mark.requirement("RUN-13")
def test_a_batch_by_a_message_that_was_written_by_hand(cluster: Cluster, name: str) -> None:
    cluster.queues.put("fireworks.batch", *by_hand(name, "fireworks.batch.submit", {"model": MODEL, "rows": rows(5)}))
    eventually(lambda: cluster.client.events(name))
    events, result, found = finished(cluster, name)
    assert answered(found)
    assert adds_up(events, result)


@pytest.mark.requirement("RUN-07", "RUN-17", "BATCH-03")
def test_everything_stops_while_a_batch_waits_and_it_is_harvested_after_the_restart(
    cluster: Cluster, name: str
) -> None:
    before = jobs_made(cluster)
    cluster.client.batch.submit(model=MODEL, rows=rows(60), run_id=name)
    parked(cluster, name)
    stopped = [process for process in cluster.processes if process.lives and process.name != "emulator"]
    for process in stopped:
        assert process.stop() == 0
    kill(cluster.valkey)
    cluster.valkey.restart()
    keep(cluster)
    events, result, found = finished(cluster, name)
    assert answered(found)
    assert adds_up(events, result)
    assert jobs_made(cluster) == before + 1
    assert len(set(lives(events))) >= 2


@pytest.mark.requirement("BATCH-03", "RUN-04")
@pytest.mark.parametrize(
    "moment", ["run.started", "batch.validated", "batch.uploaded", "batch.submitted", "run.resumed"]
)
def test_a_worker_killed_at_any_step_repeats_no_job_and_loses_no_row(cluster: Cluster, name: str, moment: str) -> None:
    before = jobs_made(cluster)
    cluster.client.batch.submit(model=MODEL, rows=rows(30), run_id=name)
    eventually(lambda: moment in types(cluster.client.events(name)), within=60)
    cluster.holder(name).kill()
    keep(cluster)
    events, result, found = finished(cluster, name)
    assert answered(found)
    assert adds_up(events, result)
    assert jobs_made(cluster) == before + 1


@pytest.mark.requirement("BATCH-01", "BATCH-02", "BATCH-19")
def test_a_file_is_read_by_the_worker_and_bad_rows_are_set_aside(cluster: Cluster, name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = [json.dumps(row) for row in rows(10)]
    bad = [
        "not json",
        json.dumps(rows(1)[0]),
        json.dumps({"body": {"messages": [{"role": "bananas", "content": "?"}]}}),
    ]
    without_id = json.dumps({"body": rows(1)[0]["body"]})
    path.write_text("\r\n".join([*good, *bad, without_id]), encoding="utf-8")
    cluster.client.batch.submit(model=MODEL, file=str(path), run_id=name)
    events, result, found = finished(cluster, name)
    assert (result.rows.total, result.rows.succeeded, result.rows.quarantined) == (14, 11, 3)
    assert adds_up(events, result)
    assert answered(found[:10])
    assert [(row.number, row.state, row.fault.code) for row in found[10:13] if row.fault] == [
        (11, "quarantined", "not_json"), (12, "quarantined", "duplicate_custom_id"), (13, "quarantined", "bad_field"),
    ]  # fmt: skip
    assert found[13].custom_id is not None
    assert found[13].custom_id.startswith("fw-")


@pytest.mark.requirement("BATCH-07", "BATCH-19")
def test_rows_that_fail_say_why_and_the_others_are_kept(cluster: Cluster, name: str) -> None:
    cluster.client.batch.submit(model=MODEL, rows=rows(20, "fail"), run_id=name, attempts=1)
    events, result, found = finished(cluster, name)
    assert (result.rows.succeeded, result.rows.failed) == (17, 3)
    assert adds_up(events, result)
    failed = [row for row in found if row.state == "failed"]
    assert all(row.fault and row.fault.code for row in failed)
    assert list(cluster.client.batch.rows(name, states=["failed"])) == failed


@pytest.mark.requirement("RUN-06", "RUN-26")
def test_a_parked_batch_is_cancelled_at_once_and_its_job_is_stopped(cluster: Cluster, name: str) -> None:
    cluster.client.batch.submit(model="accounts/fireworks/models/emulated-new", rows=rows(10, "slow"), run_id=name)
    parked(cluster, name)
    assert cluster.client.cancel(name, "enough")
    events, result, _ = finished(cluster, name)
    assert result.status == "cancelled"
    assert events[-1].data["reason"] == "enough"
    eventually(lambda: cluster.meta(name)["status"] == "REVOKED")
    assert cluster.provider()["batch"]["calls"].get("delete_job", 0) >= 1
    assert not cluster.client.cancel(name)


@pytest.mark.requirement("RUN-13", "BATCH-01")
def test_any_celery_producer_can_submit_a_batch(cluster: Cluster, name: str) -> None:
    with cluster.foreign_app() as app:
        request = {"model": MODEL, "rows": rows(5)}
        app.send_task("fireworks.batch.submit", kwargs={"request": request}, task_id=name, queue="fireworks.batch")
        stored = app.AsyncResult(name).get(timeout=120)
    assert stored["rows"]["succeeded"] == 5


@pytest.mark.requirement("BATCH-06")
def test_two_beats_and_two_workers_make_one_letter_of_each_change(cluster: Cluster, name: str) -> None:
    second = start_beat(cluster, "beat-2").ready("beat: Starting...")
    cluster.client.batch.submit(model=MODEL, rows=rows(20), run_id=name)
    events, _, _ = finished(cluster, name)
    assert second.stop() == 0
    letters = cluster.redis.xrange(f"fw:{{{name[-1]}}}:{name}:inbox")
    ids = [fields["id"] for _, fields in letters]
    assert len(ids) == len(set(ids))
    assert [event.data["state"] for event in of_type(events, "batch.state")][-1] == "COMPLETED"


# -- a model's own -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-21")
def test_a_model_submits_a_batch_reads_its_rows_and_listens_to_a_live_session(cluster: Cluster, name: str) -> None:
    """And a model of another tenant does not."""
    cluster.keep(lambda name: cluster.worker(name, queues="fireworks.chat,fireworks.stt"), "chatting")
    tools = ["fw_submit_batch", "fw_read_batch", "fw_read_transcript"]

    def told(text: str, **fields: Any) -> str:
        result = cluster.client.chat.complete(say(text, tools=tools, **fields), timeout_s=60)
        assert result.message is not None
        return str(result.message["content"])

    ordered = json.loads(told(f"order {name}"))
    found = cluster.client.batch.result(ordered["batch"], timeout_s=90)
    assert (found.status, found.rows.succeeded) == ("completed", 2)
    (queued,) = of_type(cluster.client.events(ordered["batch"]), "run.queued")
    assert queued.data["labels"]["parent_run"] == queued.data["writer"].removeprefix("chat ")
    rows_read = json.loads(told(f"rows {ordered['batch']}"))
    assert [row["text"] for row in rows_read["rows"]] == [name, "two"]
    assert told(f"rows {ordered['batch']}", tenant="other") == "There is no such batch."
    session = cluster.client.stt.open()
    session.send_audio(encode(["maple", "maple"]) + silence(0.3))
    eventually(lambda: {"stt.interim", "stt.final"} & {*types(cluster.client.events(session.run_id))}, within=60)
    heard = json.loads(told(f"listen {session.run_id}"))
    assert heard["status"] == "live"
    assert "maple" in heard["text"] + heard.get("not_final", "")
    assert told(f"listen {session.run_id}", tenant="other") == "There is no such session."
    session.end()
