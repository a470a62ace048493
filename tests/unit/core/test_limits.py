"""The arithmetic of the provider's meters (OPS-10): no overshoot, interactive first, nobody starved, the ramp."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_contracts.chat import Usage
from workers.core.limits.costs import Average, held_back, is_held_back
from workers.core.limits.meters import (
    AGED_S,
    BOUND_S,
    BURST,
    CUT_S,
    FILL,
    HOLD_S,
    LEARNED,
    LEAST,
    METERS,
    NOT_STATED,
    RAMP_S,
    Amounts,
    Fixed,
    Lane,
    Meter,
    ModelMeters,
    Stated,
    Told,
    Word,
)

pytestmark = pytest.mark.requirement("OPS-10")

T0 = 1_000_000.0
LIMIT = 6_000.0
GENERATED: Fixed = (None, None, None, LIMIT)
REQUESTS: Fixed = (60.0, None, None, None)

LANES = st.sampled_from(["interactive", "background"])
STEPS = st.lists(st.tuples(st.floats(0, 5), LANES, st.integers(1, 800)), min_size=1, max_size=200)


def meters(fixed: Fixed = GENERATED) -> ModelMeters:
    made = ModelMeters.of(Meter(), fixed)
    made.hear(Word(), T0)
    return made


def ask(
    of: ModelMeters, now: float, lane: Lane = "interactive", generated: float = 100.0, word: Word | None = None
) -> Told:
    of.hear(word or Word(), now)
    return of.ask(lane, Amounts(1.0, 0.0, 0.0, generated), now)


def stated(left: float | None, limit: float = LIMIT) -> Word:
    return Word(stated=(*NOT_STATED[:3], Stated(limit, left)))


def drain(of: ModelMeters, now: float, generated: float = 100.0) -> int:
    """Ask until one is refused; return how many were let in."""
    count = 0
    while ask(of, now, generated=generated).granted:
        count += 1
        assert count < 10_000, "there is no end to it"
    return count


@settings(max_examples=40)
@given(STEPS)
def test_no_minute_starts_more_than_the_limit_but_for_its_last_request(steps: list[tuple[float, Lane, int]]) -> None:
    of, now, starts = meters(), T0, list[tuple[float, int, Lane]]()
    for pause, lane, cost in steps:
        now += pause
        told = ask(of, now, lane, cost)
        if told.granted:
            starts.append((now + told.wait_s, cost, lane))
            assert told.wait_s <= HOLD_S
        else:
            assert told.wait_s > 0
    starts.sort()
    behind = max((cost for _, cost, lane in starts if lane == "background"), default=0)
    for first, _, _ in starts:
        minute = [cost for at, cost, _ in starts if first <= at < first + 60]
        # One aged background request a minute goes into debt, and so does the last one of all.
        assert sum(minute) <= LIMIT * (FILL + BURST) + max(minute) + 2 * behind


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(50, int(LIMIT / 12))), min_size=1, max_size=50))
def test_requests_of_a_twelfth_of_the_limit_never_overshoot_it(steps: list[tuple[float, int]]) -> None:
    of, now, starts = meters(), T0, list[tuple[float, int]]()
    for pause, cost in steps:
        now += pause
        while (told := ask(of, now, generated=cost)).granted:
            starts.append((now + told.wait_s, cost))
    for first, _ in starts:
        assert sum(cost for at, cost in starts if first <= at < first + 60) <= LIMIT


def test_the_steady_rate_is_over_the_half_at_which_the_provider_raises_the_limit() -> None:
    of, taken = meters(), 0
    for second in range(600):
        taken += drain(of, T0 + second)
    assert taken * 100 / 10 > LIMIT / 2


@pytest.mark.parametrize("cost", [100.0, 3_000.0])
def test_background_is_let_through_though_interactive_requests_take_all_there_is(cost: float) -> None:
    of, granted = meters(), list[float]()
    for tick in range(6_000):  # ten minutes
        now = T0 + tick / 10
        drain(of, now)
        if tick % 50 == 0 and ask(of, now, "background", cost).granted:
            granted.append(now)
    gaps = [later - earlier for earlier, later in zip([T0, *granted], granted, strict=False)]
    assert granted
    assert max(gaps) <= AGED_S + 5.1


def test_interactive_requests_go_first() -> None:
    of = meters()
    drain(of, T0)
    ahead = ask(of, T0 + 3)
    behind = ask(of, T0 + 3, "background")
    assert (ahead.granted, behind.granted) == (True, False)
    assert behind.wait_s > HOLD_S, "it waits until half of the bucket is full"


@given(st.floats(0, 40), st.integers(0, 12))
def test_where_background_goes_an_interactive_request_goes_at_once(later: float, before: int) -> None:
    one, other = meters(), meters()
    for of in (one, other):
        for _ in range(before):
            ask(of, T0)
    if ask(one, T0 + later, "background").granted:
        assert ask(other, T0 + later) == Told(granted=True, wait_s=0.0)


def test_requests_let_in_ahead_start_in_the_order_in_which_they_asked() -> None:
    of = meters()
    waits = [told.wait_s for _ in range(30) if (told := ask(of, T0)).granted]
    assert waits == sorted(waits)
    assert waits[0] == 0.0
    assert 0 < waits[-1] <= HOLD_S


def test_a_refused_request_that_comes_when_it_was_told_is_let_in() -> None:
    of = meters()
    drain(of, T0)
    told = ask(of, T0)
    assert not told.granted
    assert ask(of, T0 + told.wait_s).granted


def test_a_large_request_waits_no_longer_than_a_small_one() -> None:
    one, other = meters(), meters()
    drain(one, T0)
    drain(other, T0)
    assert ask(one, T0 + 3, generated=1.0).wait_s == ask(other, T0 + 3, generated=LIMIT).wait_s


def test_what_was_taken_too_much_goes_back_and_never_more_than_the_bucket_holds() -> None:
    of = meters()
    ask(of, T0, generated=900.0)
    of.hear(Word(back=Amounts(generated=800.0)), T0)
    assert of.meters[3].level == pytest.approx(LIMIT * BURST - 100)
    of.hear(Word(back=Amounts(generated=5_000.0)), T0)
    assert of.meters[3].level == pytest.approx(LIMIT * BURST)


def test_a_request_whose_worker_died_is_forgotten_with_the_minute() -> None:
    of = meters()
    ask(of, T0, generated=LIMIT)
    assert not ask(of, T0 + 1).granted
    assert ask(of, T0 + 60 / FILL) == Told(granted=True)


def test_requests_are_an_accounts_and_tokens_a_models() -> None:
    account = Meter()
    one, other = (ModelMeters.of(account, (60.0, None, None, LIMIT)) for _ in range(2))
    assert drain(one, T0, generated=0.0) > 10
    assert not ask(other, T0, generated=0.0).granted, "another model of the same account"
    assert ask(meters(), T0).granted


# -- what the provider says --------------------------------------------------------------------------------------------


def test_a_learned_meter_binds_only_while_the_provider_says_that_it_runs_short() -> None:
    of = meters(LEARNED)
    assert all(ask(of, T0).granted for _ in range(1_000)), "nothing is known"
    assert all(ask(of, T0, word=stated(1.0)).granted for _ in range(1_000)), "there is plenty"
    assert all(ask(of, T0, word=stated(None)).granted for _ in range(1_000)), "how much is left was not said"
    assert not ask(of, T0, generated=LIMIT, word=stated(0.2)).wait_s
    assert not ask(of, T0).granted, "and now it binds"
    assert ask(of, T0, word=stated(0.9)).granted, "it is ample again"


def test_a_learned_meter_binds_no_longer_than_a_minute_without_a_word() -> None:
    of = meters(LEARNED)
    ask(of, T0, generated=10 * LIMIT, word=stated(0.0))
    assert not ask(of, T0 + 59).granted
    assert ask(of, T0 + 61) == Told(granted=True)


def test_what_is_left_by_the_provider_counts_where_it_is_less_than_ours() -> None:
    of = meters()
    of.hear(stated(0.25), T0)
    assert of.meters[3].level == pytest.approx(LIMIT * BURST / 4)
    of.hear(stated(0.45), T0)
    assert of.meters[3].level == pytest.approx(LIMIT * BURST / 4)


def test_an_operators_limit_stands_whatever_the_provider_states() -> None:
    of = meters()
    of.hear(stated(1.0, limit=100 * LIMIT), T0)
    assert of.meters[3].limit == LIMIT
    drain(of, T0)
    assert not ask(of, T0, word=stated(1.0)).granted


def test_the_provider_raises_and_lowers_the_limit() -> None:
    of = meters(LEARNED)
    for limit in (36_000.0, 216_000.0, 36_000.0):
        of.hear(stated(0.3, limit), T0)
        assert of.meters[3].limit == limit
        assert of.meters[3].level <= limit * BURST


# -- the ramp ----------------------------------------------------------------------------------------------------------

REFUSED = Word(refused=True)


def test_a_refusal_halves_the_share_and_it_ramps_up_again() -> None:
    of = meters()
    of.hear(REFUSED, T0)
    assert of.share == 0.5
    of.hear(Word(), T0 + RAMP_S / 4)
    assert of.share == pytest.approx(0.75)
    of.hear(Word(), T0 + RAMP_S)
    assert of.share == 1.0


def test_a_wave_of_refusals_is_one() -> None:
    of = meters()
    for _ in range(50):
        of.hear(REFUSED, T0 + CUT_S / 2)
    assert of.share == 0.5


def test_refusals_that_go_on_leave_a_trickle() -> None:
    of, now = meters(), T0
    for _ in range(100):
        now += CUT_S
        of.hear(REFUSED, now)
    assert of.share >= LEAST
    assert ask(of, now + 60).granted


def test_while_the_share_ramps_up_less_is_let_in() -> None:
    whole, cut = meters(), meters()
    cut.hear(REFUSED, T0)
    assert sum(drain(cut, T0 + second) for second in range(30)) < 0.7 * sum(
        drain(whole, T0 + second) for second in range(30)
    )


def test_a_refusal_makes_a_learned_meter_bind_for_a_minute_or_until_it_is_ample() -> None:
    of = meters(LEARNED)
    of.hear(stated(1.0), T0)
    of.hear(stated(1.0)._replace(refused=True), T0)
    assert drain(of, T0) < 100, "the status counts, not what else it says"
    assert all(ask(of, T0 + BOUND_S).granted for _ in range(1_000))
    of.hear(REFUSED, T0 + BOUND_S)
    assert drain(of, T0 + BOUND_S) < 100
    assert all(ask(of, T0 + BOUND_S, word=stated(1.0)).granted for _ in range(1_000))


# -- words and costs ---------------------------------------------------------------------------------------------------


def test_words_are_put_together() -> None:
    one = Word(Amounts(generated=5.0), stated(0.4).stated)
    other = Word(Amounts(1.0, generated=-2.0), refused=True)
    assert one.then(other) == Word(Amounts(1.0, generated=3.0), one.stated, refused=True)
    assert other.then(stated(0.9)).then(one).stated == one.stated, "the newest counts"
    assert [word.is_urgent for word in (Word(), stated(0.9), stated(None), stated(0.4), other)] == [
        False, False, False, True, True,
    ]  # fmt: skip


def test_a_request_is_taken_for_what_those_before_it_took() -> None:
    average = Average()
    first = average.of(4_000, {})
    assert first == Amounts(1.0, 1_000.0, 1_000.0, 1_024.0)
    for _ in range(200):
        average.learn(4_000, 1, Usage(prompt_tokens=2_000, cached_tokens=1_500, completion_tokens=50))
    assert tuple(average.of(4_000, {})) == pytest.approx((1.0, 2_000.0, 500.0, 100.0), rel=0.01)


def test_no_answer_is_taken_for_longer_than_it_may_be() -> None:
    assert Average().of(4, {"max_tokens": 7}).generated == 7
    assert Average().of(4, {"max_completion_tokens": 9, "n": 3}).generated == 27


def test_an_estimated_usage_says_nothing_of_the_cache() -> None:
    average = Average()
    average.learn(4_000, 1, Usage(prompt_tokens=9, estimated=True))
    assert (average.scale, average.uncached) == (1.0, 1.0)


def test_an_attempt_that_is_held_back_is_nobodys_failure() -> None:
    failure = held_back(7.0)
    assert is_held_back(failure)
    assert (failure.retry_after_s, failure.retryable, failure.at_fault) == (7.0, True, "us")
    assert len(METERS) == len(Amounts())
