"""Writes monitoring/grafana/dashboards/fireworks-workers.json from the table below.

    python scripts/dashboard.py          # writes;  --check exits 1 when the file is not what it would write

Change the table and not the file: a panel is a line here and sixty lines of JSON there. Standard library only.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "monitoring/grafana/dashboards/fireworks-workers.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
COLUMNS, HEIGHT = 24, 8


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: title, unit in Grafana's words, and its queries by legend."""

    title: str
    unit: str
    queries: dict[str, str]
    says: str = ""


def quantiles(metric: str, by: str = "") -> dict[str, str]:
    """Return the median and the 95th percentile of a histogram."""
    rate = f"sum by (le{by and ', '}{by}) (rate({metric}_bucket[$__rate_interval]))"
    legend = f"{{{{{by}}}}} " if by else ""
    return {f"{legend}p{q[2:]}": f"histogram_quantile({q}, {rate})" for q in ("0.50", "0.95")}


ROWS: dict[str, list[Panel]] = {
    "Queues": [
        Panel("Runs that wait", "short", {"{{queue}}": "max by (queue) (fw_queue_waiting)"}),
        Panel("Age of the oldest", "s", {"{{queue}}": "max by (queue) (fw_queue_oldest_seconds)"}),
        Panel("Wait for a worker", "s", quantiles("fw_queue_wait_seconds", "kind"), "From queued to the first lease."),
    ],
    "Runs": [
        Panel("At work", "short", {"{{kind}}": "sum by (kind) (fw_runs_active)"}),
        Panel("Started", "reqps", {"{{kind}}": "sum by (kind) (rate(fw_runs_started_total[$__rate_interval]))"}),
        Panel(
            "Ended", "reqps", {"{{kind}} {{status}}": "sum by (kind, status) (rate(fw_runs_total[$__rate_interval]))"}
        ),
        Panel("How long they take", "s", quantiles("fw_run_seconds", "kind"), "From queued to the end."),
        Panel(
            "Tool calls",
            "reqps",
            {
                "{{outcome}}": "sum by (outcome) (rate(fw_tool_calls_total[$__rate_interval]))",
                "refused: {{code}}": "sum by (code) (rate(fw_tool_refusals_total[$__rate_interval]))",
            },
        ),
        Panel(
            "Asked the provider again",
            "reqps",
            {"{{code}}": "sum by (code) (rate(fw_provider_retries_total[$__rate_interval]))"},
        ),
    ],
    "Tokens": [
        Panel(
            "By kind", "short", {"{{kind}}": "sum by (kind) (rate(fw_tokens_total[$__rate_interval]))"}, "Per second."
        ),
        Panel(
            "By model",
            "short",
            {"{{model}}": "sum by (model) (rate(fw_tokens_total[$__rate_interval]))"},
            "Per second.",
        ),
        Panel(
            "Share of the prompt that was cached",
            "percentunit",
            {
                "cached": 'sum(rate(fw_tokens_total{kind="cached"}[$__rate_interval]))'
                ' / sum(rate(fw_tokens_total{kind="prompt"}[$__rate_interval]))'
            },
        ),
    ],
    "Answers": [
        Panel(
            "To the first token", "s", quantiles("fw_chat_first_token_seconds", "model"), "From asking the provider."
        ),
        Panel("To the first byte", "s", quantiles("fw_chat_first_byte_seconds", "model"), "From asking the provider."),
        Panel("To a connection", "s", quantiles("fw_chat_connect_seconds", "model"), "0 where one was there."),
        Panel("To the end", "s", quantiles("fw_chat_processing_seconds", "model"), "From asking the provider."),
        Panel("Waited for a worker", "s", quantiles("fw_chat_queued_seconds", "model"), "Before each answer."),
        Panel(
            "Spend",
            "short",
            {"{{model}}": "sum by (model) (increase(fw_chat_cost_total[$__rate_interval]))"},
            "In the currency of FW_PRICES; models without a price are not in it.",
        ),
    ],
    "Speech": [
        Panel("Open sessions", "short", {"{{process}} {{instance}}": "fw_stt_sessions", "all": "sum(fw_stt_sessions)"}),
        Panel("Audio is sent late by", "s", {"{{instance}}": "max by (instance) (fw_stt_audio_lag_seconds)"}),
        Panel(
            "Audio",
            "s",
            {"{{meter}}": "sum by (meter) (rate(fw_stt_audio_seconds_total[$__rate_interval]))"},
            "Seconds of audio per second.",
        ),
        Panel("Speech to final", "s", quantiles("fw_stt_final_seconds"), "From the write of a word's last sound."),
        Panel("Probe to echo", "s", quantiles("fw_stt_trace_seconds"), "The worst of each 10 s of a session."),
    ],
    "Batches": [
        Panel("Rows", "short", {"{{state}}": "sum by (state) (increase(fw_batch_rows_total[$__rate_interval]))"}),
        Panel(
            "Jobs of the provider",
            "short",
            {"{{state}}": "sum by (state) (increase(fw_batch_jobs_total[$__rate_interval]))"},
        ),
    ],
    "Tenants and labels": [
        Panel(
            "Runs",
            "reqps",
            {
                "{{label}} {{value}} {{status}}": "sum by (label, value, status)"
                " (rate(fw_runs_by_label_total[$__rate_interval]))"
            },
            "Ended; the labels are those that FW_METRIC_LABELS names.",
        ),
        Panel(
            "Tokens",
            "short",
            {
                "{{label}} {{value}} {{kind}}": "sum by (label, value, kind)"
                " (rate(fw_tokens_by_label_total[$__rate_interval]))"
            },
            "Per second.",
        ),
        Panel(
            "Spend",
            "short",
            {"{{label}} {{value}}": "sum by (label, value) (increase(fw_chat_cost_by_label_total[$__rate_interval]))"},
            "In the currency of FW_PRICES.",
        ),
        Panel(
            "Audio",
            "s",
            {
                "{{label}} {{value}} {{meter}}": "sum by (label, value, meter)"
                " (rate(fw_stt_audio_seconds_by_label_total[$__rate_interval]))"
            },
            "Seconds of audio per second.",
        ),
    ],
    "Processes": [
        Panel("Answering", "short", {"{{process}}": 'sum by (process) (up{job="fireworks-workers"})'}),
        Panel("Slots", "short", {"{{process}} {{state}}": "sum by (process, state) (fw_slots)"}),
        Panel("The loop is late by", "s", {"{{process}} {{instance}}": "fw_loop_lag_seconds"}),
        Panel("Draining", "short", {"{{process}} {{instance}}": "fw_draining == 1"}),
        Panel(
            "Memory", "bytes", {"{{process}} {{instance}}": 'process_resident_memory_bytes{job="fireworks-workers"}'}
        ),
        Panel(
            "Refused messages",
            "short",
            {"{{reason}}": "sum by (reason) (increase(fw_messages_refused_total[$__rate_interval]))"},
        ),
        Panel(
            "Purged from SQL",
            "short",
            {"{{what}}": "sum by (what) (increase(fw_purged_total[$__rate_interval]))"},
            "Finished runs, and rows of batches, that were kept for long enough.",
        ),
    ],
}


def dashboard() -> dict[str, object]:
    """Return the dashboard in Grafana's form."""
    return {
        "uid": "fireworks-workers",
        "title": "Fireworks Workers",
        "tags": ["fireworks-workers"],
        "schemaVersion": 41,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels(),
    }


def panels() -> list[dict[str, object]]:
    """Return rows and graphs, from top to bottom."""
    made: list[dict[str, object]] = []
    y = 0
    for title, row in ROWS.items():
        made.append({"id": len(made) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                     "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})  # fmt: skip
        y += 1
        width = COLUMNS // (2 if len(row) == 2 else 3)
        for number, panel in enumerate(row):
            x, down = number % (COLUMNS // width) * width, number // (COLUMNS // width) * HEIGHT
            made.append(graph(panel, len(made) + 1, {"x": x, "y": y + down, "w": width, "h": HEIGHT}))
        y += -(-len(row) * width // COLUMNS) * HEIGHT
    return made


def graph(panel: Panel, number: int, place: dict[str, int]) -> dict[str, object]:
    """Return one graph."""
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for at, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


def main() -> int:
    """Return the exit code."""
    text = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" in sys.argv:
        return 0 if FILE.read_text(encoding="utf-8") == text else 1
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
