"""Rows: kept once, read in order, settled once, counted."""

from tests.contract.batch_rows.worlds import World, bad, given, lines_of_shard, row
from workers.adapters.memory.batch_rows import KeptRow
from workers.core.batch.acts import Counts, Verdict
from workers.core.batch.outputs import RowOutcome
from workers.core.batch.rows import line_of

ANSWER = b'{"choices":[{"index":0,"finish_reason":"stop"}]}'
ODD = "nul \0, half a pair \ud800, żółć 😀"
ODD_KEPT = "nul \ufffd, half a pair \ufffd, żółć 😀"


def told(kept: KeptRow) -> tuple[str, str, str]:
    return kept.state, kept.code, kept.message


# -- in ----------------------------------------------------------------------------------------------------------------


async def test_rows_are_kept_as_they_came(world: World, run_id: str) -> None:
    body = '{"messages":"żółć \\u0000 \\n \\" 日本語 😀 %s :name"}'.encode()
    await given(world.store, run_id, [row(1, "one", shard=3, body=body), bad(2, "two", "bad_field", "body.x: no")])
    assert await world.kept(run_id) == [
        KeptRow(1, "one", "pending", 3, 1, len(line_of("one", body)), body),
        KeptRow(2, "two", "quarantined", 0, 0, 0, b"", "bad_field", "body.x: no"),
    ]


async def test_nothing_is_added_by_adding_nothing(world: World, run_id: str) -> None:
    assert await world.store.add(run_id, 1, []) == set()
    assert await world.kept(run_id) == []


async def test_a_custom_id_is_kept_once_within_a_call_and_across_calls(world: World, run_id: str) -> None:
    store = world.store
    await store.restart(run_id, 1)
    assert await store.add(run_id, 1, [row(1, "a"), row(2, "b"), row(3, "a"), row(4, "a")]) == {3, 4}
    assert await store.add(run_id, 1, [row(5, "c"), row(6, "b")]) == {6}
    assert await store.add(run_id, 1, [row(7, "c"), row(8, "b")]) == {7, 8}
    assert [(kept.number, kept.custom_id) for kept in await world.kept(run_id)] == [(1, "a"), (2, "b"), (5, "c")]


async def test_a_row_that_was_not_kept_may_come_again_in_another_way(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1, "a")])
    assert await world.store.add(run_id, 1, [row(2, "a"), row(4, "d")]) == {2}
    assert await world.store.add(run_id, 1, [bad(2, "a", "duplicate_custom_id")]) == set()
    assert [kept.number for kept in await world.kept(run_id)] == [1, 2, 4]


async def test_rows_that_are_set_aside_take_no_custom_id(world: World, run_id: str) -> None:
    await given(world.store, run_id, [bad(1, "a"), bad(2, "a"), bad(3), bad(4), row(5, "a")])
    assert await world.store.counts(run_id) == Counts(quarantined=4, pending=1)


async def test_runs_do_not_share_custom_ids_or_rows(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1, "a")])
    await given(world.store, run_id + "x", [row(1, "a", shard=2)])
    assert await world.store.ids(run_id, 1) == {"a": 1}
    await world.store.restart(run_id, 2)
    assert await world.kept(run_id) == []
    assert len(await world.kept(run_id + "x")) == 1


async def test_custom_ids_differ_by_case_and_by_trailing_spaces(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1, "a"), row(2, "A"), row(3, "a "), row(4, "ä"), row(5, "a\u0308")])
    assert len(await world.store.ids(run_id, 1)) == 5


async def test_the_longest_ids_of_the_widest_characters_are_kept(world: World, run_id: str) -> None:
    run_id = (run_id * 4)[:128]
    await given(world.store, run_id, [row(1, "😀" * 512), row(2, "😀" * 511)])
    assert set(await world.store.ids(run_id, 1)) == {"😀" * 512, "😀" * 511}


async def test_a_reading_that_came_to_no_end_is_dropped(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1, "a"), bad(2)])
    await world.store.restart(run_id, 1)
    assert await world.kept(run_id) == []
    assert await world.store.add(run_id, 1, [row(1, "a")]) == set()


async def test_what_no_database_can_search_is_replaced_in_messages(world: World, run_id: str) -> None:
    store = world.store
    await given(store, run_id, [row(1), row(2), bad(3, ODD, "bad_field", ODD)])
    await store.settle(run_id, 1, [RowOutcome(1, "failed", "provider_error", ODD)])
    await store.give_verdict(run_id, 1, 1, Verdict("failed", "job_failed", ODD))
    assert [kept.message for kept in await world.kept(run_id)] == [ODD_KEPT] * 3
    assert (await world.kept(run_id))[2].custom_id == ODD_KEPT


# -- a shard -----------------------------------------------------------------------------------------------------------


async def test_the_lines_of_a_shard_come_in_the_order_of_the_input(world: World, run_id: str) -> None:
    """Also those that were added late, because their id was made anew."""
    await given(world.store, run_id, [row(1), row(4), row(5, shard=2), row(10)])
    assert await world.store.add(run_id, 1, [row(2), row(3)]) == set()
    lines = await lines_of_shard(world.store, run_id, 1)
    assert lines == b"".join(line_of(f"row-{number}", row(1).body) for number in (1, 2, 3, 4, 10))


async def test_the_lines_of_a_shard_are_as_long_as_its_rows_were_said_to_be(world: World, run_id: str) -> None:
    rows = [row(number, f'i"d-ż-{number}', body='{"a":"ż😀\\n"}'.encode()) for number in range(1, 8)]
    await given(world.store, run_id, rows)
    assert len(await lines_of_shard(world.store, run_id, 1)) == sum(each.size for each in rows)


async def test_only_what_is_pending_is_read(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1), row(2), row(3), bad(4)])
    await world.store.settle(run_id, 1, [RowOutcome(1, "succeeded"), RowOutcome(2, "pending", "provider_error")])
    assert (await lines_of_shard(world.store, run_id, 1)).count(b"\n") == 2
    assert await lines_of_shard(world.store, run_id, 2) == b""


async def test_many_lines_come_a_few_hundred_at_a_time(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(number) for number in range(1, 1252)])
    pieces = [data async for data in world.store.lines(run_id, 1)]
    assert [data.count(b"\n") for data in pieces] == [500, 500, 251]
    assert all(data.endswith(b"\n") for data in pieces)


async def test_a_reader_may_stop_in_the_middle(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(number) for number in range(1, 1002)])
    lines = world.store.lines(run_id, 1)
    assert (await anext(lines)).count(b"\n") == 500
    await lines.aclose()
    await world.another().restart(run_id, 2)


async def test_the_ids_of_a_shard_are_those_of_all_its_rows(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1, "a"), row(2, "b"), row(3, "c", shard=2), bad(4, "d")])
    await world.store.settle(run_id, 1, [RowOutcome(1, "succeeded")])
    assert await world.store.ids(run_id, 1) == {"a": 1, "b": 2}
    assert await world.store.ids(run_id, 9) == {}


# -- settling ----------------------------------------------------------------------------------------------------------


async def test_a_row_is_settled_with_what_became_of_it(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1), row(2), row(3)])
    await world.store.settle(
        run_id, 1,
        [RowOutcome(1, "succeeded", response=ANSWER), RowOutcome(2, "failed", "finish_length", "cut", ANSWER),
         RowOutcome(3, "pending", "provider_500", "try again")],
    )  # fmt: skip
    kept = await world.kept(run_id)
    assert [told(each) for each in kept] == [
        ("succeeded", "", ""), ("failed", "finish_length", "cut"), ("pending", "provider_500", "try again"),
    ]  # fmt: skip
    assert [each.response for each in kept] == [ANSWER, ANSWER, None]
    assert [each.body for each in kept] == [row(1).body] * 3


async def test_what_is_settled_stays_as_it_is(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1), row(2), bad(3)])
    first = [RowOutcome(1, "succeeded", response=ANSWER), RowOutcome(2, "failed", "provider_400", "no")]
    await world.store.settle(run_id, 1, first)
    before = await world.kept(run_id)
    await world.store.settle(run_id, 1, first)
    await world.store.settle(run_id, 2, [RowOutcome(number, "failed", "other", "other") for number in (1, 2, 3)])
    assert await world.kept(run_id) == before


async def test_a_row_that_waits_for_another_attempt_may_still_be_settled(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1)])
    await world.store.settle(run_id, 1, [RowOutcome(1, "pending", "finish_length", "cut", ANSWER)])
    await world.store.settle(run_id, 1, [RowOutcome(1, "succeeded", response=ANSWER)])
    assert told((await world.kept(run_id))[0]) == ("succeeded", "", "")


async def test_rows_that_are_not_there_are_not_settled(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1)])
    await world.store.settle(run_id, 1, [RowOutcome(7, "failed", "x")])
    await world.store.settle(run_id + "x", 1, [RowOutcome(1, "failed", "x")])
    assert await world.store.counts(run_id) == Counts(pending=1)


async def test_the_verdict_is_for_rows_that_no_file_spoke_of(world: World, run_id: str) -> None:
    store = world.store
    await given(store, run_id, [row(1), row(2), row(3), row(4, shard=2), bad(5)])
    await store.settle(run_id, 1, [RowOutcome(1, "succeeded"), RowOutcome(2, "pending", "provider_500", "spoken of")])
    for _ in range(2):
        await store.give_verdict(run_id, 1, 1, Verdict("failed", "missing_output", "not spoken of"))
    assert [told(kept) for kept in await world.kept(run_id)] == [
        ("succeeded", "", ""), ("pending", "provider_500", "spoken of"), ("failed", "missing_output", "not spoken of"),
        ("pending", "", ""), ("quarantined", "not_json", "no"),
    ]  # fmt: skip


async def test_a_verdict_that_leaves_rows_for_another_attempt_is_given_once(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(1)])
    await world.store.give_verdict(run_id, 1, 1, Verdict("pending", "job_expired", "expired"))
    await world.store.give_verdict(run_id, 1, 1, Verdict("failed", "job_cancelled", "later"))
    assert told((await world.kept(run_id))[0]) == ("pending", "job_expired", "expired")


async def test_rows_are_read_in_pages_with_what_became_of_them(world: World, run_id: str) -> None:
    await given(world.store, run_id, [row(number) for number in range(1, 5)] + [bad(5)])
    await world.store.settle(
        run_id, 1, [RowOutcome(2, "succeeded", response=ANSWER), RowOutcome(4, "failed", "x", "no")]
    )
    first = await world.store.page(run_id, 0, 3)
    assert [(each.number, each.state) for each in first] == [(1, "pending"), (2, "succeeded"), (3, "pending")]
    assert first[1].response == {"choices": [{"index": 0, "finish_reason": "stop"}]}
    rest = await world.store.page(run_id, 3, 3)
    assert [(each.number, each.fault and each.fault.code) for each in rest] == [(4, "x"), (5, "not_json")]
    assert await world.store.page(run_id + "x", 0, 3) == await world.store.page(run_id, 5, 3) == []


# -- counting ----------------------------------------------------------------------------------------------------------


async def test_rows_are_counted_by_state_in_the_run_and_in_a_shard(world: World, run_id: str) -> None:
    store = world.store
    await given(store, run_id, [row(1), row(2), row(3, shard=2), row(4, shard=2), bad(5), bad(6)])
    await store.settle(
        run_id, 1, [RowOutcome(1, "succeeded"), RowOutcome(3, "failed", "x"), RowOutcome(4, "quarantined")]
    )
    assert await store.counts(run_id) == Counts(1, 1, 3, 1)
    assert await store.counts(run_id, 1) == Counts(1, 0, 0, 1)
    assert await store.counts(run_id, 2) == Counts(0, 1, 1, 0)
    assert await store.counts(run_id, 3) == await store.counts(run_id + "x") == Counts()


async def test_the_reasons_are_those_of_rows_that_failed(world: World, run_id: str) -> None:
    store = world.store
    await given(store, run_id, [row(number) for number in range(1, 6)] + [row(6, shard=2)])
    failed = [RowOutcome(1, "failed", "a"), RowOutcome(2, "failed", "b"), RowOutcome(3, "failed", "a")]
    await store.settle(run_id, 1, [*failed, RowOutcome(4, "pending", "c"), RowOutcome(6, "failed", "d")])
    assert await store.reasons(run_id, 1) == {"a": 2, "b": 1}
    assert await store.reasons(run_id, 3) == {}
