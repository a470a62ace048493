"""`fireworks-workers erase`, the command, over a real Redis and a file."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.contract.test_erasing import Place
from tests.servers import embedded_valkey
from workers.adapters.redis.connection import connect
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.migrate import migrate
from workers.cli.commands import cli
from workers.cli.erasing import whose_of
from workers.cli.exits import Exit, Stop
from workers.ports import Whose

pytestmark = [pytest.mark.long, pytest.mark.requirement("OPS-16")]


async def lived(redis_url: str, database: str, *, ended: bool) -> None:
    """Have a run of a tenant."""
    redis, archive = connect(redis_url), SqlArchive(database)
    place = Place(redis, archive)
    place.store.start()
    await (place.ended if ended else place.live)("acme", "talk-1", "secret")
    await place.store.close()
    await archive.close()
    await redis.aclose()


def test_one_command_erases_and_says_what_and_does_not_without_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{tmp_path}/runs.db"
    migrate(database)
    with embedded_valkey(tmp_path / "valkey") as valkey:
        monkeypatch.setenv("FW_REDIS_URL", valkey.url)
        monkeypatch.setenv("FW_DATABASE_URL", database)
        asyncio.run(lived(valkey.url, database, ended=True))
        command = ["erase", "--tenant", "acme", "--conversation", "talk-1"]
        refused = CliRunner().invoke(cli, command)
        assert isinstance(refused.exception, Stop)
        assert (refused.exception.code, "--yes" in str(refused.exception)) == (Exit.USAGE, True)
        done = CliRunner().invoke(cli, [*command, "--yes", "--json"])
        assert done.exit_code == Exit.DONE, done
        said = json.loads(done.stdout)
        assert (said["runs"], said["conversations"], said["alive"], said["compact"]) == (1, 1, [], True)
        again = CliRunner().invoke(cli, ["erase", "--tenant", "acme", "--yes", "--json"])
        assert json.loads(again.stdout)["runs"] == 0
        files = b"".join(file.read_bytes() for file in tmp_path.glob("runs.db*"))
        assert b"fw_commits" in files
        assert b"secret" not in files, "not in free pages either"
        asyncio.run(lived(valkey.url, database, ended=False))
        alive = CliRunner().invoke(cli, [*command, "--yes", "--wait-s", "0", "--json"])
        assert alive.exit_code == Exit.REFUSED
        assert len(json.loads(alive.stdout)["alive"]) == 1


def test_what_to_erase_must_be_said() -> None:
    assert whose_of("", "talk-1") == Whose("default", "talk-1")
    assert whose_of("acme", "") == Whose("acme")
    with pytest.raises(Stop, match="--tenant, or --conversation"):
        whose_of("", "")


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FW_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("FW_DATABASE_URL", f"sqlite:///{tmp_path}/none/runs.db")
    refused = CliRunner().invoke(cli, ["erase", "--tenant", "acme", "--yes"])
    assert isinstance(refused.exception, Stop)
    assert refused.exception.code == Exit.FAILED
    assert list(tmp_path.iterdir()) == []
