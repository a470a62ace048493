"""Each process with a broken environment: it ends at once, with one line for each fault and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.cluster import CELERY, ROOT, clean_environment
from workers.cli.embedded import EmbeddedValkey

SECRET = "hunter2-hunter2-hunter2"
APP = (*CELERY, "workers.app")
COMMAND = (sys.executable, "-m", "workers.cli")
HEAD = "fireworks-workers cannot start:"
BROKEN = {
    "FW_REDIS_URL": "redis://127.0.0.1:1/0",
    "FW_LEASE": "5",
    "FW_POLL_S": "often",
    "FW_BROKER_URL": f"kafka://:{SECRET}@host",
    "FW_CREDENTIALS": SECRET,
}
FAULTS = [
    "FW_LEASE: unknown setting; did you mean FW_LEASE_S?",
    "FW_BROKER_URL: must begin with redis:// or rediss:// or amqp:// or amqps://",
    'FW_CREDENTIALS: is no JSON object: write {"name": "key"}',
    "FW_POLL_S: 'often': must be a number from 0.1 to 300",
]


def run(*argv: str, **env: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        argv, env=clean_environment() | env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def refused(*argv: str, **env: str) -> list[str]:
    """Return what it says, line by line."""
    done = run(*argv, **env)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.requirement("OPS-17")
@pytest.mark.parametrize(
    "command", [("inspect", "ping"), ("flower",), ("report",), ("beat", "--pidfile="), ("worker",)]
)
def test_each_process_of_celery_says_every_fault_and_does_not_start(tmp_path: Path, command: tuple[str, ...]) -> None:
    said = refused(*APP, *command, **BROKEN, FW_STATE_DIR=str(tmp_path))
    assert said == [HEAD, *FAULTS]


@pytest.mark.requirement("OPS-17")
@pytest.mark.parametrize(
    "command",
    [("up",), ("demo",), ("doctor",), ("chat", "hello"), ("runs", "show", "ab"), ("emulator", "--port", "0")],
    ids=lambda words: words[0],
)
def test_each_command_says_every_fault_and_does_nothing(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert refused(*COMMAND, *command, **BROKEN, FW_STATE_DIR=str(tmp_path)) == FAULTS
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("OPS-17")
def test_help_is_given_whatever_is_wrong() -> None:
    assert run(*COMMAND, "chat", "--help", **BROKEN).returncode == 0


@pytest.mark.requirement("OPS-17")
def test_a_worker_looks_at_its_tools_folders_and_settings_together(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bad_tools = tmp_path / "two_of_a_name.py"
    bad_tools.write_text(
        "from workers.adapters.tools import tool\n"
        "@tool(effect='pure')\ndef same(a: 'nonsense') -> str:\n    '''Same.'''\n"
    )
    given = {
        "FW_REDIS_URL": "redis://127.0.0.1:1/0",
        "FW_TOOLS": "no_such_module,two_of_a_name,tests.acceptance.apps.worker_tools",
        "FW_STATE_DIR": str(tmp_path / "file" / "folder"),
        "FW_BATCH_FOLDER": str(tmp_path / "nowhere"),
        "PYTHONPATH": str(tmp_path),
    }
    said = refused(*APP, "worker", **given)
    assert [line.partition(":")[0] for line in said[1:]] == ["FW_TOOLS", "FW_TOOLS", "FW_STATE_DIR", "FW_BATCH_FOLDER"]
    assert "cannot import 'no_such_module'" in said[1]
    assert "tool 'same': " in said[2]
    assert "Not a directory" in said[3]


@pytest.mark.requirement("OPS-17")
def test_beat_says_what_is_wrong_with_its_settings_and_its_file_together(tmp_path: Path) -> None:
    file = tmp_path / "beat.toml"
    file.write_text('[[entry]]\nname = "a"\ncron = "x"\ntask = "t"\nqueue = "q"\n[[entry]]\nname = "b"\nevry_s = 1\n')
    said = refused(*APP, "beat", "--pidfile=", FW_REDIS_URL="redis://h", FW_BEAT_FILE=str(file), FW_POLL_S="0")
    assert said[1].startswith("FW_POLL_S: ")
    assert [line.split(": ")[2] for line in said[2:]] == ["entry 'a'", "entry 'b'"]
    # Whoever shares beat's environment, and not its file, goes on.
    assert run(*APP, "report", FW_REDIS_URL="redis://h", FW_BEAT_FILE=str(tmp_path / "none")).returncode == 0


@pytest.mark.requirement("OPS-17")
def test_the_emulator_says_what_is_wrong_with_its_options(tmp_path: Path) -> None:
    scene = tmp_path / "scene.json"
    scene.write_text('{"acts": 1}')
    assert refused(*COMMAND, "emulator", "--pace", "-1") == ["--pace: Input should be greater than or equal to 0"]
    assert refused(*COMMAND, "emulator", "--scene", "/no/scene") == ["--scene: /no/scene: No such file or directory"]
    assert refused(*COMMAND, "emulator", "--scene", str(scene))[0].startswith(f"--scene: {scene}: ")


@pytest.fixture
def evicting(tmp_path: Path, own_valkey: EmbeddedValkey) -> EmbeddedValkey:
    from redis import Redis

    with Redis.from_url(own_valkey.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    return own_valkey


@pytest.mark.requirement("OPS-17")
def test_a_redis_that_evicts_is_a_warning_and_no_fault(tmp_path: Path, evicting: EmbeddedValkey) -> None:
    given = {"FW_REDIS_URL": evicting.url, "FW_STATE_DIR": str(tmp_path), "FW_TOOLS": "no_such_module"}
    assert "evic" not in "".join(refused(*APP, "worker", **given))
    with subprocess.Popen(
        [*APP, "worker", "-Q", "nothing", "--without-gossip"],
        env=clean_environment() | given | {"FW_TOOLS": ""},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as worker:
        assert worker.stderr
        said = ""
        while "ready." not in said:
            line = worker.stderr.readline()
            assert line, said
            said += line
        worker.terminate()
        assert worker.wait(timeout=120) == 0
    assert "FW_REDIS_URL: its maxmemory-policy is allkeys-lru, which throws journals away: set noeviction" in said


POSTGRES = os.environ.get("FW_TEST_POSTGRES_URL")


@pytest.mark.requirement("OPS-17")
@pytest.mark.skipif(not POSTGRES, reason="FW_TEST_POSTGRES_URL is not set")
def test_a_database_without_our_schema_stops_a_worker_and_says_what_to_run(tmp_path: Path) -> None:
    url = f"{POSTGRES}?options=-csearch_path%3Dfw_never_migrated"
    (fault,) = refused(*APP, "worker", FW_REDIS_URL="redis://127.0.0.1:1/0", FW_DATABASE_URL=url)[1:]
    assert fault.startswith("FW_DATABASE_URL: the database has no schema, ")
    assert fault.endswith("run `fireworks-workers migrate`")
