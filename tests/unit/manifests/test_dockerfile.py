"""Dockerfile: clean by hadolint, numeric and not root, and it carries what the manifests call."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.manifests.places import ROOT

TEXT = (ROOT / "Dockerfile").read_text()
HADOLINT = Path(sys.executable).with_name("hadolint")
# The last stage is the image.
IMAGE = TEXT[TEXT.rindex("\nFROM ") :]


def hadolint(path: Path) -> str:
    return subprocess.run([HADOLINT, "--no-color", path], capture_output=True, text=True, timeout=60).stdout


@pytest.mark.requirement("OPS-02")
def test_hadolint_finds_nothing():
    assert hadolint(ROOT / "Dockerfile") == ""


def test_hadolint_is_not_blind(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && sudo pip install celery\n")
    assert "DL3004" in hadolint(tmp_path / "Dockerfile")


@pytest.mark.requirement("OPS-02")
def test_the_image_runs_as_a_number_that_is_not_root():
    assert re.findall(r"^USER (.+)$", IMAGE, flags=re.MULTILINE) == ["10001:10001"]


def test_the_process_is_the_entrypoint_without_a_shell():
    assert 'ENTRYPOINT ["fireworks-workers"]' in IMAGE
    assert 'CMD ["fw-probe"]' in IMAGE


def test_the_same_image_is_the_base_of_both_stages_and_has_a_tag():
    assert re.findall(r"^FROM (\S+)", TEXT, flags=re.MULTILINE) == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert re.search(r"^ARG PYTHON_IMAGE=\S+:3\.\d+-slim$", TEXT, flags=re.MULTILINE)


def test_everything_is_installed_by_hash():
    commands = re.split(r"&&|\nRUN|\n\n", TEXT.replace("\\\n", " "))
    installs = [each for each in commands if re.search(r"/pip (--python \S+ )?install", each)]
    assert len(installs) == 3
    assert all("--require-hashes" in each or "--no-deps /build/wheels" in each for each in installs)


def test_whatever_is_copied_gets_past_dockerignore():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, flags=re.MULTILINE)
        for source in line.split()
        if not source.startswith("--")
    }
    assert copied == allowed
