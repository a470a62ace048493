"""What a request asks to be told beside its answer, through a real worker and into the result."""

import pytest

from api_contracts.chat import ChatResult
from tests.acceptance.cluster import Cluster, say


@pytest.mark.requirement("CHAT-01", "CHAT-22")
def test_answers_logprobs_tokens_tier_and_metrics_are_in_the_result(cluster: Cluster, name: str) -> None:
    asked = say(
        "Tell me something", n=2, logprobs=True, top_logprobs=1, seed=7, stop=["#"], service_tier="priority",
        prediction="as before", return_token_ids=True, perf_metrics_in_response=True, temperature=0.5,
    )  # fmt: skip
    cluster.client.chat.submit(asked, run_id=name)
    list(cluster.client.follow(name, timeout_s=60))
    result = cluster.client.result(name)
    assert isinstance(result, ChatResult)
    assert result.message is not None
    (other,) = result.choices
    for message, details in ((result.message, result.details), (other.message, other.details)):
        tokens = details["logprobs"]["content"]
        assert "".join(token["token"] for token in tokens) == message["content"]
        assert details["token_ids"] == [token["token_id"] for token in tokens]
    assert other.message["content"] != result.message["content"]
    assert result.details["service_tier"] == "priority"
    assert result.details["perf_metrics"]["speculation-prompt-tokens"] == "2"
