"""Budgets (OPS-12): which a run is under, the most that an answer can cost, and a run that waits for its budget."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.answers import Usage
from api_contracts.chat import ChatReplaced
from api_contracts.failure import Failure
from api_contracts.messages import image
from api_contracts.metering import Budget, Price
from tests.unit.core.turns import BUSY, Life, check, request, says
from workers.core.chat.account import cost_of
from workers.core.chat.ceiling import Ceiling, ceiling_of, units_of
from workers.core.chat.tries import MOST_REFUSALS
from workers.core.limits.budgets import (
    LOOK_S,
    Book,
    Purse,
    not_known,
    over_budget,
    purses_of,
    reserve,
    settle,
    to_units,
)
from workers.core.runs.frame import HOLD_S, Begin, Park

pytestmark = pytest.mark.requirement("OPS-12")

PRICES = {
    "m": Price(prompt="0.20", cached="0.1", completion="0.80", priority=Price(prompt="2", completion="8")),
    "odd": Price(prompt="1", cached="3", completion="1"),
    "plain": Price(prompt="1", completion="1"),
}
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}


# -- which budgets -----------------------------------------------------------------------------------------------------


def names(budgets: dict[str, Budget], whose: str = "acme", **labels: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(purse.name, purse.values) for purse in purses_of(budgets, whose, labels)]


def test_a_run_is_under_the_budgets_whose_labels_it_has() -> None:
    budgets = {
        "all": Budget(limit="9", by=()),
        "each tenant": Budget(limit="5"),
        "each team of a tenant": Budget(limit="2", by=("tenant", "team")),
        "acme": Budget(limit="3", only={"tenant": "acme"}),
        "red": Budget(limit="1", by=("team",), only={"team": "red"}),
    }
    assert names(budgets, "beta") == [("all", ()), ("each tenant", ("beta",))]
    assert names(budgets, team="red") == [
        ("all", ()), ("each tenant", ("acme",)), ("each team of a tenant", ("acme", "red")), ("acme", ("acme",)),
        ("red", ("red",)),
    ]  # fmt: skip
    assert names(budgets, "beta", tenant="acme") == [("all", ()), ("each tenant", ("beta",))], "a label is no tenant"
    assert purses_of(budgets, "beta", {})[0] == Purse("all", (), 9 * 10**9, 86_400)


@pytest.mark.parametrize(("amount", "units"), [("1", 10**9), ("0.0000000001", 1), ("0", 0), ("0.1", 10**8)])
def test_money_is_whole_units_rounded_up(amount: str, units: int) -> None:
    assert to_units(Decimal(amount)) == units


# -- the most that an answer costs -------------------------------------------------------------------------------------


def most(**fields: Any) -> int:
    found = ceiling_of(BODY | fields, PRICES)
    assert isinstance(found, Ceiling), found
    return found.units


@given(st.text(max_size=300), st.integers(1, 5), st.integers(1, 1000))
def test_no_answer_costs_more_than_its_ceiling(text: str, n: int, longest: int) -> None:
    messages = [{"role": "user", "content": text}]
    # A token has a byte or more: this is the worst that a tokeniser can do.
    worst = Usage(prompt_tokens=len(text.encode(errors="replace")), completion_tokens=n * longest)
    cost = units_of(worst, PRICES["m"], None)
    assert cost is not None
    assert cost <= most(messages=messages, n=n, max_tokens=longest)


def test_the_ceiling_is_that_of_what_is_sent() -> None:
    bare = {name: value for name, value in BODY.items() if name != "max_tokens"}
    found = ceiling_of(bare, PRICES)
    assert isinstance(found, Ceiling)
    assert found.body == bare | {"max_tokens": 2048}
    assert found.units - most() == (2048 - 100) * 800 + 200, "and a digit more of the prompt"
    assert most(max_completion_tokens=1) < most(), "the provider's other name for it"
    assert most(tools=[{"type": "function", "function": {"name": "f", "description": "x" * 1000}}]) > most() + 200_000
    assert most(service_tier="priority") == 10 * (most() + len(', "service_tier": "priority"') * 200)
    assert most(model="odd") > most(model="plain"), "a cache that is dearer than none"


def test_pictures_count_as_the_largest_and_not_by_their_bytes() -> None:
    content = [{"type": "text", "text": "what is it?"}, image("data:image/png;base64," + "A" * 400_000)]
    with_picture = most(messages=[{"role": "user", "content": content}])
    without = most(messages=[{"role": "user", "content": content[:1]}])
    assert with_picture - without == 16_384 * 200


def code(body: dict[str, Any]) -> str:
    found = ceiling_of(body, PRICES)
    assert isinstance(found, Failure)
    assert not found.retryable
    return found.code


def test_what_has_no_price_or_no_bound_is_refused_and_counts_not_as_nothing() -> None:
    assert code(BODY | {"model": "unknown"}) == "price_unknown"
    assert code(BODY | {"model": "plain", "service_tier": "priority"}) == "price_unknown"
    clip = {"type": "video_url", "video_url": {"url": "https://x.test/a.mp4"}}
    assert code(BODY | {"messages": [{"role": "user", "content": [clip]}]}) == "cost_unbounded"


def test_what_nobody_counted_has_no_known_cost() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=1)
    assert units_of(usage, PRICES["m"], None) == to_units(cost_of(usage, PRICES["m"]) or Decimal(-1)) == 2800
    assert units_of(usage.model_copy(update={"estimated": True}), PRICES["m"], None) is None
    assert units_of(usage, PRICES["plain"], "priority") is None


# -- the books ---------------------------------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60), st.sampled_from(["reserve", "settle", "die"])))


@given(STEPS, st.integers(1, 100))
def test_settled_and_reserved_together_stay_within_the_limit(steps: list[tuple[int, int, str]], limit: int) -> None:
    book, purse, amounts = Book(), Purse("b", (), limit, 3600), dict[str, int]()
    for at, (name, amount, what) in enumerate(steps):
        if what == "reserve" and reserve([book], [purse], f"r{name}", amount, at).granted:
            amounts.setdefault(f"r{name}", amount)
        elif what == "settle":
            settle([book], [purse], f"r{name}", min(amount, amounts.pop(f"r{name}", 0)), at)
        assert book.settled + sum(book.open.values()) <= limit


# -- a run that waits for its budget -----------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-07")
@pytest.mark.parametrize("failure", [over_budget("day", 600.0), not_known()])
def test_it_parks_at_no_cost_to_its_tries_and_asks_again_in_another_life(failure: Failure) -> None:
    life = Life(request(limits={"retries": 0})).begin()
    for _ in range(MOST_REFUSALS + 2):
        life.failed(failure, 0.5)
        retry_at = life.last(ChatReplaced).retry_at
        assert retry_at is not None
        assert retry_at >= life.now + (failure.retry_after_s or 0.0)
        if retry_at - life.now > HOLD_S:
            assert life.trace[-1] == Park(retry_at, "waits to ask the provider again")
        life = Life(life.request, (), list(life.journal), retry_at)
        life.feed(Begin("x"))
    life.answered(says("at last"))
    assert life.result["status"] == "completed"
    check(life)


def test_it_looks_each_hour_whether_the_limit_was_raised() -> None:
    assert over_budget("day", 80_000.0).retry_after_s == LOOK_S
    assert over_budget("day", 80.0).retry_after_s == 80.0


def test_a_retry_that_was_made_still_counts_beside_it() -> None:
    life = Life(request(limits={"retries": 0})).begin()
    life.failed(over_budget("day", 60.0), 0.5)
    due = life.machine.deadline
    assert due is not None
    life.at(due)
    life.failed(BUSY)
    assert life.result["failure"]["code"] == "busy"
