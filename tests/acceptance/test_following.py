"""A producer with our client: submit, follow, result."""

import pytest
from celery.result import AsyncResult
from pydantic import ValidationError

from api_contracts.chat import ChatResult
from api_contracts.client import AsyncClient
from api_contracts.failure import RunConflict, RunNotFound
from api_contracts.keys import derived_run_id
from tests.acceptance.cluster import Cluster, say
from tests.acceptance.journal import is_right, streamed, types
from tests.acceptance.scene import STORY
from tests.servers import keys_of
from tests.waiting import eventually


@pytest.mark.requirement("RUN-08", "RUN-02", "CHAT-02")
def test_a_chat_streams_and_its_result_is_in_sql_in_the_event_and_in_celery(cluster: Cluster, name: str) -> None:
    run_id = cluster.client.chat.submit(say("short"), run_id=name)
    events = []
    for event in cluster.client.follow(run_id, timeout_s=60):
        events.append(event)
        stored = cluster.client._sql.get(run_id) if event.terminal else None
    assert is_right(events)
    assert types(events).count("chat.delta") > 5
    assert streamed(events) == STORY
    assert stored == events[-1].data["result"]
    with cluster.foreign_app() as app:
        assert AsyncResult(run_id, app=app).get(timeout=120) == stored
    result = cluster.client.result(run_id)
    assert result == ChatResult.model_validate(stored)
    assert (result.status, result.message) == ("completed", {"role": "assistant", "content": STORY})


@pytest.mark.requirement("RUN-14", "RUN-02")
async def test_the_async_client_does_the_same_and_resumes_from_a_seq(cluster: Cluster, name: str) -> None:
    settings = cluster.client.settings
    async with AsyncClient(settings) as client:
        run_id = await client.chat.submit(say("short"), run_id=name)
        seen = []
        async for event in client.follow(run_id, timeout_s=60):
            seen.append(event)
            if event.type == "chat.delta":
                break
        seen += [event async for event in client.follow(run_id, after=seen[-1].seq, timeout_s=60)]
        assert is_right(seen)
        assert (await client.result(run_id)).message == {"role": "assistant", "content": STORY}
        assert await client.cancel(run_id) is False
    assert seen == cluster.client.events(run_id) == list(cluster.client.follow(run_id))


@pytest.mark.requirement("RUN-14")
def test_many_followers_read_the_same_journal_from_wherever_they_begin(cluster: Cluster, name: str) -> None:
    run_id = cluster.client.chat.submit(say("echo hello"), run_id=name)
    whole = list(cluster.client.follow(run_id, timeout_s=60))
    assert is_right(whole)
    for seq in range(len(whole)):
        assert list(cluster.client.follow(run_id, after=seq)) == whole[seq:]


@pytest.mark.requirement("RUN-14")
@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "m", "messages": []},
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 3},
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "no_such_field": 1},
    ],
    ids=["no messages", "out of range", "unknown field"],
)
def test_a_bad_request_fails_in_the_caller_and_nothing_is_enqueued(
    cluster: Cluster, name: str, wrong: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        cluster.client.chat.submit(wrong, run_id=name)
    assert not cluster.client.known(name)
    assert cluster.logged("run.dropped", name) == 0
    with pytest.raises(RunNotFound):
        cluster.client.result(name)


@pytest.mark.requirement("RUN-01")
def test_the_same_id_twice_is_one_run_and_another_request_under_it_raises(cluster: Cluster, name: str) -> None:
    ids = {cluster.client.chat.submit(say("short"), run_id=name) for _ in range(3)}
    assert ids == {name}
    with pytest.raises(RunConflict):
        cluster.client.chat.submit(say("short, please"), run_id=name)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert types(events).count("chat.requested") == 1


@pytest.mark.requirement("RUN-01")
def test_an_idempotency_key_makes_the_id(cluster: Cluster, name: str) -> None:
    first = cluster.client.chat.submit(say("echo once"), idempotency_key=name)
    again = cluster.client.chat.submit(say("echo once"), idempotency_key=name)
    assert first == again == derived_run_id("default", name)
    assert cluster.client.result(first, timeout_s=60).status == "completed"


@pytest.mark.requirement("RUN-08")
def test_a_result_can_be_read_after_redis_was_wiped_of_the_run(cluster: Cluster, name: str) -> None:
    before = cluster.client.result(cluster.client.chat.submit(say("echo kept"), run_id=name), timeout_s=60)
    eventually(lambda: cluster.announced(name))
    cluster.redis.delete(*keys_of(cluster.valkey.url, f"*{name}*"))
    assert not cluster.client.known(name)
    assert cluster.client.result(name) == before
