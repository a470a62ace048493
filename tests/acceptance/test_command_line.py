"""`fireworks-workers` as a person runs it, against a cluster that is up."""

import json
import subprocess
import sys

import pytest

from tests.acceptance.cluster import ROOT, Cluster, clean_environment, say
from tests.acceptance.journal import types
from tests.waiting import eventually

COMMAND = (sys.executable, "-m", "workers.cli")


def run(cluster: Cluster, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in the shell of someone who has set where the service is."""
    where = {"FW_REDIS_URL": cluster.valkey.url, "FW_BROKER_URL": cluster.broker, "FW_DATABASE_URL": cluster.database}
    environment = clean_environment() | where | {"COLUMNS": "200"} | env
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )


@pytest.mark.requirement("OPS-01")
def test_chat_prints_the_answer_and_nothing_else_on_its_standard_output(cluster: Cluster) -> None:
    done = run(cluster, "chat", "echo hello there")
    assert (done.returncode, done.stdout) == (0, "hello there\n")
    assert "completed" in done.stderr


def test_chat_calls_a_tool_that_the_workers_have_and_says_so(cluster: Cluster, name: str) -> None:
    done = run(cluster, "chat", f"use lookup {name}", "--tool", "lookup")
    assert (done.returncode, done.stdout) == (0, f"told: {name} was looked up\n")
    assert "-> lookup" in done.stderr


@pytest.mark.requirement("RUN-09")
def test_chat_that_fails_says_why_without_a_stack_trace(cluster: Cluster) -> None:
    done = run(cluster, "chat", "denied")
    assert done.returncode == 1
    assert "provider_authentication" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.requirement("RUN-02")
def test_runs_shows_lists_and_follows(cluster: Cluster, name: str) -> None:
    cluster.client.chat.complete(say("echo seen"), run_id=name, timeout_s=60)
    journal = [event.model_dump() for event in cluster.client.events(name)]
    shown = run(cluster, "runs", "show", name, "--json")
    assert json.loads(shown.stdout)["message"]["content"] == "seen"
    for verb in ("events", "follow"):
        listed = run(cluster, "runs", verb, name, "--json", "--after", "1")
        assert listed.returncode == 0
        assert [json.loads(line) for line in listed.stdout.splitlines()] == journal[1:]
    table = run(cluster, "runs", "events", name)
    assert all(event["type"] in table.stdout for event in journal)


def test_runs_cancels_a_live_run_and_refuses_a_finished_one(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say("stall"), run_id=name)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    assert run(cluster, "runs", "cancel", name, "--reason", "enough").returncode == 0
    assert list(cluster.client.follow(name, timeout_s=60))[-1].data["reason"] == "enough"
    assert run(cluster, "runs", "cancel", name).returncode == 1


@pytest.mark.parametrize("verb", ["show", "events", "cancel"])
def test_a_run_that_does_not_exist_is_one_line_and_exit_code_1(cluster: Cluster, name: str, verb: str) -> None:
    done = run(cluster, "runs", verb, name)
    assert done.returncode == 1
    assert name in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_a_service_a_command_says_what_to_do(cluster: Cluster, tmp_path: object) -> None:
    done = run(cluster, "chat", "hello", FW_REDIS_URL="", FW_STATE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip() == "no service is running here: start `fireworks-workers up`, or set FW_REDIS_URL"
