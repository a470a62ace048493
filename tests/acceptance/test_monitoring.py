"""Probes and scrapes of real processes: they tell the truth while something is wrong, and when it is right again."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from tests.acceptance.cluster import CELERY, KEY, READY_WITHIN_S, Cluster, pause, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right
from tests.acceptance.monitoring import asked, faults, lives, port_of, sample
from tests.contract.cutting_proxy import CuttingProxy
from tests.servers import kill
from tests.waiting import eventually
from workers.cli.embedded import EmbeddedValkey
from workers.emulator.speech import VOCABULARY, encode, silence

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def cluster(own_valkey: EmbeddedValkey, tmp_path: Path, new_cluster: NewCluster) -> Iterator[Cluster]:
    """A server of the test's own, that it may kill."""
    made = new_cluster(tmp_path, own_valkey, FW_LEASE_S="20", FW_SWEEP_S="0.5", FW_MONITOR_PORT="0")
    try:
        yield made
    finally:
        made.close()


def begun(cluster: Cluster, run_id: str, tool: str) -> None:
    """Have a worker call a tool, and return when the tool is at work."""
    cluster.client.chat.submit(say(f"use {tool} {run_id}", tools=[tool]), run_id=run_id)
    eventually(lambda: "begun" in cluster.board.marks(run_id), within=60)


@pytest.mark.requirement("OPS-08", "RUN-21")
@pytest.mark.broker("redis", "the broker and the journals go away together")
def test_an_outage_of_redis_makes_a_worker_unready_and_kills_nobody(
    cluster: Cluster, own_valkey: EmbeddedValkey
) -> None:
    worker = cluster.worker("chat-1").ready()
    assert lives(worker)
    eventually(lambda: faults(worker) == {})
    kill(own_valkey)
    eventually(lambda: {"redis", "broker"} == faults(worker).keys(), within=30)
    found = faults(worker)
    assert found["redis"] == "StoreUnavailable: Redis: ConnectionError"
    assert found["broker"].startswith("the worker has not been consuming for ")
    assert lives(worker)
    own_valkey.restart()
    eventually(lambda: faults(worker) == {}, within=30)
    pause(own_valkey.pid)
    eventually(lambda: "redis" in faults(worker), within=30)
    assert lives(worker)
    os.kill(own_valkey.pid, signal.SIGCONT)
    eventually(lambda: faults(worker) == {}, within=30)
    assert cluster.client.chat.complete(say("echo after"), timeout_s=60).status == "completed"
    eventually(lambda: sample(worker, "fw_runs_total", kind="chat", status="completed") == 1)


@pytest.fixture
def rabbit() -> str:
    """A RabbitMQ that was set aside for tests."""
    url = os.environ.get("FW_TEST_RABBITMQ_URL")
    if not url:
        pytest.skip("FW_TEST_RABBITMQ_URL is not set")
    return url


@pytest.mark.requirement("OPS-08")
async def test_a_worker_that_lost_rabbitmq_says_so_while_redis_and_sql_are_well(
    cluster: Cluster, rabbit: str, name: str
) -> None:
    async with CuttingProxy(rabbit) as proxy:
        worker = cluster.worker("chat-1", queues=name, FW_BROKER_URL=proxy.url)
        await asyncio.to_thread(worker.ready)
        await asyncio.to_thread(eventually, lambda: faults(worker) == {})
    assert await asyncio.to_thread(eventually, lambda: list(faults(worker)) == ["broker"], 30)
    assert lives(worker)
    worker.kill()
    with Connection(rabbit) as connection:
        connection.default_channel.queue_delete(name)
        connection.default_channel.exchange_delete(name)


@pytest.mark.requirement("OPS-08")
def test_a_worker_whose_loop_hangs_does_not_live_and_can_still_be_scraped(cluster: Cluster, name: str) -> None:
    worker = cluster.worker("chat-1").ready()
    eventually(lambda: faults(worker) == {})
    begun(cluster, name, "hog")
    assert not lives(worker)
    eventually(lambda: {"lag", "redis", "sql"} <= faults(worker).keys(), within=30)
    assert (sample(worker, "fw_loop_lag_seconds") or 0) > 2
    cluster.board.open_gate(name)
    eventually(lambda: lives(worker), within=30)
    eventually(lambda: faults(worker) == {}, within=30)
    assert is_right(list(cluster.client.follow(name, timeout_s=60)))
    worker.pause()
    with pytest.raises(OSError, match="timed out"):
        asked(worker, "/live")
    worker.go_on()
    assert lives(worker)


@pytest.mark.requirement("OPS-08", "OPS-09", "RUN-05")
def test_a_worker_that_drains_is_not_ready_and_lives(cluster: Cluster, name: str) -> None:
    worker = cluster.worker("chat-1", FW_DRAIN_S="30").ready()
    begun(cluster, name, "wait_pure")
    assert sample(worker, "fw_runs_active", kind="chat") == 1
    assert sample(worker, "fw_draining") == 0
    worker.popen.terminate()
    eventually(lambda: faults(worker).get("draining") == "the worker drains")
    assert lives(worker)
    assert sample(worker, "fw_draining") == 1
    cluster.board.open_gate(name)
    assert worker.popen.wait(timeout=120) == 0


@pytest.mark.requirement("OPS-08")
def test_a_worker_lives_before_its_services_have_started(cluster: Cluster, own_valkey: EmbeddedValkey) -> None:
    kill(own_valkey)
    worker = cluster.worker("chat-1")
    port_of(worker)
    assert lives(worker)
    assert faults(worker)["broker"] == "the worker has not begun to consume"
    own_valkey.restart()
    eventually(lambda: faults(worker) == {}, within=30)


@pytest.mark.requirement("OPS-08", "OPS-17")
def test_a_port_in_use_stops_the_process_with_one_line(cluster: Cluster) -> None:
    port = port_of(cluster.worker("chat-1").ready())
    second = cluster.worker("chat-2", FW_MONITOR_PORT=str(port))
    assert second.popen.wait(timeout=READY_WITHIN_S) == 1
    told = [json.loads(line)["event"] for line in second.log().splitlines() if '"critical"' in line]
    assert len(told) == 1
    assert f"FW_MONITOR_PORT: cannot listen on 127.0.0.1:{port} " in told[0]


@pytest.mark.requirement("OPS-05", "OPS-09")
def test_what_waits_is_told_by_control_until_a_worker_takes_it_and_then_counted_where_it_ran(
    cluster: Cluster, name: str
) -> None:
    """The message is lost on the way, too: what waits is known from the journals."""
    control = cluster.worker("control", queues="fireworks.control").ready()
    queue = {"queue": "fireworks.chat"}
    eventually(lambda: sample(control, "fw_queue_waiting", **queue) == 0)
    cluster.client.chat.submit(say("echo hello"), run_id=name)
    cluster.redis.delete("fireworks.chat")
    eventually(lambda: sample(control, "fw_queue_waiting", **queue) == 1, within=30)
    age = sample(control, "fw_queue_oldest_seconds", **queue) or 0.0
    eventually(lambda: (sample(control, "fw_queue_oldest_seconds", **queue) or 0.0) > age + 1)
    chat = cluster.worker("chat", queues="fireworks.chat", FW_LOST_MESSAGE_S="1").ready()
    cluster.client.chat.submit(say("use lookup k", tools=["lookup"]), run_id=f"{name}-2")
    assert is_right(list(cluster.client.follow(f"{name}-2", timeout_s=60)))
    cluster.redis.zadd(f"fw:{{{name[-1]}}}:due", {name: 0})  # the wait for a lost message, cut short
    assert is_right(list(cluster.client.follow(name, timeout_s=60)))
    eventually(lambda: sample(control, "fw_queue_oldest_seconds", **queue) == 0, within=30)
    assert sample(control, "fw_queue_waiting", **queue) == 0
    assert sample(chat, "fw_queue_waiting", **queue) is None
    eventually(lambda: sample(chat, "fw_runs_total", kind="chat", status="completed") == 2)
    assert (sample(chat, "fw_tokens_total", kind="completion") or 0) > 0
    assert (sample(chat, "fw_queue_wait_seconds_sum", kind="chat", lane="interactive") or 0) > age
    assert sample(chat, "fw_tool_calls_total", outcome="result") == 1
    assert sample(chat, "fw_slots", state="limit") == 20


@pytest.mark.requirement("OPS-05", "OPS-09", "STT-20")
def test_open_sessions_and_the_lag_of_their_audio_are_told(cluster: Cluster) -> None:
    """The audio was written while the session waited for a worker: so long it took to reach one."""
    session = cluster.client.stt.open()
    written = cluster.redis.time()
    session.send_audio(encode(VOCABULARY[:2]) + silence(1))
    eventually(lambda: seconds_since(cluster, written) > 2)
    worker = cluster.speech_worker("stt-1").ready()
    eventually(lambda: sample(worker, "fw_stt_sessions") == 1, within=30)
    eventually(lambda: (sample(worker, "fw_stt_audio_lag_seconds") or 0) > 2, within=30)
    assert sample(worker, "fw_runs_active", kind="stt") == 1
    session.end()
    assert is_right(list(session.follow(timeout_s=60)))
    eventually(lambda: sample(worker, "fw_stt_sessions") == 0, within=30)
    assert (sample(worker, "fw_stt_audio_seconds_total", meter="sent") or 0) > 1
    assert sample(worker, "fw_runs_total", kind="stt", status="completed") == 1
    finals, late_s = (sample(worker, f"fw_stt_final_seconds_{what}") or 0 for what in ("count", "sum"))
    assert late_s > 2 * finals > 0, "each word waited with its audio"


def seconds_since(cluster: Cluster, moment: Any) -> float:
    """Return how long ago that was, by the server's clock."""
    return float(cluster.redis.time()[0] - moment[0])


@pytest.mark.requirement("OPS-07", "RUN-25", "OPS-13")
def test_logs_name_run_tenant_and_trace_and_hold_no_content_and_no_secret_even_at_debug(
    cluster: Cluster, name: str
) -> None:
    """All that is said has the canary in it: prompt, answer, arguments, a tool's fault, rows, bad messages."""
    canary, password = f"canary{name}", cluster.valkey.url.split(":")[2].partition("@")[0]
    assert len(password) > 6
    database = "postgresql://ann:dbpassword@127.0.0.1:1/none"
    debug = {"FW_LOG_LEVEL": "DEBUG", "FW_POLL_S": "0.5"}
    worker = cluster.worker("all", queues="fireworks.chat,fireworks.batch,fireworks.control", **debug).ready()
    cluster.tool_service()
    beat = cluster.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", **debug)
    rows = [{"custom_id": canary, "body": {"messages": [{"role": "user", "content": canary}]}}, {"body": canary}]
    cluster.client.chat.submit(say(f"use read {canary}", tools=[remote("read")]), run_id=f"{name}-a", tenant="acme")
    cluster.client.batch.submit(model="accounts/fireworks/models/emulated-classic", rows=rows, run_id=f"{name}-b")
    with cluster.foreign_app() as app:
        kwargs = {"request": say(f"use raises {canary}", tools=["raises"])}
        headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        app.send_task(
            "fireworks.chat.complete", kwargs=kwargs, task_id=f"{name}-c", queue="fireworks.chat", headers=headers
        )
        app.send_task("no.such.task", kwargs=kwargs, queue="fireworks.chat")
    cluster.queues.put("fireworks.chat", {}, f"not a message {canary}".encode())
    for run_id in (f"{name}-a", f"{name}-b", f"{name}-c"):
        assert is_right(list(cluster.client.follow(run_id, timeout_s=60)))
        eventually(lambda run_id=run_id: cluster.announced(run_id))
    eventually(lambda: worker.says("unknown_task") and worker.says("malformed"))
    refusals = [sample(worker, "fw_messages_refused_total", reason=why) for why in ("unknown_task", "malformed")]
    assert refusals == [1, 1]
    away = cluster.worker("away", queues="fireworks.chat.bg", FW_DATABASE_URL=database, **debug).ready()
    eventually(lambda: "sql" in faults(away), within=30)
    cluster.client.chat.submit(say(f"echo {canary}", lane="background"), run_id=f"{name}-d")
    eventually(lambda: away.says("run.waiting"), within=30)
    secret = rf".*(?:{canary}|{KEY}|{password}|dbpassword).*"
    assert [found for one in (worker, away, beat) for found in re.findall(secret, one.log())] == []
    raised = next(json.loads(line) for line in worker.log().splitlines() if '"tool.raised"' in line)
    wanted = {"run_id": f"{name}-c", "kind": "chat", "tenant": "default", "epoch": 1, "trace_id": TRACE}
    assert {field: raised.get(field) for field in wanted} == wanted
    away.kill()
