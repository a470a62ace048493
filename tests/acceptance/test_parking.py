"""A run that waits for long holds nothing, and wakes after everything was restarted. One worker with one slot."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_contracts import keys
from tests.acceptance.cluster import QUEUES, Cluster, Process, remote, say
from tests.acceptance.combination import Combination
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, of_type, streamed, types
from tests.acceptance.scene import STORY, WISH_S
from tests.acceptance.shell import run
from tests.waiting import eventually
from workers.cli.embedded import EmbeddedValkey


@pytest.fixture
def cluster(own_valkey: EmbeddedValkey, tmp_path: Path, new_cluster: NewCluster) -> Iterator[Cluster]:
    """A server of the test's own, that it may kill."""
    window = {"limit": "0.0019", "window_s": window_s(), "only": {"tenant": "thrifty"}}
    made = new_cluster(
        tmp_path, own_valkey, FW_LEASE_S="3", FW_SWEEP_S="0.5", FW_BUDGETS=json.dumps({"window": window})
    )
    try:
        made.worker("first", c=1).ready()
        yield made
    finally:
        made.close()


def window_s() -> int:
    """Return the length of a window that ends in some 20 s: long enough to park in, and no longer."""
    ends = int(time.time()) + 20
    return next(length for end in range(ends, ends + 40) for length in range(40, 60) if end % length == 0)


def left_s(length: int) -> float:
    """Return how long the present window lasts."""
    return length - time.time() % length


def assert_parked(cluster: Cluster, run_id: str, why: str) -> None:
    """Wait until it is; Celery has the reason, nobody has its lease or the slot, and no message of ours waits."""
    eventually(lambda: cluster.redis.hget(keys.lease(run_id), "parked") == "1", within=60)
    told = cluster.meta(run_id)
    assert told["status"] == "RETRY"
    assert told["result"]["exc_message"] == [why]
    assert cluster.redis.hmget(keys.lease(run_id), "owner", "until") == ["", "0"]
    assert [cluster.queues.waiting(queue) for queue in QUEUES.split(",")] == [0, 0]
    assert cluster.client.chat.complete(say("echo meanwhile"), timeout_s=60).message["content"] == "meanwhile"


def restart(cluster: Cluster, valkey: EmbeddedValkey) -> Process:
    """Stop the worker, kill the server of journals and (where it is Redis) of messages; start both anew."""
    assert cluster.named("first").stop() == 0
    os.kill(valkey.pid, signal.SIGKILL)
    eventually(lambda: not valkey.running)
    valkey.restart()
    return cluster.worker("second", c=1).ready()


@pytest.mark.requirement("RUN-07", "CHAT-10", "RUN-26")
def test_a_chat_that_the_provider_sends_away_holds_nothing_and_asks_when_it_may(
    cluster: Cluster, own_valkey: EmbeddedValkey, name: str
) -> None:
    cluster.client.chat.submit(say("later"), run_id=name)
    assert_parked(cluster, name, "waits to ask the provider again")
    assert cluster.queues.unacknowledged() == 0
    second = restart(cluster, own_valkey)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert [each for each in types(events) if each.startswith("run.")] == [
        "run.queued", "run.started", "run.parked", "run.resumed", "run.completed",
    ]  # fmt: skip
    assert lives(events)[1:] == [second.pid]
    assert streamed(events) == STORY
    (replaced,), (first, again) = of_type(events, "chat.replaced"), of_type(events, "chat.requested")
    assert again.at - replaced.at >= WISH_S * 1000 - 100, f"asked {again.at - first.at} ms later"
    eventually(lambda: cluster.meta(name)["status"] == "SUCCESS")


@pytest.mark.requirement("RUN-07", "OPS-12")
def test_a_chat_whose_tenant_has_spent_its_budget_holds_nothing_and_asks_in_the_next_window(
    cluster: Cluster, own_valkey: EmbeddedValkey, combination: Combination, name: str
) -> None:
    if not combination.default:
        pytest.skip("a budget's books are in Redis on every combination, and its runs park as all do")
    length = json.loads(cluster.env["FW_BUDGETS"])["window"]["window_s"]
    eventually(lambda: left_s(length) > 10, within=30)
    long = say(f"echo {'word ' * 600}", tenant="thrifty", max_tokens=1000)
    spent = cluster.client.chat.complete(long, timeout_s=60).cost
    assert spent is not None
    assert spent > 0.0002
    ends = time.time() + left_s(length)
    cluster.client.chat.submit(say("echo next", tenant="thrifty", max_tokens=1700), run_id=name)
    assert_parked(cluster, name, "waits to ask the provider again")
    second = restart(cluster, own_valkey)
    events = list(cluster.client.follow(name, timeout_s=90))
    assert is_right(events)
    (replaced,), (_, again) = of_type(events, "chat.replaced"), of_type(events, "chat.requested")
    assert replaced.data["failure"]["code"] == "over_budget"
    assert again.at >= ends * 1000 - 100
    assert lives(events)[1:] == [second.pid]
    assert cluster.client.result(name).message == {"role": "assistant", "content": "next"}
    chat = cluster.client.chat.submit(say("echo x", tenant="thrifty", model="unpriced"))
    sources = [{"id": "a", "content": "The lamp burned oil until 1931."}]
    cited = cluster.client.cite.submit(model="unpriced", question="?", sources=sources, tenant="thrifty")
    for unpriced in (chat, cited):
        (failed,) = of_type(list(cluster.client.follow(unpriced, timeout_s=60)), "run.failed")
        assert failed.data["failure"]["code"] == "price_unknown"


@pytest.mark.requirement("RUN-07", "TOOL-03", "RUN-06")
def test_a_chat_that_waits_for_another_service_holds_nothing_and_goes_on_with_its_result(
    cluster: Cluster, name: str
) -> None:
    cluster.tool_service()
    tool = remote("charge", timeout_s=600.0)
    cluster.client.chat.submit(say(f"use charge {name}", tools=[tool]), run_id=name)
    assert_parked(cluster, name, "waits for other services")
    second = cluster.worker("second", c=1)
    assert cluster.named("first").stop() == 0
    second.ready()
    assert types(cluster.client.events(name))[-1] == "run.parked"
    cluster.board.open_gate(name)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert cluster.client.result(name).message == {"role": "assistant", "content": f"told: {name} was charged"}
    assert lives(events)[-1] == second.pid
    assert types(events).count("run.parked") == 1
    assert cluster.board.marks(name) == ["charged"]
    eventually(lambda: cluster.meta(name)["status"] == "SUCCESS")


@pytest.mark.requirement("RUN-07", "TOOL-15", "RUN-06")
def test_a_call_that_waits_for_approval_holds_nothing_and_is_made_when_somebody_says_so(
    cluster: Cluster, own_valkey: EmbeddedValkey, name: str
) -> None:
    cluster.client.chat.submit(say(f"use wipe {name}", tools=["wipe"]), run_id=name)
    assert_parked(cluster, name, "waits for approval")
    second = restart(cluster, own_valkey)
    assert types(cluster.client.events(name))[-1] == "run.parked"
    assert cluster.board.marks(name) == []
    shown = json.loads(run(cluster, "runs", "show", name, "--json").stdout)
    assert [(call["call_id"], call["state"]) for call in shown["calls"]] == [("1.0", "waits for approval")]
    refused = run(cluster, "runs", "approve", name, "9.9")
    assert (refused.returncode, "those are 1.0" in refused.stderr) == (4, True), refused.stderr
    assert run(cluster, "runs", "approve", name, "--by", "ann", "--reason", "it is due").returncode == 0
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert cluster.client.result(name).message == {"role": "assistant", "content": f"told: {name} was wiped"}
    (approved,) = of_type(events, "tool.call_approved")
    assert (approved.data["by"], approved.data["reason"]) == ("ann", "it is due")
    assert lives(events)[-1] == second.pid
    assert cluster.board.marks(name) == ["wiped"]
    assert not cluster.client.approve(name, "1.0"), "the run is over"
