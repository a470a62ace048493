"""`fireworks-workers` as a person runs it, against a cluster that is up."""

import json
import subprocess
import sys
from typing import Any

from tests.acceptance.cluster import ROOT, Cluster, clean_environment

COMMAND = (sys.executable, "-m", "workers.cli")


def run(cluster: Cluster, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in the shell of someone who has set where the service is."""
    where = {"FW_REDIS_URL": cluster.valkey.url, "FW_BROKER_URL": cluster.broker, "FW_DATABASE_URL": cluster.database}
    environment = clean_environment() | where | {"COLUMNS": "200"} | env
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def objects(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """Return what a command printed with --json."""
    return [json.loads(line) for line in done.stdout.splitlines()]
