"""monitoring/ and k8s/components/keda name only metrics and labels that the processes have."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from api_contracts import names
from tests.unit.manifests.kustomizing import render
from tests.unit.manifests.places import (
    METRICS,
    OTHERS_METRICS,
    OVERLAYS,
    ROOT,
    SCRAPED_LABELS,
    compose,
    dashboard,
    emulator_variables,
    processes,
)

RULES = [
    rule for group in yaml.safe_load((ROOT / "monitoring/rules.yml").read_text())["groups"] for rule in group["rules"]
]
QUEUES = {f"{queue}{lane}" for queue in (names.CHAT_QUEUE, names.STT_QUEUE, names.BATCH_QUEUE) for lane in ("", ".bg")}
FUNCTIONS = {
    "sum", "max", "min", "by", "rate", "increase", "absent", "histogram_quantile",
}  # fmt: skip


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression, with the place where it stands."""
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for each in render(OVERLAYS["production"]):
        if each["kind"] == "ScaledObject":
            for trigger in each["spec"]["triggers"]:
                yield f"scaling {each['metadata']['name']}", trigger["metadata"]["query"]


def metrics_in(expression: str) -> set[str]:
    """Names that are neither labels, values nor functions; a histogram's series count as the histogram."""
    bare = re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"|by \([^)]*\)', " ", expression)
    found = set(re.findall(r"[a-z_][a-z0-9_]*", bare)) - FUNCTIONS
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def labels_in(expression: str) -> set[str]:
    """Labels that are selected or kept."""
    kept = {label.strip() for each in re.findall(r"by \(([^)]*)\)", expression) for label in each.split(",")}
    return kept | set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', expression))


@pytest.mark.parametrize(("place", "expression"), [*expressions()])
def test_an_expression_names_metrics_and_labels_that_exist(place, expression):
    found = metrics_in(expression)
    assert found, f"{place} names no metric"
    assert found - METRICS.keys() - OTHERS_METRICS == set()
    known = SCRAPED_LABELS | {label for name in found for label in METRICS.get(name, ())}
    assert labels_in(expression) - known == set()


def test_a_planted_name_is_found():
    assert metrics_in('sum by (kind) (rate(fw_runs_ended_total{kind="chat"}[5m])) / 2') - METRICS.keys() == {
        "fw_runs_ended_total"
    }
    assert labels_in('max by (queue, pod) (fw_slots{state!="x"})') == {"queue", "pod", "state"}


def test_queues_and_processes_in_expressions_exist():
    for place, expression in expressions():
        for queue in re.findall(r'queue="([^"]+)"', expression):
            assert queue in QUEUES, place
        for process in re.findall(r'process="([^"]+)"', expression):
            assert process in processes(), place


def test_the_dashboard_shows_every_metric():
    shown = {name for place, each in expressions() if place.startswith("panel") for name in metrics_in(each)}
    assert METRICS.keys() - shown == set()


@pytest.mark.requirement("OPS-05")
def test_the_dashboard_has_a_row_for_each_part_of_the_service():
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert rows == ["Queues", "Runs", "Tokens", "Answers", "Speech", "Batches", "Tenants and labels", "Processes"]


def test_the_dashboard_is_what_its_script_writes():
    command = [sys.executable, ROOT / "scripts/dashboard.py", "--check"]
    assert subprocess.run(command, timeout=60).returncode == 0, "run scripts/dashboard.py"


def test_panels_do_not_overlap():
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_the_code_registers_the_metrics_that_are_listed():
    """Counters are registered without their `_total`."""
    telling = [*(ROOT / "workers/telemetry").rglob("*.py"), *(ROOT / "workers").glob("monitor*.py")]
    registered = set(re.findall(r'"(fw_[a-z_]+)"', "".join(path.read_text() for path in telling)))
    assert {name.removesuffix("_total") for name in METRICS} == registered


def test_every_alert_says_what_to_do():
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "action"}


def test_what_is_scraped_is_what_compose_runs():
    """Flower and the stand-in have no metrics of ours."""
    [job] = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())["scrape_configs"]
    [asked] = job["dns_sd_configs"]
    assert set(asked["names"]) == set(processes()) - {"flower", "emulator"}
    assert job["job_name"] == "fireworks-workers"


def test_grafana_finds_its_source_and_its_dashboard_where_compose_mounts_them():
    mounted = dict(each.split(":")[:2] for each in compose(emulator_variables())["services"]["grafana"]["volumes"])
    folder = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/dashboards/fireworks-workers.yml").read_text())
    assert folder["providers"][0]["options"]["path"] == mounted["./monitoring/grafana/dashboards"]
    [source] = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
