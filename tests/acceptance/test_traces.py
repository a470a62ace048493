"""What runs leave behind: keys that age, logs without keys and content."""

import re
from collections.abc import Iterator

import pytest
from celery import Celery

from api_contracts import keys
from tests.acceptance.cluster import KEY, Cluster, remote, say
from tests.acceptance.journal import is_right
from tests.servers import endless_keys, keys_of
from tests.waiting import eventually

DAY_S = 86_400


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Celery]:
    with cluster.foreign_app() as app:
        yield app


@pytest.mark.requirement("RUN-11")
def test_every_key_of_a_finished_and_announced_run_ages(cluster: Cluster, name: str) -> None:
    """Request and result are spilled, the inbox has a letter: it has every key that a run can have."""
    tools = [remote("read")]
    text = f"use read {name} " + "x" * 70_000
    cluster.client.chat.submit(say(text, tools=tools), run_id=name)
    assert is_right(list(cluster.client.follow(name, timeout_s=60)))
    eventually(lambda: cluster.announced(name))
    found = keys_of(cluster.valkey.url, f"fw:*{name}*")
    assert {keys.events(name), keys.inbox(name), keys.lease(name), keys.blob(name, 0)} <= set(found)
    ages = {key: int(cluster.redis.ttl(key)) for key in found}
    assert all(0 < age <= DAY_S for age in ages.values()), ages
    assert cluster.redis.zscore(keys.due(name[-1]), name) is None
    assert endless_keys(cluster.valkey.url) == []


@pytest.mark.requirement("RUN-09", "RUN-25")
def test_neither_the_provider_s_key_nor_content_is_in_any_log_or_message(
    cluster: Cluster, app: Celery, name: str
) -> None:
    """Every way a run can end, each with a canary in its request, its answer or its tool's arguments."""
    canary = f"canary{name}"
    ways = {
        "echo": say(f"echo {canary}"),
        "worker-tool": say(f"use lookup {canary}", tools=["lookup"]),
        "service-tool": say(f"use read {canary}", tools=[remote("read")]),
        "raising-tool": say(f"use raises {canary}", tools=["raises"]),
        "denied": say(f"denied {canary}"),
        "bad": say(f"echo {canary}", temperature=canary),
        "odd": say(f"echo {canary}", odd=canary),
    }
    for way, request in ways.items():
        task_id = f"{way}-{name}"
        app.send_task("fireworks.chat.complete", kwargs={"request": request}, task_id=task_id, queue="fireworks.chat")
    for way in ways:
        assert is_right(list(cluster.client.follow(f"{way}-{name}", timeout_s=60)))
        eventually(lambda way=way: cluster.announced(f"{way}-{name}"))
    ours = {who: text for who, text in cluster.logs().items() if not who.startswith("tools")}
    assert sum(text.count(name) for text in ours.values()) >= len(ways)
    shown = [found for text in ours.values() for found in re.findall(rf".*(?:{canary}|{KEY}).*", text)]
    assert shown == []
    signature = cluster.redis.hget(keys.lease(f"echo-{name}"), "signature")
    assert signature
    assert canary not in str(signature)
    assert KEY not in str([cluster.client.events(f"{way}-{name}") for way in ways])
