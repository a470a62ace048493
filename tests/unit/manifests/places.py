"""Where the manifests are, and what they may name: processes, settings, metrics."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices

from tests.unit.manifests.kustomizing import Object, variables
from workers.cli.procfile import read_lines
from workers.settings import Settings

ROOT = Path(__file__).parents[3]
BASE = ROOT / "k8s" / "base"
OVERLAYS = {each.name: each for each in sorted((ROOT / "k8s" / "overlays").iterdir())}
DASHBOARD = ROOT / "monitoring" / "grafana" / "dashboards" / "fireworks-workers.json"

# After the drain: Celery is told, connections are closed (decision 12).
CLOSING_S = 12

# Names of variables that are secrets, or hold one.
SECRET = re.compile(r"KEY|PASSWORD|AUTH|SECRET|TOKEN|CREDENTIAL|DATABASE_URL")

# Every metric of ours, with its labels. Rules, dashboard and scaling may name no other.
METRICS: dict[str, frozenset[str]] = {
    "fw_runs_started_total": frozenset({"kind"}),
    "fw_runs_total": frozenset({"kind", "status"}),
    "fw_runs_active": frozenset({"kind"}),
    "fw_run_seconds": frozenset({"kind"}),
    "fw_queue_wait_seconds": frozenset({"kind", "lane"}),
    "fw_tokens_total": frozenset({"model", "kind"}),
    "fw_runs_by_label_total": frozenset({"label", "value", "kind", "status"}),
    "fw_tokens_by_label_total": frozenset({"label", "value", "kind"}),
    "fw_stt_audio_seconds_by_label_total": frozenset({"label", "value", "meter"}),
    "fw_chat_cost_total": frozenset({"model"}),
    "fw_chat_cost_by_label_total": frozenset({"label", "value"}),
    "fw_chat_queued_seconds": frozenset({"model"}),
    "fw_chat_connect_seconds": frozenset({"model"}),
    "fw_chat_first_byte_seconds": frozenset({"model"}),
    "fw_chat_first_token_seconds": frozenset({"model"}),
    "fw_chat_processing_seconds": frozenset({"model"}),
    "fw_tool_calls_total": frozenset({"outcome"}),
    "fw_tool_refusals_total": frozenset({"code"}),
    "fw_provider_retries_total": frozenset({"code"}),
    "fw_stt_sessions": frozenset(),
    "fw_stt_audio_seconds_total": frozenset({"meter"}),
    "fw_stt_audio_lag_seconds": frozenset(),
    "fw_stt_final_seconds": frozenset(),
    "fw_stt_trace_seconds": frozenset(),
    "fw_batch_rows_total": frozenset({"state"}),
    "fw_batch_jobs_total": frozenset({"state"}),
    "fw_queue_waiting": frozenset({"queue"}),
    "fw_queue_oldest_seconds": frozenset({"queue"}),
    "fw_messages_refused_total": frozenset({"reason"}),
    "fw_purged_total": frozenset({"what"}),
    "fw_slots": frozenset({"state"}),
    "fw_loop_lag_seconds": frozenset(),
    "fw_draining": frozenset(),
}

# What prometheus_client and Prometheus itself add, and the labels that scraping sets.
OTHERS_METRICS = {"up", "process_resident_memory_bytes"}
SCRAPED_LABELS = {"job", "instance", "process", "le"}


@cache
def processes() -> tuple[str, ...]:
    """The names of the Procfile."""
    return tuple(read_lines((ROOT / "Procfile").read_text()))


@cache
def settings() -> frozenset[str]:
    """Every variable that a process reads: its settings, and what its line of the Procfile names."""
    found = set(re.findall(r"\$\{(\w+)", (ROOT / "Procfile").read_text()))
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        found.add(str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"FW_{name.upper()}")
    return frozenset(found)


def emulator_variables() -> dict[str, str]:
    """What emulator.env gives to compose."""
    return variables(ROOT / "emulator.env")


class NotGivenError(LookupError):
    """A variable that must be given is not; the text is what compose would say."""


def compose(environ: dict[str, str], text: str | None = None) -> Object:
    """docker-compose.yml with `${NAME:-default}` and `${NAME:?what to do}` put in. Raise NotGivenError."""

    def value(match: re.Match[str]) -> str:
        if given := environ.get(match["name"]):
            return given
        if match["kind"] == "?":
            raise NotGivenError(f"{match['name']}: {match['rest']}")
        return match["rest"]

    pattern = r"\$\{(?P<name>\w+):(?P<kind>[-?])(?P<rest>[^}]*)\}"
    found: Object = yaml.safe_load(re.sub(pattern, value, text or (ROOT / "docker-compose.yml").read_text()))
    return found


def seconds(duration: str) -> float:
    """Seconds of a compose duration such as 45s."""
    assert duration.endswith("s")
    return float(duration[:-1])


def dashboard() -> Any:
    """Grafana's dashboard."""
    return json.loads(DASHBOARD.read_text())
