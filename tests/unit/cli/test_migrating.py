"""`migrate`: what it prints, and what it says about a database that it cannot use."""

import pytest

from workers.adapters.sql.migrate import revision
from workers.cli.migrating import bring_up_schema
from workers.errors import Misconfigured


def test_the_revision_is_told_before_and_after_and_a_second_time_there_is_nothing_to_do(tmp_path, monkeypatch, capsys):
    url = f"sqlite:///{tmp_path / 'runs.sqlite3'}"
    monkeypatch.setenv("FW_DATABASE_URL", url)
    assert bring_up_schema() == 0
    newest = revision(url)
    assert newest
    assert capsys.readouterr().out == f"schema: none -> {newest}\n"
    assert bring_up_schema() == 0
    assert capsys.readouterr().out == f"schema: {newest}, nothing to do\n"


def test_without_a_database_nothing_is_made(monkeypatch):
    """In a container the default would be a file that nobody reads."""
    monkeypatch.delenv("FW_DATABASE_URL", raising=False)
    with pytest.raises(Misconfigured, match="FW_DATABASE_URL is not set"):
        bring_up_schema()


@pytest.mark.parametrize("url", ["sqlite:///{folder}", "mysql://me:hidden@nowhere/db", "no url"])
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(tmp_path, monkeypatch, url):
    monkeypatch.setenv("FW_DATABASE_URL", url.format(folder=tmp_path))
    with pytest.raises(Misconfigured, match=r"^FW_DATABASE_URL: .+") as caught:
        bring_up_schema()
    assert "hidden" not in str(caught.value)
