"""Migrations when several processes start at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from workers.adapters.sql.migrate import migrate, revision
from workers.adapters.sql.tables import SCHEMA

MIGRATE_ON_A_WORD = """
import sys
from workers.adapters.sql.migrate import migrate
print("ready", flush=True)
sys.stdin.readline()
migrate(sys.argv[1])
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new' / 'folder' / 'runs.db'}"


@pytest.mark.parametrize("existing", [False, True], ids=["new file", "migrated file"])
def test_four_processes_migrate_one_file_at_once(url: str, existing: bool) -> None:
    if existing:
        migrate(url)
    run = [sys.executable, "-c", MIGRATE_ON_A_WORD, url]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(run, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    errors = [racer.communicate(timeout=60)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0, 0], errors
    assert revision(url) == SCHEMA
