"""The metrics as a fold over what is appended (`telemetry.metrics`, `telemetry.fold`)."""

from decimal import Decimal
from typing import Any

import pytest
from prometheus_client import generate_latest

from api_contracts import batch, chat, stt
from api_contracts.failure import Failure
from api_contracts.keys import derived_run_id
from api_contracts.metering import Timings
from api_contracts.runs import Event, EventData, RunCompleted, RunQueued, RunStarted
from workers.ports import RunWatch, Waiting
from workers.telemetry import Metrics

BUSY = Failure(code="provider_overloaded", category="overloaded", message="busy", at_fault="provider")
USAGE = chat.Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3, reasoning_tokens=2)


def told(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return a sample as it is scraped."""
    return metrics.registry.get_sample_value(name, labels)


def life(metrics: Metrics, *journal: Event, kind: str = "chat", model: str = "m", **queued: Any) -> RunWatch:
    """Return what sees a run that was queued at second 100."""
    first = RunQueued.model_validate({"kind": kind, "digest": "d", **queued})
    return metrics.life(first, 100.0, model, journal)


def written(*events: EventData) -> list[Event]:
    """Return events as a journal has them."""
    datas = enumerate(events, 1)
    return [Event(seq=n, type=e.TYPE, at=0, epoch=1, data=e.model_dump(exclude_none=True)) for n, e in datas]


@pytest.mark.requirement("OPS-05")
def test_a_run_is_counted_from_its_queue_to_its_end() -> None:
    metrics = Metrics()
    run = life(metrics, lane="background")
    run.saw([RunStarted(owner="ann")], 102.0)
    run.saw([RunCompleted(result={})], 160.0)
    assert told(metrics, "fw_runs_started_total", kind="chat") == 1
    assert told(metrics, "fw_runs_total", kind="chat", status="completed") == 1
    assert told(metrics, "fw_queue_wait_seconds_sum", kind="chat", lane="background") == 2
    assert told(metrics, "fw_run_seconds_sum", kind="chat") == 60
    assert told(metrics, "fw_run_seconds_bucket", kind="chat", le="60.0") == 1


@pytest.mark.requirement("OPS-05")
def test_tokens_are_counted_by_model_and_kind() -> None:
    metrics = Metrics()
    run = life(metrics, model="first")
    run.saw([chat.ChatRequested(round=1, attempt=1, model="second"), chat.ChatUsage(round=1, usage=USAGE)], 101.0)
    kinds = ("prompt", "completion", "cached", "reasoning")
    assert [told(metrics, "fw_tokens_total", model="second", kind=kind) for kind in kinds] == [7, 5, 3, 2]


@pytest.mark.requirement("OPS-05", "CHAT-19", "CHAT-20")
def test_each_answer_is_timed_and_what_it_cost_is_counted() -> None:
    metrics = Metrics()
    took = Timings(queued_s=1, connect_s=0.5, first_byte_s=2, first_token_s=3, processing_s=4)
    run = life(metrics, tenant="acme")
    run.saw([chat.ChatUsage(round=1, usage=USAGE, model="m", timings=took, cost=Decimal("0.25"))], 101.0)
    run.saw([chat.ChatUsage(round=2, usage=USAGE, model="m", timings=Timings(processing_s=6))], 102.0)
    names = ("queued", "connect", "first_byte", "first_token", "processing")
    assert [told(metrics, f"fw_chat_{name}_seconds_sum", model="m") for name in names] == [1, 0.5, 2, 3, 10]
    assert told(metrics, "fw_chat_connect_seconds_count", model="m") == 1, "what is not known is no zero"
    assert told(metrics, "fw_chat_cost_total", model="m") == 0.25
    assert told(metrics, "fw_chat_cost_by_label_total", label="tenant", value="acme") == 0.25


@pytest.mark.requirement("OPS-05")
def test_a_batch_counts_its_jobs_once_and_its_rows_as_they_are_settled() -> None:
    metrics = Metrics()
    ended = batch.BatchState(shard=1, state="COMPLETED", group="usable")
    run = life(metrics, *written(batch.BatchState(shard=2, state="FAILED", group="void")), kind="batch")
    run.saw(
        [
            batch.BatchQuarantined(rows=4, reasons={}),
            batch.BatchSubmitted(shard=1, attempt=1, job="j", output="o"),
            batch.BatchState(shard=1, state="RUNNING", group="active"),
            ended,
            ended,
            batch.BatchState(shard=2, state="FAILED", group="void"),
            batch.BatchHarvested(shard=1, available=True, succeeded=6, failed=2, quarantined=1),
            batch.BatchCost(shard=1, job="j", usage=USAGE),
        ],
        101.0,
    )
    rows = [told(metrics, "fw_batch_rows_total", state=state) for state in ("succeeded", "failed", "quarantined")]
    assert rows == [6, 2, 4]
    jobs = [told(metrics, "fw_batch_jobs_total", state=state) for state in ("submitted", "usable", "void")]
    assert jobs == [1, 1, None]
    assert told(metrics, "fw_tokens_total", model="m", kind="prompt") == 7


@pytest.mark.requirement("OPS-05")
def test_audio_is_counted_by_what_each_meter_grew_also_in_a_later_life() -> None:
    """The meters are totals of the session: another worker's share was counted there."""

    def usage(sent_s: float) -> stt.SttUsage:
        meters = stt.AudioMeters(sent_s=sent_s, acked_s=sent_s / 2)
        return stt.SttUsage(audio=meters, settled_at=0, anchor_entry="0", anchor_at=0)

    metrics = Metrics()
    run = life(metrics, *written(usage(10)), kind="stt")
    for sent_s in (14.0, 14.0, 20.0):
        run.saw([usage(sent_s)], 101.0)
    assert told(metrics, "fw_stt_audio_seconds_total", meter="sent") == 10
    assert told(metrics, "fw_stt_audio_seconds_total", meter="acked") == 5


@pytest.mark.requirement("STT-20", "OPS-05")
def test_finals_and_probes_are_counted_by_how_late_they_were() -> None:
    def final(after_s: float | None) -> stt.SttFinal:
        return stt.SttFinal(
            conn=1, text="", start=0, end=0, segments=[], words=[], anchor_entry="0", anchor_at=0, after_s=after_s
        )

    def usage(latency: stt.SttLatency | None) -> stt.SttUsage:
        audio = stt.AudioMeters()
        return stt.SttUsage(audio=audio, settled_at=0, anchor_entry="0", anchor_at=0, latency=latency)

    metrics = Metrics()
    run = life(metrics, *written(final(9.0)), kind="stt")  # of an earlier life
    run.saw([final(0.5), final(None), final(1.5)], 101.0)
    run.saw([usage(stt.SttLatency(trace_s=0.25)), usage(stt.SttLatency(audio_s=1.0)), usage(None)], 102.0)
    assert (told(metrics, "fw_stt_final_seconds_count"), told(metrics, "fw_stt_final_seconds_sum")) == (2, 2.0)
    assert (told(metrics, "fw_stt_trace_seconds_count"), told(metrics, "fw_stt_trace_seconds_sum")) == (1, 0.25)


@pytest.mark.requirement("OPS-05")
def test_a_retry_is_counted_when_it_is_made_with_the_reason_for_it() -> None:
    metrics = Metrics()
    asked = chat.ChatRequested(round=1, attempt=1, model="m")
    failed = chat.ChatReplaced(attempt=1, reason="the attempt failed", failure=BUSY)
    life(metrics).saw([asked, failed], 101.0)
    assert told(metrics, "fw_provider_retries_total", code=BUSY.code) is None
    life(metrics, *written(asked, failed)).saw([asked], 102.0)
    life(metrics, kind="stt").saw([stt.SttReconnecting(conn=1, failures=1, wait_s=1, code=503)], 102.0)
    life(metrics, kind="stt").saw([stt.SttReconnecting(conn=1, failures=0, wait_s=0)], 102.0)
    assert told(metrics, "fw_provider_retries_total", code=BUSY.code) == 1
    assert told(metrics, "fw_provider_retries_total", code="http_503") == 1
    assert told(metrics, "fw_provider_retries_total", code="lost") is None


@pytest.mark.requirement("OPS-05")
def test_tool_calls_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics()
    life(metrics).saw(
        [
            chat.CallResult(call_id="a", content="x"),
            chat.CallOutcomeUnknown(call_id="b", content="x"),
            chat.CallTimedOut(call_id="c", content="x"),
        ],
        101.0,
    )
    outcomes = ("result", "outcome_unknown", "timed_out", "failed")
    assert [told(metrics, "fw_tool_calls_total", outcome=outcome) for outcome in outcomes] == [1, 1, 1, None]


@pytest.mark.requirement("TOOL-02", "OPS-05")
def test_calls_of_tools_that_there_are_not_are_counted() -> None:
    metrics = Metrics()
    refused = [chat.CallFailed(call_id=each, content="x", code="not_available") for each in "ab"]
    life(metrics).saw([*refused, chat.CallFailed(call_id="c", content="x")], 101.0)
    assert told(metrics, "fw_tool_refusals_total", code="not_available") == 2
    assert told(metrics, "fw_tool_calls_total", outcome="failed") == 3


@pytest.mark.requirement("OPS-05")
def test_producers_cannot_fill_the_memory_with_names_of_models() -> None:
    metrics = Metrics()
    for number in range(1000):
        life(metrics, model=f"m{number}").saw([chat.ChatUsage(round=1, usage=USAGE)], 101.0)
    assert told(metrics, "fw_tokens_total", model="m0", kind="prompt") == 7
    assert told(metrics, "fw_tokens_total", model="m999", kind="prompt") is None
    assert told(metrics, "fw_tokens_total", model="other", kind="prompt") == 7 * 950
    assert len(generate_latest(metrics.registry)) < 100_000


@pytest.mark.requirement("OPS-05")
def test_a_provider_that_counts_backwards_ends_no_run() -> None:
    metrics = Metrics()
    life(metrics).saw([chat.ChatUsage(round=1, usage=chat.Usage(prompt_tokens=-5, completion_tokens=1))], 101.0)
    assert told(metrics, "fw_tokens_total", model="m", kind="prompt") == 0
    assert told(metrics, "fw_tokens_total", model="m", kind="completion") == 1


@pytest.mark.requirement("OPS-05", "OPS-09")
def test_queues_that_are_not_known_are_not_told() -> None:
    metrics, found = Metrics(), dict[str, Waiting]()
    metrics.queues(lambda: found)
    assert told(metrics, "fw_queue_waiting", queue="fireworks.chat") is None
    found["fireworks.chat"] = Waiting(3, 61.5)
    assert told(metrics, "fw_queue_waiting", queue="fireworks.chat") == 3
    assert told(metrics, "fw_queue_oldest_seconds", queue="fireworks.chat") == 61.5


@pytest.mark.requirement("RUN-16")
def test_runs_tokens_and_audio_are_counted_by_tenant_and_by_the_labels_that_were_named() -> None:
    metrics = Metrics(["tenant", "team"])
    run = life(metrics, tenant="acme", labels={"team": "search", "secret": "x", "tenant": "forged"})
    run.saw([chat.ChatUsage(round=1, usage=USAGE), RunCompleted(result={})], 101.0)
    meters = stt.AudioMeters(sent_s=3)
    usage = stt.SttUsage(audio=meters, settled_at=0, anchor_entry="0", anchor_at=0)
    life(metrics, kind="stt", tenant="acme").saw([usage], 101.0)
    for told_apart in ({"label": "tenant", "value": "acme"}, {"label": "team", "value": "search"}):
        assert told(metrics, "fw_runs_by_label_total", kind="chat", status="completed", **told_apart) == 1
        assert told(metrics, "fw_tokens_by_label_total", kind="completion", **told_apart) == 5
    assert told(metrics, "fw_stt_audio_seconds_by_label_total", label="tenant", value="acme", meter="sent") == 3
    scraped = generate_latest(metrics.registry).decode()
    assert "secret" not in scraped
    assert "forged" not in scraped


@pytest.mark.requirement("RUN-16")
def test_a_metric_has_the_id_of_an_idempotency_key_where_the_operator_names_it() -> None:
    counted = {"label": "idempotency_key", "value": derived_run_id("acme", "secret order"), "kind": "chat"}
    for labels, number in ((["idempotency_key"], 1), (["tenant"], None)):
        metrics = Metrics(labels)
        run = life(metrics, tenant="acme", labels={"idempotency_key": "forged"}, idempotency_key="secret order")
        run.saw([RunCompleted(result={})], 101.0)
        assert told(metrics, "fw_runs_by_label_total", status="completed", **counted) == number
        scraped = generate_latest(metrics.registry).decode()
        assert "secret" not in scraped
        assert "forged" not in scraped


@pytest.mark.requirement("RUN-16")
def test_producers_cannot_fill_the_memory_with_tenants() -> None:
    metrics = Metrics()
    for number in range(1000):
        life(metrics, tenant=f"t{number}").saw([RunCompleted(result={})], 101.0)
    ended = {"label": "tenant", "kind": "chat", "status": "completed"}
    assert told(metrics, "fw_runs_by_label_total", value="t0", **ended) == 1
    assert told(metrics, "fw_runs_by_label_total", value="t999", **ended) is None
    assert told(metrics, "fw_runs_by_label_total", value="other", **ended) == 950
