"""A provider that fails: what is retried, what is not, what a follower is told."""

from decimal import Decimal

import pytest

from api_contracts import keys
from tests.acceptance.cluster import MODEL, Cluster, say
from tests.acceptance.journal import is_right, of_type, streamed, types
from tests.acceptance.scene import STORY
from tests.waiting import eventually


@pytest.mark.requirement("CHAT-10", "CHAT-02", "CHAT-09")
@pytest.mark.parametrize(
    ("fault", "attempts", "code"),
    [
        ("twice500", 3, "provider_unavailable"),
        ("cut", 2, "provider_connection_lost"),
        ("instream", 2, "provider_unavailable"),
    ],
)
def test_a_passing_fault_is_retried_and_the_follower_is_told(
    cluster: Cluster, name: str, fault: str, attempts: int, code: str
) -> None:
    cluster.client.chat.submit(say(fault), run_id=name)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    replaced = of_type(events, "chat.replaced")
    assert [event.data["attempt"] for event in replaced] == list(range(1, attempts))
    assert {event.data["failure"]["code"] for event in replaced} == {code}
    assert types(events).count("chat.requested") == attempts
    assert streamed(events) == STORY
    assert cluster.client.result(name).message == {"role": "assistant", "content": STORY}


@pytest.mark.requirement("CHAT-09", "RUN-09")
def test_a_refused_key_fails_as_authentication_without_a_retry(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say("denied"), run_id=name)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert types(events).count("chat.requested") == 1
    failure = cluster.client.result(name).failure
    assert failure is not None
    assert (failure.category, failure.at_fault, failure.retryable) == ("authentication", "us", False)
    assert failure.provider_status == 403
    assert failure.provider_request_id


@pytest.mark.requirement("CHAT-03")
@pytest.mark.parametrize("model", ["emulated-classic", "emulated-new"], ids=["on the last choice", "on its own chunk"])
def test_both_styles_of_usage_are_counted(cluster: Cluster, name: str, model: str) -> None:
    request = say("echo one two three", model=MODEL.replace("emulated-classic", model))
    first = cluster.client.chat.complete(request, timeout_s=60)
    again = cluster.client.chat.complete(request, timeout_s=60)
    assert first.usage.completion_tokens == 3
    assert first.usage.prompt_tokens == again.usage.prompt_tokens > 0
    assert again.usage.cached_tokens > 0
    assert not first.usage.estimated


@pytest.mark.requirement("CHAT-13")
def test_more_tokens_than_a_plain_answer_may_have_are_no_trouble(cluster: Cluster) -> None:
    result = cluster.client.chat.complete(say("echo at length", max_tokens=100_000), timeout_s=60)
    assert result.message == {"role": "assistant", "content": "at length"}


@pytest.mark.requirement("CHAT-05")
def test_an_answer_that_was_cut_at_the_limit_says_so(cluster: Cluster) -> None:
    result = cluster.client.chat.complete(say("echo one two three", max_tokens=2), timeout_s=60)
    assert (result.status, result.finish_reason) == ("completed", "length")
    assert result.message == {"role": "assistant", "content": "one two"}


@pytest.mark.requirement("CHAT-12")
def test_a_model_that_is_not_there_is_passed_over_for_the_next_of_the_route(cluster: Cluster, name: str) -> None:
    route = [f"{MODEL}-missing", {"model": f"{MODEL}-gone", "credential": None}, MODEL]
    cluster.client.chat.submit(say("echo at last", model="", route=route), run_id=name)
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert [event.data["model"] for event in of_type(events, "chat.requested")] == [route[0], f"{MODEL}-gone", MODEL]
    replaced = of_type(events, "chat.replaced")
    assert {event.data["failure"]["code"] for event in replaced} == {"provider_model_not_found"}
    assert [event.data.get("next") for event in replaced] == [1, 2]
    assert cluster.client.result(name).message == {"role": "assistant", "content": "at last"}


@pytest.mark.requirement("CHAT-19", "CHAT-20")
def test_each_turn_tells_its_times_and_its_cost(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say("echo one two", perf_metrics_in_response=True), run_id=name)
    events = list(cluster.client.follow(name, timeout_s=60))
    result = cluster.client.result(name)
    (turn,) = result.turns
    assert (turn.round, turn.attempt, turn.model, turn.usage) == (1, 1, MODEL, result.usage)
    took = turn.timings
    assert took.queued_s is not None
    assert took.connect_s is not None
    assert 0 <= took.connect_s <= took.first_byte_s <= took.first_token_s <= took.processing_s
    assert took.first_byte_s > 0
    assert {"server_time_to_first_token", "server_processing_time"} <= took.server.keys()
    usage = turn.usage
    prompt = Decimal("0.2") * (usage.prompt_tokens - usage.cached_tokens) + Decimal("0.1") * usage.cached_tokens
    assert result.cost == turn.cost == (prompt + Decimal("0.9") * usage.completion_tokens) / 1_000_000
    (told,) = of_type(events, "chat.usage")
    assert isinstance(told.data["cost"], str)
    unpriced = cluster.client.chat.complete(say("echo x", model=MODEL.replace("classic", "new")), timeout_s=60)
    assert (unpriced.status, unpriced.cost) == ("completed", None)


@pytest.mark.requirement("OPS-10")
def test_what_the_provider_states_of_its_limits_is_learned_for_the_fleet(cluster: Cluster) -> None:
    def learned() -> dict[str, str]:
        """What a process was told travels with its next question."""
        cluster.client.chat.complete(say("echo hello"), timeout_s=60)
        return cluster.redis.hgetall(keys.limits(None, MODEL))

    assert eventually(lambda: "limit4" in (found := learned()) and found, within=60)["limit4"] == "36000"
    assert cluster.redis.hget(keys.limits(None), "limit1") == "6000"
