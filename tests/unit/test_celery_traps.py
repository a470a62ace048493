"""The table of Celery's traps names tests that exist, and leaves no row without one or a reason."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "celery-traps.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| trap")
]
NAMED = re.compile(r"`(tests/[\w/.]+)(?:::(\w+))?`")


def test_there_are_traps() -> None:
    assert len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_each_trap_has_a_test_that_exists_or_a_reason(row: str) -> None:
    _, trap, proof, _ = row.split("|")
    named = NAMED.findall(proof)
    assert trap.strip()
    assert named or re.match(r" None: \w.{20,}", proof), "neither a test nor a reason"
    for path, function in named:
        text = (ROOT / path).read_text()
        assert not function or re.search(rf"^(async )?def {function}\(", text, re.MULTILINE), (
            f"{path} has no {function}"
        )
