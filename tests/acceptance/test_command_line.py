"""`fireworks-workers` as a person runs it, against a cluster that is up."""

import json
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, say
from tests.acceptance.journal import types
from tests.acceptance.shell import objects, run
from tests.waiting import eventually
from workers.cli.lending import QUEUE


@pytest.mark.requirement("OPS-01")
def test_chat_prints_the_answer_and_nothing_else_on_its_standard_output(cluster: Cluster) -> None:
    done = run(cluster, "chat", "echo hello there")
    assert (done.returncode, done.stdout) == (0, "hello there\n")
    assert "completed" in done.stderr


def test_chat_calls_a_tool_that_the_workers_have_and_says_so(cluster: Cluster, name: str) -> None:
    done = run(cluster, "chat", f"use lookup {name}", "--tool", "lookup")
    assert (done.returncode, done.stdout) == (0, f"told: {name} was looked up\n")
    assert "-> lookup" in done.stderr
    assert f"<- lookup: {name} was looked up" in done.stderr


def test_chat_lends_the_model_functions_of_this_terminal(cluster: Cluster, name: str) -> None:
    here = "tests.acceptance.apps.terminal"
    lent = ("--tool", f"{here}:lookup", "--tool", f"{here}:raises")
    done = run(cluster, "chat", f"use lookup {name}", *lent)
    assert (done.returncode, done.stdout) == (0, f"told: {name} was looked up here\n")
    assert f'-> lookup({{"key": "{name}"}})' in done.stderr
    assert f"<- lookup: {name} was looked up here" in done.stderr
    failed = run(cluster, "chat", f"use raises {name}", *lent, "--json")
    assert failed.returncode == 0
    (told,) = [event for event in objects(failed) if event["type"] == "tool.call_failed"]
    assert told["data"]["content"] == "The tool failed."
    assert "table vaults" in told["data"]["detail"]
    assert told["data"]["by"] == "terminal"
    assert cluster.queues.waiting(QUEUE) == 0, "what nobody reads is thrown away"


def test_chat_shows_the_model_a_picture(cluster: Cluster, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    done = run(cluster, "chat", "echo seen", "--image", str(picture), "--image", "https://example.org/b.png", "--json")
    assert done.returncode == 0
    asked = objects(done)[0]["data"]["request"]["messages"][0]["content"]
    assert [part["type"] for part in asked] == ["text", "image_url", "image_url"]


def test_chat_goes_on_with_a_conversation(cluster: Cluster, name: str) -> None:
    for number in (1, 2):
        done = run(cluster, "chat", f"echo turn {number}", "--conversation", name, "--system", "Be brief.")
        assert (done.returncode, done.stdout) == (0, f"turn {number}\n"), done.stderr
    found = cluster.client.conversations.read(name)
    assert found is not None
    assert [message["content"] for message in found.messages] == ["echo turn 1", "turn 1", "echo turn 2", "turn 2"]
    assert (found.version, found.settings["system"]) == (2, "Be brief.")


def test_chat_refuses_a_wrong_command_line_with_exit_code_2(cluster: Cluster) -> None:
    done = run(cluster, "chat", "hello", "--tool", "no.such.module:f")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--tool no.such.module:f: ModuleNotFoundError: No module named 'no'\n"


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
    assert run(cluster, "runs", "cancel", name).returncode == 4


@pytest.mark.parametrize("verb", ["show", "events", "cancel", "retry"])
def test_a_run_that_does_not_exist_is_one_line_and_exit_code_3(cluster: Cluster, name: str, verb: str) -> None:
    done = run(cluster, "runs", verb, name)
    assert done.returncode == 3
    assert name in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_a_service_a_command_says_what_to_do(cluster: Cluster, tmp_path: object) -> None:
    done = run(cluster, "chat", "hello", FW_REDIS_URL="", FW_STATE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip() == "no service is running here: start `fireworks-workers up`, or set FW_REDIS_URL"
