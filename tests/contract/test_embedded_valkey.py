"""The embedded Valkey: the real binary, its data through kill -9, its death with its owner, and who may find it."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis

from tests.waiting import eventually
from workers.cli.deathsig import WrongThreadError
from workers.cli.embedded import EmbeddedValkey, EmbeddedValkeyError, find_running
from workers.cli.valkeyconf import PORTS, free_ports

OWNER = """
import sys
from pathlib import Path
from workers.cli.embedded import EmbeddedValkey
server = EmbeddedValkey.start(Path(sys.argv[1]))
print(server.url, server.pid, flush=True)
sys.stdin.read()
server.stop()
"""


def is_gone(pid: int) -> bool:
    """No such process, or a zombie that only waits for its new parent to look at it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def password_of(url: str) -> str:
    return url.removeprefix("redis://:").partition("@")[0]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'a "state" folder'


@pytest.fixture
def valkey(folder):
    with EmbeddedValkey.start(folder) as server:
        yield server


@pytest.fixture
def client():
    """Opens clients and closes them."""
    opened = []

    def connect(url: str) -> redis.Redis:
        opened.append(redis.Redis.from_url(url, decode_responses=True, socket_timeout=5))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


@pytest.fixture
def owner(folder):
    """A process of its own that runs the server over the folder; gives (process, url, server's pid)."""
    command = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url, pid = process.stdout.readline().split()
        yield process, url, int(pid)
        process.kill()


class TestServer:
    def test_it_answers_behind_its_password_only_and_keeps_what_it_is_told(self, valkey, client):
        assert client(valkey.url).ping()
        with pytest.raises(redis.AuthenticationError):
            client(valkey.url.replace(password_of(valkey.url), "")).ping()
        config = client(valkey.url).config_get("*")
        expected = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
        assert {name: config[name] for name in expected} == expected
        assert (config["bind"], int(config["port"]) in PORTS) == ("127.0.0.1", True)

    def test_the_password_is_in_no_command_line_and_in_no_file_that_others_can_read(self, valkey, folder):
        command_line = Path(f"/proc/{valkey.pid}/cmdline").read_text()
        assert "valkey-server" in command_line
        assert password_of(valkey.url) not in command_line
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"valkey.conf", "embedded.json", "valkey.log"}
        assert {mode_of(path) for path in files} == {0o600}
        assert mode_of(folder) == 0o700

    def test_acknowledged_writes_survive_kill_9_and_restart_keeps_port_and_password(self, valkey, client):
        client(valkey.url).rpush("kept", *range(1000))
        url, killed = valkey.url, valkey.pid
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: not valkey.running)
        valkey.restart()
        assert valkey.url == url
        assert valkey.pid != killed
        assert client(url).llen("kept") == 1000
        assert find_running(Path(client(url).config_get("dir")["dir"])) == url

    def test_a_server_that_lives_can_be_restarted_too(self, valkey, client):
        client(valkey.url).set("kept", "yes")
        before = valkey.pid
        valkey.restart()
        assert is_gone(before)
        assert client(valkey.url).get("kept") == "yes"

    def test_stop_ends_the_server_and_leaves_only_data_and_log(self, valkey, folder):
        pid = valkey.pid
        valkey.stop()
        valkey.stop()
        assert is_gone(pid)
        assert not valkey.running
        assert {path.name for path in folder.iterdir()} == {"appendonlydir", "embedded.lock", "valkey.log"}
        with pytest.raises(EmbeddedValkeyError, match="is stopped"):
            valkey.restart()

    def test_a_later_start_finds_the_data_under_another_password(self, valkey, folder, client):
        client(valkey.url).set("kept", "yes")
        old = password_of(valkey.url)
        valkey.stop()
        with EmbeddedValkey.start(folder) as again:
            assert password_of(again.url) != old
            assert client(again.url).get("kept") == "yes"

    def test_a_port_that_someone_else_got_first_is_passed_over_without_a_word_to_him(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            [free] = free_ports(1)
            with EmbeddedValkey.start(folder, ports=[taken.getsockname()[1], free]) as server:
                assert server.url.endswith(f"@127.0.0.1:{free}/0")
            taken.setblocking(False)
            with pytest.raises(BlockingIOError):
                taken.accept()

    def test_without_any_free_port_the_start_says_which_were_tried(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(EmbeddedValkeyError, match=f"no free port on 127.0.0.1; tried {port}"):
                EmbeddedValkey.start(folder, ports=[port])
        assert not (folder / "embedded.json").exists()
        with EmbeddedValkey.start(folder):
            pass  # the failed start has freed the folder

    def test_a_server_that_refuses_to_run_is_quoted(self, folder):
        (folder / "appendonlydir").mkdir(parents=True)
        (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
        with pytest.raises(EmbeddedValkeyError, match=r"the end of .*valkey\.log:(.|\n)*manifest"):
            EmbeddedValkey.start(folder)

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(EmbeddedValkeyError, match=r"cannot use the folder .*file/below: Not a directory"):
            EmbeddedValkey.start(tmp_path / "file" / "below")

    def test_it_is_started_from_the_main_thread_only(self, folder):
        caught = []

        def attempt() -> None:
            try:
                EmbeddedValkey.start(folder)
            except WrongThreadError as error:
                caught.append(str(error))

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        assert len(caught) == 1
        with EmbeddedValkey.start(folder):
            pass  # the failed start has freed the folder


class TestOneOwner:
    def test_a_second_start_over_the_folder_is_refused_with_the_owner_named(self, valkey, folder, client):
        with pytest.raises(EmbeddedValkeyError) as caught:
            EmbeddedValkey.start(folder)
        assert f"process {os.getpid()} runs a server over it (pid {valkey.pid})" in str(caught.value)
        assert client(valkey.url).ping()

    def test_another_process_is_refused_too(self, owner, folder):
        process, _, pid = owner
        with pytest.raises(EmbeddedValkeyError, match=rf"process {process.pid} runs a server over it \(pid {pid}\)"):
            EmbeddedValkey.start(folder)

    def test_the_server_dies_with_an_owner_that_is_killed_and_the_data_stays(self, owner, folder, client):
        process, url, pid = owner
        client(url).set("kept", "yes")
        process.kill()
        eventually(lambda: is_gone(pid))
        assert find_running(folder) is None
        with EmbeddedValkey.start(folder) as again:
            assert client(again.url).get("kept") == "yes"

    def test_a_new_owner_does_not_have_to_wait_for_the_end_of_the_old_server(self, owner, folder):
        process, _, pid = owner
        process.kill()
        process.wait()
        with EmbeddedValkey.start(folder):
            assert is_gone(pid)

    def test_the_server_holds_the_lock_too_so_a_dead_owner_alone_does_not_free_the_folder(self, valkey, folder):
        held = [str(one.readlink()) for one in Path(f"/proc/{valkey.pid}/fd").iterdir()]
        assert str(folder.resolve() / "embedded.lock") in held


class TestFinding:
    def test_another_process_of_the_user_finds_it_until_it_stops(self, owner, folder):
        process, url, pid = owner
        assert find_running(folder) == url
        process.stdin.close()
        assert process.wait(timeout=120) == 0
        assert is_gone(pid)
        assert not (folder / "embedded.json").exists()
        assert find_running(folder) is None

    def test_an_empty_or_missing_folder_has_none(self, tmp_path):
        assert find_running(tmp_path) is None
        assert find_running(tmp_path / "missing") is None

    def test_a_killed_server_is_not_found_though_its_note_is_still_there(self, valkey, folder):
        os.kill(valkey.pid, signal.SIGKILL)
        eventually(lambda: not valkey.running)
        assert (folder / "embedded.json").exists()
        assert find_running(folder) is None

    @pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"pid": 1}', '{"url": "redis://", "pid": "x"}'])
    def test_a_broken_note_is_no_server(self, tmp_path, text):
        (tmp_path / "embedded.json").write_text(text)
        assert find_running(tmp_path) is None

    def test_a_note_that_leads_to_another_folder_s_server_is_not_believed(self, valkey, folder, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "embedded.json").write_text((folder / "embedded.json").read_text())
        assert find_running(folder) == valkey.url
        assert find_running(elsewhere) is None

    @pytest.mark.parametrize("change", ["password", "host", "pid"])
    def test_a_note_that_is_wrong_in_one_point_is_not_believed(self, valkey, folder, change):
        note = folder / "embedded.json"
        told = json.loads(note.read_text())
        wrong = {
            "password": {**told, "url": valkey.url.replace(password_of(valkey.url), "guess")},
            "host": {**told, "url": valkey.url.replace("127.0.0.1", "localhost")},
            "pid": {**told, "pid": 2**22 + 1},  # above the largest pid that Linux gives
        }
        note.write_text(json.dumps(wrong[change]))
        assert find_running(folder) is None

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_a_note_of_another_user_is_not_believed(self, valkey, folder):
        assert find_running(folder) == valkey.url
        os.chown(folder / "embedded.json", 12345, -1)
        assert find_running(folder) is None
