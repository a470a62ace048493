"""What an answer took: tokens, times, money; what of it was cut (`core.chat.account`)."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.answers import Usage
from api_contracts.chat import ChatResult, ChatTruncated, ChatUsage, Choice
from api_contracts.metering import Price, Timings
from tests.unit.core.turns import BUSY, LATER, RUN, T0, Life, check, local, remote, request, says, wants
from workers.core.chat.account import cost_of, server_times
from workers.core.chat.acts import AskModel, ModelAnswered
from workers.core.chat.turn import ChatTurn

PRICES = {
    "m": Price(prompt="0.20", cached="0.1", completion="0.80"),
    "n": Price(prompt="3", completion="15", priority=Price(prompt="6", completion="30")),
}


class Priced(Life):
    """A life with a price table."""

    def __post_init__(self) -> None:
        self.machine = ChatTurn(RUN, self.request, {card.name: card for card in self.cards}, T0, "secret", PRICES)
        for event, at in self.journal:
            self.machine.fold(event, at)


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-20")
@pytest.mark.parametrize(
    ("model", "usage", "tier", "cost"),
    [
        ("m", Usage(prompt_tokens=1_000_000), None, "0.2"),
        ("m", Usage(prompt_tokens=1_000_000, cached_tokens=400_000), None, "0.16"),
        ("m", Usage(completion_tokens=1_000_000, reasoning_tokens=900_000), None, "0.8"),
        ("m", Usage(prompt_tokens=3, completion_tokens=1), None, "0.0000014"),
        ("m", Usage(), None, "0"),
        ("n", Usage(prompt_tokens=2, cached_tokens=1), "default", "0.000006"),
        ("n", Usage(prompt_tokens=2, cached_tokens=1), "priority", "0.000012"),
        ("m", Usage(prompt_tokens=1, cached_tokens=9), None, "0.0000001"),
    ],
)
def test_a_cost_is_exact(model: str, usage: Usage, tier: str | None, cost: str) -> None:
    assert cost_of(usage, PRICES[model], tier) == Decimal(cost)


@pytest.mark.requirement("CHAT-20")
def test_what_has_no_price_has_no_cost() -> None:
    assert cost_of(Usage(prompt_tokens=1), None) is None
    assert cost_of(Usage(prompt_tokens=1), PRICES["m"], "priority") is None


@pytest.mark.requirement("CHAT-20")
@given(st.lists(st.tuples(*[st.integers(0, 10**7)] * 3), min_size=1, max_size=20))
def test_costs_add_up_to_the_last_digit(turns: list[tuple[int, int, int]]) -> None:
    usages = [Usage(prompt_tokens=p + c, cached_tokens=c, completion_tokens=o) for p, c, o in turns]
    costs = [cost_of(usage, PRICES["m"]) for usage in usages]
    assert sum(costs) == cost_of(sum(usages, Usage()), PRICES["m"])


@pytest.mark.requirement("CHAT-20")
def test_each_turn_and_the_run_have_their_cost_as_text() -> None:
    life = Priced(request(), [local("look")]).begin()
    life.answered(wants("look"))
    life.settled("1.0")
    life.answered(says("done"))
    assert [event.cost for event in life.events if isinstance(event, ChatUsage)] == [
        Decimal("0.0000024"),
        Decimal("0.000006"),
    ]
    assert [turn["cost"] for turn in life.result["turns"]] == ["0.0000024", "0.000006"]
    assert life.result["cost"] == 0.0000084
    assert json.loads(json.dumps(life.result)) == life.result
    assert ChatResult.model_validate(life.result).cost == Decimal("0.0000084")
    check(life)


@pytest.mark.requirement("CHAT-20", "CHAT-12")
def test_a_run_with_one_answer_of_an_unknown_price_has_no_cost() -> None:
    life = Priced(request(model="", route=["m", "stranger"]), [local("look")]).begin()
    life.answered(wants("look"))
    life.settled("1.0")
    life.failed(BUSY)
    life.at(life.now)
    life.answered(says("done"))
    assert "cost" not in life.result, "neither zero nor a sum that is too small"
    assert [(turn["model"], turn.get("cost")) for turn in life.result["turns"]] == [
        ("m", "0.0000024"),
        ("stranger", None),
    ]


@pytest.mark.requirement("CHAT-20")
def test_without_a_price_table_nothing_has_a_cost() -> None:
    life = Life(request()).begin()
    life.answered(says())
    assert "cost" not in life.result
    assert "cost" not in json.loads(life.last(ChatUsage).to_json())


@pytest.mark.requirement("CHAT-20", "RUN-04")
def test_a_successor_knows_what_was_spent() -> None:
    life = Priced(request(), [remote("look")]).begin()
    life.answered(wants("look"))
    again = Priced(life.request, life.cards, list(life.journal), life.now).begin()
    again.feed(again.letter("1.0", value="seen"))
    again.answered(says())
    assert again.result["cost"] == 0.0000084


# -- times -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-19")
def test_the_times_of_a_turn_are_told_with_how_long_it_waited_for_a_worker() -> None:
    life = Life(request(), now=T0 + 2.5).begin()
    took = Timings(connect_s=0.1, first_byte_s=0.2, first_token_s=0.3, processing_s=0.4, server={"prefill_duration": 1})
    life.feed(ModelAnswered(1, says(), took))
    expected = took.model_copy(update={"queued_s": 2.5})
    assert life.last(ChatUsage).timings == expected
    (turn,) = ChatResult.model_validate(life.result).turns
    assert (turn.round, turn.attempt, turn.model, turn.timings) == (1, 1, "m", expected)
    assert turn.usage == Usage(prompt_tokens=10, completion_tokens=5)


@pytest.mark.requirement("CHAT-19")
def test_a_turn_that_came_without_waiting_has_no_wait() -> None:
    life = Life(request(), [local("look")], now=T0 + 1).begin()
    life.answered(wants("look"))
    life.settled("1.0")
    life.answered(says())
    assert [turn["timings"].get("queued_s") for turn in life.result["turns"]] == [1.0, None]


@pytest.mark.requirement("CHAT-19", "RUN-07")
def test_a_turn_that_was_parked_for_waits_from_when_it_was_due() -> None:
    life = Life(request()).begin()
    life.failed(LATER, 0.0)
    assert life.parked is not None
    again = Life(life.request, (), list(life.journal), (life.parked.until or 0) + 3.0).begin()
    again.answered(says())
    assert again.result["turns"][0]["timings"]["queued_s"] == 3.0


@pytest.mark.requirement("CHAT-19", "RUN-07")
def test_a_turn_that_a_result_woke_waits_from_when_that_came() -> None:
    life = Life(request(), [remote("look")]).begin()
    life.answered(wants("look"))
    again = Life(life.request, life.cards, list(life.journal), T0 + 60).begin()
    again.feed(again.letter("1.0", f"{round((T0 + 58) * 1000)}-0", value="seen"))
    again.answered(says())
    assert again.result["turns"][1]["timings"]["queued_s"] == 2.0


@pytest.mark.requirement("CHAT-19")
def test_the_servers_own_times_are_seconds_whatever_else_is_told() -> None:
    told = {
        "server-time-to-first-token": "0.25", "server-processing-time": 1.5, "prefill-duration": "nan",
        "generation-duration": "-1", "tokenizer-duration": "soon", "tokenizer-queue-duration": None,
        "prompt-tokens": "12", "backend-host": "h",
    }  # fmt: skip
    expected = {"server_time_to_first_token": 0.25, "server_processing_time": 1.5}
    assert server_times(told) == expected
    assert server_times({f"fireworks-{name}": value for name, value in told.items()}, "fireworks-") == expected
    assert server_times({}) == {}


# -- what was cut ------------------------------------------------------------------------------------------------------


def cut(answer: Any, **fields: Any) -> list[tuple[str, int, int]]:
    life = Life(request(**fields)).begin()
    life.answered(answer)
    check(life)
    events = [event for event in life.events if isinstance(event, ChatTruncated)]
    assert all((event.round, event.attempt) == (1, 1) for event in events)
    return [(event.what, event.asked_tokens, event.got_tokens) for event in events]


@pytest.mark.requirement("CHAT-14")
def test_an_answer_that_is_shorter_than_was_asked_for_is_told() -> None:
    lets = {"context_length_exceeded_behavior": "truncate"}
    assert cut(says(finish="length"), max_tokens=100, **lets) == [("answer", 100, 5)]
    assert cut(says(finish="length"), max_completion_tokens=100, **lets) == [("answer", 100, 5)]
    assert cut(says(finish="length"), **lets) == [("answer", 2048, 5)]
    assert cut(says(finish="length"), max_tokens=5, **lets) == [], "it has the length that was asked for"
    assert cut(says(finish="stop"), max_tokens=100, **lets) == []
    assert cut(says(finish="length"), max_tokens=100) == [], "nothing is cut that may not be"


@pytest.mark.requirement("CHAT-14", "CHAT-22")
def test_of_several_answers_all_count() -> None:
    other = Choice(message={"role": "assistant", "content": "b"}, finish_reason="length")
    answer = says(finish="length")
    both = type(answer)(**{name: getattr(answer, name) for name in answer.__slots__} | {"others": (other,)})
    lets = {"context_length_exceeded_behavior": "truncate", "n": 2}
    assert cut(both, max_tokens=100, **lets) == [("answer", 200, 5)]
    assert cut(both, max_tokens=2, **lets) == []


@pytest.mark.requirement("CHAT-14")
def test_a_prompt_that_is_longer_than_it_may_be_is_told() -> None:
    long = {"messages": [{"role": "user", "content": "x" * 4000}]}
    assert cut(says(), prompt_truncate_len=500, **long) == [("prompt", 1000, 10)]
    assert cut(says(), prompt_truncate_len=1000, **long) == []
    assert cut(says(), **long) == []


@pytest.mark.requirement("CHAT-14")
def test_by_default_an_overflow_is_an_error() -> None:
    assert Life(request()).begin().last(AskModel).body["context_length_exceeded_behavior"] == "error"
