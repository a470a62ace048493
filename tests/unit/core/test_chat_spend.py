"""`limits.spend` of a chat (TOOL-16): what its answers may cost together."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from api_contracts.chat import ChatRequest, Limits
from tests.unit.core.test_chat_account import PRICES
from tests.unit.core.turns import RUN, T0, Life, check, local, request, says, wants
from workers.core.chat.acts import AskModel, ModelAnswered
from workers.core.chat.turn import ChatTurn

pytestmark = pytest.mark.requirement("TOOL-16")

ANSWER = "0.0000024"
"""What an answer of `wants` costs: 3 tokens at 0.80 a million."""


class Priced(Life):
    """A life with a price table."""

    def __post_init__(self) -> None:
        self.machine = ChatTurn(RUN, self.request, {card.name: card for card in self.cards}, T0, "secret", PRICES)
        for event, at in self.journal:
            self.machine.fold(event, at)


def life_of(spend: str, **fields: Any) -> Priced:
    return Priced(request(limits={"spend": spend}, **fields), [local("look")])


def choice(life: Life) -> str:
    return str(life.last(AskModel).body["tool_choice"])


def loop(life: Life) -> None:
    """Have the model make a call that it did not make before."""
    round_ = life.machine.state.round
    life.answered(wants(("look", f'{{"page": {round_}}}')))
    life.settled(f"{round_}.0")


@pytest.mark.parametrize(("spend", "rounds"), [(ANSWER, 1), ("0.0000025", 2), ("0.0000048", 2), ("0.0000049", 3)])
def test_once_it_is_spent_one_last_turn_without_tools_answers(spend: str, rounds: int) -> None:
    life = life_of(spend).begin()
    for _ in range(rounds):
        assert choice(life) == "auto"
        loop(life)
    assert choice(life) == "none"
    assert [call.state for call in life.machine.state.calls.values()] == ["succeeded"] * rounds
    life.answered(says("that is all I know"))
    assert life.result["status"] == "completed"
    assert life.result["message"]["content"] == "that is all I know"
    check(life)


def test_a_model_that_wants_tools_in_its_last_turn_ends_the_run() -> None:
    life = life_of(ANSWER).begin()
    loop(life)
    life.answered(wants("look"))
    assert life.result["failure"]["code"] == "spend_exhausted"
    assert len(life.result["tool_calls"]) == 1
    check(life)


@pytest.mark.requirement("RUN-04")
def test_a_successor_counts_what_was_spent_before() -> None:
    life = life_of(ANSWER).begin()
    life.answered(wants("look"))
    again = Priced(life.request, life.cards, list(life.journal)).begin()
    again.settled("1.0")
    assert choice(again) == "none"
    check(again)


def test_without_the_limit_nothing_ends_it_and_no_price_is_needed() -> None:
    life = Priced(request(), [local("look")]).begin()
    for _ in range(6):
        loop(life)
    assert choice(life) == "auto"
    assert Life(request(), [local("look")]).begin().machine.state.asking


@pytest.mark.parametrize(
    "fields", [{"model": "x"}, {"service_tier": "priority"}, {"model": None, "route": ["x", "m"]}], ids=str
)
def test_a_model_without_a_price_is_not_asked(fields: dict[str, Any]) -> None:
    life = life_of("1", **fields).begin()
    assert life.result["failure"]["code"] == "price_unknown"
    assert not any(isinstance(each, AskModel) for each in life.trace)
    assert repr(fields.get("model") or ("x" if "route" in fields else "m")) in life.result["failure"]["message"]
    check(life)


def test_after_an_answer_whose_cost_is_not_known_nothing_is_asked() -> None:
    life = life_of("1").begin()
    answer = wants("look")
    life.feed(ModelAnswered(1, replace(answer, details={"service_tier": "priority"})))
    life.settled("1.0")
    assert life.result["failure"]["code"] == "price_unknown", "the provider served it in a tier that has no price"
    check(life)


@pytest.mark.parametrize("wrong", ["0", "-1", "NaN", "much"])
def test_a_limit_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="spend"):
        request(limits={"spend": wrong})


def test_it_is_decimal_and_a_string_in_json_and_old_readers_do_not_meet_it_unless_it_is_set() -> None:
    given = ChatRequest.model_validate_json('{"model": "m", "messages": [{"role": "user", "content": "x"}], '
                                            '"limits": {"spend": 0.1}}')  # fmt: skip
    assert given.limits.model_dump(mode="json", exclude_none=True)["spend"] == "0.1"
    assert "spend" not in Limits().model_dump(mode="json", exclude_none=True)
