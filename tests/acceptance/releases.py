"""The releases that serve side by side: the one before this, from the project's history; this; one that is to come.

Which of them wrote the beginning of a life can be read there (`written_by`): each tells its version in its own way.
"""

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Final, Literal

from api_contracts import SCHEMA_VERSION
from api_contracts.runs import Event
from tests.acceptance.cluster import ROOT, Cluster, Process

PREVIOUS_COMMIT: Final = "e988f59f26d69adfcc9d441187e16ca71b0090ac"
"""What was last on `main` before lives told their version and leases were fenced by their owner."""

Release = Literal["previous", "present", "next"]


def previous_release(folder: Path) -> str:
    """Put the files of the release before this one into a folder; say why that cannot be, or nothing."""
    argv = ("git", "-C", str(ROOT), "archive", "--format=tar", PREVIOUS_COMMIT, "api_contracts", "workers", "tests")
    try:
        made = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        return "the release before this one is taken from the project's history, and there is no git"
    if made.returncode:
        return f"this clone lacks {PREVIOUS_COMMIT[:7]}, the release before this one: {made.stderr.decode().strip()}"
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return ""


def worker_of(cluster: Cluster, release: Release, previous: Path) -> Process:
    """Start a worker of a release; it is named by it."""
    match release:
        case "previous":
            return cluster.worker(release, at=previous, PYTHONPATH=str(previous))
        case "present":
            return cluster.worker(release)
        case "next":
            return cluster.worker(release, app="tests.acceptance.apps.next_release")


def written_by(events: list[Event]) -> list[Release]:
    """Return which releases led the run, life by life."""
    return [_writer(event.data) for event in events if event.type in ("run.started", "run.resumed")]


def _writer(data: dict[str, Any]) -> Release:
    if "version" not in data:
        return "previous"
    return "present" if data["version"] == SCHEMA_VERSION else "next"
