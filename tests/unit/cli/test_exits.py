"""What programs rely on of the command line is what docs/commands.md says."""

import re
from pathlib import Path

import pytest
import typer

from workers.cli.commands import cli
from workers.cli.exits import MEANINGS, Exit

PAGE = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()

pytestmark = pytest.mark.requirement("RUN-18")


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [(str(each.value), each.name, MEANINGS[each]) for each in Exit]


def test_the_page_names_every_command_about_runs() -> None:
    rows = re.findall(r"^\| `runs (\w+)` \|", PAGE, re.MULTILINE)
    group = typer.main.get_command(cli).commands["runs"]  # type: ignore[attr-defined]
    assert sorted(rows) == sorted(group.commands)
