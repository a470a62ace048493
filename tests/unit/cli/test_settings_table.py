"""docs/settings.md says what the settings objects say."""

from pathlib import Path

import pytest

from workers.cli.settings_table import page
from workers.settings import known_variables

ROOT = Path(__file__).parents[3]


@pytest.mark.requirement("OPS-17")
def test_the_committed_page_is_current() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_variable_is_there_once_and_has_a_meaning() -> None:
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    assert sorted(row[0].strip("| `") for row in rows) == sorted(known_variables())
    assert all(len(row[1]) > 10 for row in rows)


def test_no_row_is_broken_by_what_it_says() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert {line.count(" | ") for line in rows} == {1, 3}
