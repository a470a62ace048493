"""`doctor` against a live service: what is well, what is doubtful, what is wrong, and what to do."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from api_contracts import keys
from tests.acceptance.cluster import CELERY, Cluster
from tests.acceptance.conftest import NewCluster
from tests.acceptance.test_command_line import run
from tests.servers import embedded_valkey
from tests.waiting import eventually
from workers.adapters.sql.migrate import migrate

INTERACTIVE = ("fireworks.chat", "fireworks.stt", "fireworks.batch", "fireworks.control")
BACKGROUND = tuple(f"{queue}.bg" for queue in INTERACTIVE[:3])
PARTS = ["redis", "clock", "broker", "sql", "queues", "workers", "beat", "dead letters", "tools", "provider", "speech",
         "batch"]  # fmt: skip
PROVIDER = ("FIREWORKS_BASE_URL", "FIREWORKS_API_URL", "FIREWORKS_ACCOUNT_ID", "FIREWORKS_AUDIO_STREAMING_URL")
KEY = "fw_doctor_7b3e"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """A worker of every interactive queue, one of the background lane, and beat."""
    folder = tmp_path_factory.mktemp("doctor")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_POLL_S="1")
        try:
            started = [made.worker("all", queues=",".join(INTERACTIVE)), made.worker("bg", queues=",".join(BACKGROUND))]
            beat = made.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO")
            for worker in started:
                worker.ready()
            beat.ready("beat.sent")
            yield made
        finally:
            made.close()


def examined(cluster: Cluster, **env: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Return the exit code and each part's state and words."""
    given = {name: cluster.env[name] for name in PROVIDER} | {"FIREWORKS_API_KEY": KEY} | env
    done = run(cluster, "doctor", "--json", **given)
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["part"] for each in found] == PARTS
    return done.returncode, {each["part"]: (each["state"], each["says"]) for each in found}


def of_state(found: dict[str, tuple[str, str]], state: str) -> dict[str, str]:
    return {part: says for part, (is_, says) in found.items() if is_ == state}


@pytest.mark.requirement("OPS-17", "OPS-01")
def test_a_service_that_is_well_is_well_in_every_part(service: Cluster) -> None:
    code, found = examined(service)
    assert of_state(found, "no") == of_state(found, "warn") == {}
    assert code == 0
    assert "2 workers serve" in found["queues"][1]
    assert "ticked" in found["beat"][1]
    assert found["workers"][1].startswith("2 workers run 0.")
    shown = run(service, "doctor")
    assert all(part in shown.stdout for part in PARTS)
    # Without a key in this shell three parts cannot be looked at; that is no failure.
    assert shown.returncode == 0
    assert shown.stdout.count("FIREWORKS_API_KEY is not set in this shell") == 3


@pytest.mark.requirement("OPS-17")
def test_a_doubt_is_told_and_fails_nothing(service: Cluster) -> None:
    service.redis.lpush(keys.DEAD_LETTERS, "a", "b")
    service.redis.config_set("appendonly", "no")
    service.named("bg").stop()
    try:
        code, found = examined(service, FIREWORKS_ACCOUNT_ID="")
    finally:
        service.redis.delete(keys.DEAD_LETTERS)
        service.redis.config_set("appendonly", "yes")
        service.worker("bg", queues=",".join(BACKGROUND)).ready()
    assert (code, of_state(found, "no")) == (0, {})
    doubts = of_state(found, "warn")
    assert doubts.keys() == {"redis", "queues", "dead letters", "batch"}
    assert "set appendonly yes" in doubts["redis"]
    assert "fireworks.batch.bg, fireworks.chat.bg, fireworks.stt.bg" in doubts["queues"]
    assert doubts["dead letters"].startswith("2 messages")


@pytest.mark.requirement("OPS-17")
def test_each_part_that_is_wrong_says_what_to_do(service: Cluster, tmp_path: Path) -> None:
    service.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        code, found = examined(
            service,
            FW_TOOLS="no.such.module",
            FW_DATABASE_URL=f"sqlite:///{tmp_path / 'none.sqlite3'}",
            FW_BROKER_URL="redis://127.0.0.1:1/0",
            FIREWORKS_BASE_URL="http://127.0.0.1:1/inference/v1",
            FIREWORKS_API_URL="http://127.0.0.1:1",
            FIREWORKS_AUDIO_STREAMING_URL="ws://127.0.0.1:1/v1",
        )
    finally:
        service.redis.config_set("maxmemory-policy", "noeviction")
    wrong = of_state(found, "no")
    assert code == 1
    assert set(PARTS) - wrong.keys() == {"clock", "beat", "dead letters"}
    assert "set noeviction" in wrong["redis"]
    assert "FW_BROKER_URL" in wrong["broker"]
    assert "fireworks-workers migrate" in wrong["sql"]
    assert "no.such.module" in wrong["tools"]


@pytest.mark.requirement("OPS-17", "TOOL-18")
def test_mcp_servers_are_asked_what_they_offer(service: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "mcp.toml"
    desk = json.dumps([sys.executable, "-m", "tests.contract.mcp_server", str(tmp_path)])
    file.write_text(f"[servers.desk]\ncommand = {desk}\n")

    def tools() -> tuple[str, str]:
        return examined(service, FW_MCP_FILE=str(file))[1]["tools"]

    # Beside four other test processes a server may need longer to begin than the doctor waits for it.
    _, says = eventually(lambda: (found := tools())[0] == "ok" and found, within=30)
    assert "desk_add" in says
    file.write_text(f'[servers.desk]\ncommand = {desk}\n[servers.gone]\nurl = "http://127.0.0.1:1/mcp"\n')
    code, found = examined(service, FW_MCP_FILE=str(file))
    assert code == 1
    assert of_state(found, "no").keys() == {"tools"}
    assert found["tools"][1].startswith("MCP servers that do not answer here: gone: look into FW_MCP_FILE")


@pytest.mark.requirement("OPS-17")
def test_a_service_without_beat_and_some_workers_says_which_to_start(cluster: Cluster) -> None:
    code, found = examined(cluster)
    wrong = of_state(found, "no")
    assert code == 1
    assert wrong.keys() == {"queues", "beat"}
    assert wrong["queues"] == "no worker serves fireworks.batch, fireworks.stt: start the Procfile's batch stt"
    assert "start the Procfile's beat" in wrong["beat"]


@pytest.mark.requirement("OPS-17", "OPS-04")
def test_a_beat_that_holds_the_lock_and_does_not_tick_is_found(service: Cluster) -> None:
    entry = f"{keys.BEAT}fireworks.runs.sweep"
    meta = service.redis.hget(entry, "meta")
    old = str(meta).replace('"year": 20', '"year": 19')
    service.redis.hset(entry, "meta", old)
    service.redis.zrem(f"{keys.BEAT}:schedule", entry)
    _, found = examined(service)
    assert of_state(found, "no").keys() == {"beat"}
    assert "last ticked" in found["beat"][1]
    service.redis.zadd(f"{keys.BEAT}:schedule", {entry: 1})
    eventually(lambda: service.redis.hget(entry, "meta") != old, within=20)


@pytest.mark.requirement("OPS-17")
def test_a_schema_of_before_is_told_with_what_to_run(service: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    migrate(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as old:
        (table,) = old.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE '%version%' AND type = 'table'"
        ).fetchone()
        old.execute(f"UPDATE {table} SET version_num = '0001'")
        old.commit()
    _, found = examined(service, FW_DATABASE_URL=f"sqlite:///{path}")
    assert found["sql"] == ("no", "schema 0001, this version needs 0005: run `fireworks-workers migrate`")
