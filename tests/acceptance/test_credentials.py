"""Provider keys by name: each kind of work uses the one that its request names, and none is seen anywhere.

Everything is looked through: Redis, SQL, the logs at DEBUG, what Celery tells about a worker, what commands print. The
passwords of Redis and the signing key are secrets of the same kind, so they are looked for as well.
"""

import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from api_contracts.client.results import database_url, reader
from api_contracts.runs import Result
from tests.acceptance.cluster import CELERY, KEY, MODEL, ROOT, Cluster, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right
from tests.servers import embedded_valkey
from tests.waiting import eventually
from workers.adapters.sql.tables import metadata
from workers.emulator.speech import VOCABULARY, encode, silence

SECRETS = {
    "eu": "fw_hush_eu_51c09d", "wrong": "hush_wrong_e17b3a", "us": "fw_hush_us_a2204f",
    "signing": "hush_signing_90c1b2_of_32_letters", "own": KEY,
}  # fmt: skip
KINDS = ("chat", "cite", "stt", "batch")
QUEUES = "fireworks.chat,fireworks.stt,fireworks.batch,fireworks.control"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """A worker of everything, and beat. The embedded Redis has a password."""
    folder = tmp_path_factory.mktemp("credentials")
    keys = folder / "keys"
    keys.mkdir()
    (keys / "us").write_text(SECRETS["us"])
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(
            folder, valkey, FW_POLL_S="0.3", FW_SWEEP_S="0.5", FW_LOG_LEVEL="DEBUG",
            FW_CREDENTIALS=f'{{"eu": "{SECRETS["eu"]}", "wrong": "{SECRETS["wrong"]}"}}', FW_CREDENTIALS_DIR=str(keys),
            FW_SIGNING_KEYS=SECRETS["signing"],
        )  # fmt: skip
        try:
            worker = made.worker("all", queues=QUEUES)
            made.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "DEBUG")
            worker.ready()
            yield made
        finally:
            made.close()


def done(cluster: Cluster, kind: str, run_id: str, credential: str | None) -> Result:
    """Do one run of a kind with a credential; return its result."""
    client = cluster.client
    match kind:
        case "chat":
            client.chat.submit(say("echo x", credential=credential), run_id=run_id)
        case "cite":
            sources = [{"id": "log", "content": "It was built in 1874. Its lamp burned oil until 1931."}]
            client.cite.submit(
                model=MODEL, question="cite well", sources=sources, credential=credential, run_id=run_id
            )  # fmt: skip
        case "stt":
            session = client.stt.open(credential=credential, run_id=run_id)
            session.send_audio(encode(VOCABULARY[:1]) + silence(0.3))
            session.end()
        case _:
            row: Any = {"custom_id": "1", "body": {"messages": [{"role": "user", "content": "echo x"}]}}
            client.batch.submit(model=MODEL, rows=[row], credential=credential, run_id=run_id)
    assert is_right(list(client.follow(run_id, timeout_s=60)))
    result: Result = client.result(run_id)
    return result


@pytest.mark.requirement("OPS-13")
@pytest.mark.parametrize("credential", [None, "eu", "us"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_uses_the_key_that_its_request_names(
    cluster: Cluster, name: str, kind: str, credential: str | None
) -> None:
    result = done(cluster, kind, name, credential)
    assert (result.status, result.failure) == ("completed", None)


@pytest.mark.requirement("OPS-13")
@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_that_nobody_knows_fails_the_run_and_names_no_other(
    cluster: Cluster, name: str, kind: str
) -> None:
    failure = done(cluster, kind, name, "nobody").failure
    assert failure is not None
    assert (failure.code, failure.at_fault, failure.retryable) == ("unknown_credential", "caller", False)
    assert "'nobody'" in failure.message
    assert not any(f"'{other}'" in failure.message for other in ("eu", "us", "wrong"))


@pytest.mark.requirement("OPS-13")
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_the_provider_refuses_fails_the_run_without_being_quoted(
    cluster: Cluster, name: str, kind: str
) -> None:
    result = done(cluster, kind, name, "wrong")
    assert result.status == "failed"
    assert SECRETS["wrong"] not in result.model_dump_json()


@pytest.mark.requirement("OPS-13")
def test_a_key_that_is_changed_in_its_file_counts_without_a_restart(cluster: Cluster, name: str) -> None:
    path = Path(cluster.env["FW_CREDENTIALS_DIR"]) / "us"
    path.write_text(SECRETS["wrong"])
    assert done(cluster, "chat", f"{name}-1", "us").status == "failed"
    path.write_text(SECRETS["us"])
    assert done(cluster, "chat", f"{name}-2", "us").status == "completed"


@pytest.mark.requirement("OPS-13", "RUN-25")
@pytest.mark.broker("redis", "it listens to what Celery publishes, where Redis shows everything")
def test_no_secret_is_seen_anywhere(cluster: Cluster, name: str) -> None:
    """After a run of every kind with a credential that is right, one that is wrong and one that is unknown."""
    with broadcasts(cluster) as told:
        for kind in KINDS:
            for credential in ("eu", "wrong", "nobody"):
                done(cluster, kind, f"{kind}-{credential}-{name}", credential)
    done_ids = [f"{kind}-{credential}-{name}" for kind in KINDS for credential in ("eu", "nobody")]
    assert urlsplit(cluster.valkey.url).password
    eventually(lambda: all(cluster.announced(run_id) for run_id in done_ids), within=30)
    seen = {
        **redis_content(cluster), **cluster.logs(), **told_by_celery(cluster), **printed_by_commands(cluster, name),
        **command_lines(cluster), "sql": sql_content(cluster), "events": "".join(told),
    }  # fmt: skip
    assert len(seen) > 60
    assert f"chat-eu-{name}" in seen["sql"]
    assert f"chat-eu-{name}" in unwrapped(seen["events"])
    secrets = SECRETS | {"redis": str(urlsplit(cluster.valkey.url).password)}
    assert [
        (where, secret)
        for where, text in seen.items()
        for secret, value in secrets.items()
        if value in text or value in unwrapped(text)
    ] == []


def unwrapped(text: str) -> str:
    """Return what a text has in base64, as bodies of messages are."""
    found = re.findall(r"[A-Za-z0-9+/]{16,}={0,2}", text)
    return "\n".join(b64decode(each[: len(each) // 4 * 4]).decode(errors="replace") for each in found)


@contextmanager
def broadcasts(cluster: Cluster) -> Iterator[list[str]]:
    """Collect what is published meanwhile: Celery's events, which Flower shows, are."""
    told: list[str] = []
    with closing(Redis.from_url(cluster.valkey.url)) as client, closing(client.pubsub()) as listening:
        listening.psubscribe("*")
        assert listening.get_message(timeout=10)
        yield told
        while message := listening.get_message(timeout=0.5):
            told.append(str(message["data"]))


def redis_content(cluster: Cluster) -> dict[str, str]:
    """Return every key with its value."""
    client: Redis = Redis.from_url(cluster.valkey.url, decode_responses=True, encoding_errors="replace")
    read = {
        "string": client.get, "hash": client.hgetall, "set": client.smembers, "stream": client.xrange,
        "list": lambda key: client.lrange(key, 0, -1), "zset": lambda key: client.zrange(key, 0, -1),
    }  # fmt: skip
    try:
        return {f"redis {key}": f"{key} {read[client.type(key)](key)}" for key in client.scan_iter(count=1000)}
    finally:
        client.close()


def sql_content(cluster: Cluster) -> str:
    """Return every row of every table."""
    engine = reader(database_url(cluster.database))
    try:
        with engine.connect() as connection:
            return "\n".join(str(row) for table in metadata.sorted_tables for row in connection.execute(table.select()))
    finally:
        engine.dispose()


def told_by_celery(cluster: Cluster) -> dict[str, str]:
    asked = ("conf", "stats", "report", "active", "reserved", "registered", "active_queues", "query_task x")
    found = {f"inspect {each}": run(cluster, *CELERY, "workers.app", "inspect", *each.split()) for each in asked}
    found["celery report"] = run(cluster, *CELERY, "workers.app", "report")
    assert "fw_message_bytes" in found["inspect conf"]
    assert "max-concurrency" in found["inspect stats"]
    return found


def printed_by_commands(cluster: Cluster, name: str) -> dict[str, str]:
    commands = ("doctor", f"runs status chat-eu-{name}", f"runs follow batch-wrong-{name}", "batch status nobody")
    return {each: run(cluster, sys.executable, "-m", "workers.cli", *each.split()) for each in commands}


def command_lines(cluster: Cluster) -> dict[str, str]:
    """Return what `ps` shows of each process."""
    return {f"ps {each.name}": Path(f"/proc/{each.pid}/cmdline").read_text() for each in cluster.processes}


def run(cluster: Cluster, *argv: str) -> str:
    done = subprocess.run(argv, env=cluster.env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.mark.requirement("OPS-13", "CHAT-12")
def test_a_route_whose_second_place_names_an_unknown_credential_is_refused_before_anyone_is_asked(
    cluster: Cluster, name: str
) -> None:
    route = [MODEL, {"model": MODEL, "credential": "nobody"}]
    result = cluster.client.chat.complete(say("echo never", model="", route=route), run_id=name, timeout_s=60)
    assert result.failure is not None
    assert (result.failure.code, result.rounds) == ("unknown_credential", 0)
