"""What the head of an answer says of the provider's limits (WIRE 5.2)."""

import pytest
from multidict import CIMultiDict

from workers.adapters.fireworks.limits import word_of
from workers.core.limits.meters import NOT_STATED, Stated, Word

pytestmark = pytest.mark.requirement("OPS-10")


def headers(**figures: str) -> CIMultiDict[str]:
    return CIMultiDict({f"X-Ratelimit-{name.replace('_', '-').title()}": value for name, value in figures.items()})


ALL = headers(
    over_limit="no", limit_requests="6000", remaining_requests="5999",
    limit_tokens_prompt="3600000", remaining_tokens_prompt="900000",
    limit_tokens_cache_adjusted_prompt="900000", remaining_tokens_cache_adjusted_prompt="900001",
    limit_tokens_generated="36000", remaining_tokens_generated="0",
)  # fmt: skip


def test_each_meter_is_read_under_its_name_as_a_share_of_its_limit() -> None:
    word = word_of(200, ALL)
    assert word == Word(
        stated=(Stated(6_000.0, 5_999 / 6_000), Stated(3.6e6, 0.25), Stated(900_000.0, 1.0), Stated(36_000.0, 0.0))
    )


def test_only_the_status_is_a_refusal_whatever_over_limit_says() -> None:
    refused = word_of(429, ALL)
    assert refused is not None
    assert refused.refused
    assert word_of(429, {}) == Word(refused=True)
    assert word_of(503, {}) is None, "it sheds load: that is no limit of ours"
    assert word_of(200, {"x-ratelimit-over-limit": "no"}) is None


def test_who_is_over_the_limit_runs_short_of_what_is_not_said_to_be_short() -> None:
    over = word_of(200, headers(over_limit="Yes", limit_requests="10", remaining_requests="9", limit_tokens_prompt="7"))
    assert over == Word(stated=(Stated(10.0, 0.0), Stated(7.0, 0.0), None, None))
    known = word_of(
        200, headers(over_limit="yes", limit_requests="10", remaining_requests="1", limit_tokens_prompt="7")
    )
    assert known == Word(stated=(Stated(10.0, 0.1), Stated(7.0), None, None))


@pytest.mark.parametrize("odd", ["", "many", "nan", "inf", "-5", "0"])
def test_what_is_no_limit_is_as_good_as_unsaid(odd: str) -> None:
    assert word_of(200, headers(limit_requests=odd, remaining_requests="1")) is None
    left = word_of(200, headers(limit_requests="10", remaining_requests=odd))
    assert left == Word(stated=(Stated(10.0, 0.0 if odd == "0" else None), *NOT_STATED[1:]))
