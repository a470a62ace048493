"""Runs an example for producers as its own process."""

import shutil
import subprocess

import pytest

from tests.acceptance.cluster import MODEL, ROOT, Cluster

NODE = ROOT / "examples" / "node" / "chat.mjs"


def node(cluster: Cluster, name: str, text: str, **env: str) -> str:
    """Run the example; return what it printed."""
    if not (program := shutil.which("node")):
        pytest.skip("node is not installed")
    given = cluster.env | {"RUN_ID": name, "FW_MODEL": MODEL} | env
    done = subprocess.run(
        [program, str(NODE), text], env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
