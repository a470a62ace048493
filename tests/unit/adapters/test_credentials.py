"""Provider keys by name: from the settings, or from files that may change while the process lives."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from workers.adapters.credentials import OWN_FILE, Credentials


def credentials(folder: Path | None, own: str = "", **named: str) -> Credentials:
    return Credentials(SecretStr(own), {name: SecretStr(key) for name, key in named.items()}, folder)


@pytest.mark.requirement("OPS-13")
def test_a_key_is_found_by_its_name_and_the_own_one_without() -> None:
    keys = credentials(None, "own", eu="eu-key")
    assert (keys(None), keys("eu"), keys.knows("eu"), keys.knows("us")) == ("own", "eu-key", True, False)
    with pytest.raises(KeyError, match="us"):
        keys("us")


@pytest.mark.requirement("OPS-13")
def test_a_file_that_changes_counts_from_the_next_request_on(tmp_path: Path) -> None:
    (tmp_path / "eu").write_text("first\n")
    keys = credentials(tmp_path)
    assert keys("eu") == "first"
    (tmp_path / "next").write_text("second\n")
    (tmp_path / "next").replace(tmp_path / "eu")
    assert keys("eu") == "second"
    (tmp_path / "eu").unlink()
    assert not keys.knows("eu")


@pytest.mark.requirement("OPS-13")
def test_a_mounted_secret_is_a_link_whose_target_changes(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "eu").write_text(version)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "eu").symlink_to("data/eu")
    keys = credentials(tmp_path)
    assert keys("eu") == "one"
    (tmp_path / "data_new").symlink_to("two")
    (tmp_path / "data_new").replace(tmp_path / "data")
    assert keys("eu") == "two"


def test_the_variable_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / OWN_FILE).write_text("from the file")
    (tmp_path / "eu").write_text("from the file")
    assert credentials(tmp_path)(None) == "from the file"
    assert credentials(tmp_path, "own", eu="given")(None) == "own"
    assert credentials(tmp_path, "own", eu="given")("eu") == "given"


@pytest.mark.requirement("OPS-13")
@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "..", ".", "", ".hidden", "a/b", "x" * 200, "n\nl", "dir"]
)
def test_a_name_leads_nowhere_but_to_a_file_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "keys"
    (folder / "dir").mkdir(parents=True)
    (folder / ".hidden").write_text("x")
    (tmp_path / "secret").write_text("x")
    keys = credentials(folder)
    assert not keys.knows(name)
    with pytest.raises(KeyError):
        keys(name)


def test_an_empty_or_unreadable_file_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    keys = credentials(tmp_path)
    assert not keys.knows("empty")
    assert not keys.knows("bytes")
    assert keys(None) == ""
